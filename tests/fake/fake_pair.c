/* Pairs and rounds. "auto" drafts 3 and pauses after 5 rounds of which nothing was accepted. */
#include <math.h>
#include <stdio.h>

#include "fake_state.h"

enum { AUTO = 3, PARK_AFTER = 5 };

struct pillion_pair {
    int32_t kind_of_drafter;
    pillion_context* context;
    pillion_model* drafter;
    pillion_pair_config config;
    pillion_pair_stats stats;
    int has_last, n_drafted;
    int32_t last, drafts[PILLION_DRAFT_MAX];
    unsigned n_changes; /* the context's, after the last step */
    /* a round between its steps */
    enum { NONE, PROPOSED, RUN } stage;
    int first;
    size_t before, n_proposed, n_run;
    unsigned n_changes_open;
    int32_t proposed[PILLION_DRAFT_MAX], rows[PILLION_DRAFT_MAX + 1];
};

void pillion_pair_config_init(pillion_pair_config* config, size_t size) {
    fake_init_config(config, size);
}

static void clear_stats(pillion_pair* pair) {
    memset(&pair->stats, 0, sizeof pair->stats);
    static const char* const kinds[] = {"", "lookup", "model", "mtp"};
    const int is_none = pair->kind_of_drafter == PILLION_DRAFTER_NONE;
    pair->stats.state = is_none ? PILLION_SPECULATION_OFF : PILLION_SPECULATION_ON;
    pair->stats.n_draft = is_none ? 0 : AUTO;
    const char* kind = kinds[pair->kind_of_drafter];
    const char* head = pair->drafter ? fake_find(pair->drafter, "fake.head") : NULL;
    snprintf(pair->stats.kind, sizeof pair->stats.kind, "%s", kind);
    const char* shown = strcmp(kind, "mtp")                                          ? ""
                        : pair->config.dense_head || (head && strstr(head, "dense")) ? "dense"
                                                                                     : "centroid";
    snprintf(pair->stats.head, sizeof pair->stats.head, "%s", shown);
    if (head && strstr(head, "dense"))
        snprintf(pair->stats.reason, sizeof pair->stats.reason,
                 "the file has no centroids, so the head is dense");
}

pillion_status pillion_pair_new(pillion_context* target, int32_t kind, pillion_model* drafter,
                                const pillion_pair_config* given, pillion_pair** out) {
    BEGIN();
    NEED(target && out);
    pillion_pair_config config = {0};
    if (!fake_read_config(&config, sizeof config, given))
        return fake_invalid("pillion_pair_config: unknown fields are not zero");
    NEED(config.p_min >= 0 && config.p_min <= 1);
    NEED(kind >= PILLION_DRAFTER_NONE && kind <= PILLION_DRAFTER_ASSISTANT);
    NEED((kind >= PILLION_DRAFTER_MODEL) == (drafter != NULL));
    if (drafter && drafter->metadata_only)
        return fake_invalid("the drafter was opened without weights (metadata_only)");
    if (drafter && drafter->is_drafter && kind != PILLION_DRAFTER_ASSISTANT)
        return fake_error(
            PILLION_ERROR_PAIRING,
            "the drafter is an assistant: it cannot run as an ordinary model (as_model)");
    const char* width =
        drafter ? fake_find(drafter, "gemma4-assistant.embedding_length_out") : NULL;
    if (width && atoi(width) != N_EMBD)
        return fake_error(PILLION_ERROR_PAIRING,
                          "the drafter is for a target of another width than 8");
    if (config.strict && drafter && fake_find(drafter, "fake.head"))
        return fake_error(PILLION_ERROR_PAIRING,
                          "the drafter has its centroid head only in part (strict)");
    pillion_pair* pair = calloc(1, sizeof *pair);
    pair->config = config;
    pair->kind_of_drafter = kind;
    pair->context = target;
    ++target->count;
    pair->drafter = drafter;
    if (drafter) ++drafter->count;
    clear_stats(pair);
    ++fake_objects;
    *out = pair;
    return PILLION_OK;
}
pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity,
                                 size_t* needed) {
    BEGIN();
    NEED(pair && needed);
    static const char json[] =
        "{\"kind\": \"mtp\", \"head\": \"dense\", \"backend\": \"cpu\", \"plan\": [{\"op\": "
        "\"matmul\", "
        "\"layer\": 0, \"backend\": \"cpu\", \"kernel\": \"fake\"}]}";
    return fake_give(json, sizeof json - 1, 1, out, capacity, needed);
}
void pillion_pair_free(pillion_pair* pair) {
    if (!pair) return;
    pillion_context_free(pair->context);
    if (pair->drafter) fake_release(pair->drafter);
    --fake_objects;
    free(pair);
}

pillion_status pillion_pair_sync(pillion_pair* pair, const int32_t* tokens, size_t n,
                                 size_t* n_reused) {
    BEGIN();
    NEED(pair && tokens && n);
    pair->stage = NONE;
    return fake_sync(pair->context, tokens, n, n_reused);
}

static size_t draft(const pillion_pair* pair, int32_t last, size_t n, int32_t* drafts) {
    for (size_t i = 0; i < n; ++i) {
        last = fake_next_token(pair->context->length + 1 + i, last);
        drafts[i] = fake_lying >> i & 1 ? '!' : last;
    }
    return n;
}

static int open_run(const pillion_pair* pair) {
    return pair->stage == RUN && pair->n_changes_open == pair->context->n_changes;
}
static int is_first(const pillion_pair* pair) {
    return !pair->has_last || pair->n_changes != pair->context->n_changes;
}

static size_t room(const pillion_pair* pair) {
    const pillion_context* context = pair->context;
    if (is_first(pair) || context->n_ctx == context->length) return 0;
    size_t most = PILLION_DRAFT_MAX;
    if (most > context->max_outputs - 1) most = context->max_outputs - 1;
    if (most > context->n_ctx - context->length - 1) most = context->n_ctx - context->length - 1;
    return most;
}

static pillion_status begin(pillion_pair* pair) {
    pair->stage = NONE;
    pair->n_proposed = pair->n_run = 0;
    pair->first = is_first(pair);
    pair->before = pair->context->length;
    pair->n_changes_open = pair->context->n_changes;
    NEED(!pair->first || pair->context->n_rows > 0);
    if (!pair->first && pair->context->n_ctx == pair->before)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the context is full");
    return PILLION_OK;
}

static pillion_status propose(pillion_pair* pair, int32_t n_draft, size_t n_max) {
    pillion_pair_stats* stats = &pair->stats;
    if (pair->kind_of_drafter == PILLION_DRAFTER_NONE) {
        n_draft = 0;
    } else if (n_draft == PILLION_DRAFT_AUTO) {
        const int paused = stats->rounds >= PARK_AFTER && !stats->accepted;
        stats->state = paused ? PILLION_SPECULATION_PAUSED : PILLION_SPECULATION_ON;
        if (paused)
            snprintf(stats->reason, sizeof stats->reason, "0 of %d drafts were accepted",
                     (int)stats->drafted);
        n_draft = stats->n_draft = paused ? 0 : AUTO;
    } else {
        stats->state = n_draft ? PILLION_SPECULATION_ON : PILLION_SPECULATION_OFF;
    }
    TRY(begin(pair));
    size_t most = (size_t)n_draft;
    if (most > n_max - 1) most = n_max - 1;
    if (most > room(pair)) most = room(pair);
    pair->n_proposed = pair->first ? 0 : draft(pair, pair->last, most, pair->proposed);
    pair->stage = PROPOSED;
    return PILLION_OK;
}

static void drop_run(pillion_pair* pair) {
    if (!pair->first)
        pair->context->length = pair->before, pair->n_changes = pair->context->n_changes;
}

static pillion_status run(pillion_pair* pair, const int32_t* drafts, size_t n) {
    NEED(!open_run(pair));
    if (pair->stage == PROPOSED && pair->n_changes_open != pair->context->n_changes)
        return pair->stage = NONE, fake_invalid("the context was changed since the proposal");
    if (pair->stage != PROPOSED) TRY(begin(pair));
    NEED(n <= room(pair));
    pair->n_run = n;
    if (!pair->first) {
        TRY(fake_begin("pillion_pair_run")); /* of a step, too */
        pair->rows[0] = pair->last;
        if (n) memcpy(pair->rows + 1, drafts, n * sizeof *drafts);
        const pillion_status status = fake_run(pair->context, pair->rows, n + 1, n + 1);
        if (status) return drop_run(pair), pair->n_changes_open = pair->context->n_changes, status;
    }
    pair->stage = RUN;
    pair->n_changes_open = pair->context->n_changes;
    return PILLION_OK;
}

/* Samples rows until one differs from its draft, ends the text, or none is left. */
static pillion_status choose(pillion_pair* pair, pillion_sampler* sampler,
                             const pillion_choice* choice, size_t n_max, const int32_t* ends,
                             size_t n_ends, int32_t* tokens, size_t* n, int* ended) {
    pillion_context* context = pair->context;
    const size_t first_row = pair->first ? context->n_rows - 1 : 0;
    for (*n = 0, *ended = 0; *n <= pair->n_run && !*ended;) {
        int32_t token;
        if (choice->chosen) {
            token = choice->chosen[*n];
        } else {
            const uint32_t* mask = choice->masks ? choice->masks + *n * N_WORDS : NULL;
            TRY(fake_sample(sampler, context, first_row + *n, mask, &token));
            TRY(pillion_sampler_accept(sampler, token));
        }
        for (size_t i = 0; i < n_ends; ++i) *ended |= ends[i] == token;
        tokens[(*n)++] = token;
        if ((*n <= pair->n_run && pair->rows[*n] != token) || *n == n_max ||
            (choice->chosen && *n == choice->n_chosen))
            break;
    }
    return PILLION_OK;
}

static pillion_status take(pillion_pair* pair, pillion_sampler* sampler,
                           const pillion_choice* choice, size_t n_max, const int32_t* ends,
                           size_t n_ends, int32_t* tokens, size_t* n, pillion_round_info* info,
                           size_t info_size) {
    pillion_context* context = pair->context;
    pillion_pair_stats* stats = &pair->stats;
    NEED(open_run(pair));
    NEED(!choice->masks || choice->n_mask_words == (pair->n_run + 1) * N_WORDS);
    int32_t chosen[PILLION_DRAFT_MAX + 1];
    size_t count = 0, kept = 0;
    int ended = 0;
    uint64_t accepted_before = 0, drawn_before = 0;
    if (sampler) TRY(pillion_sampler_mark(sampler, &accepted_before, &drawn_before));
    const pillion_status status =
        choose(pair, sampler, choice, n_max, ends, n_ends, chosen, &count, &ended);
    if (status && sampler) {
        char sentence[512];
        snprintf(sentence, sizeof sentence, "%s", pillion_last_error());
        pillion_sampler_go_back(sampler, accepted_before, drawn_before);
        return fake_error(status, sentence);
    }
    if (pair->first && context->n_rows > 1)
        memcpy(context->logits[0], context->logits[context->n_rows - 1], sizeof context->logits[0]);
    if (pair->first) context->n_rows = 1;
    else context->length = pair->before + count;
    while (kept < pair->n_proposed && kept < pair->n_run &&
           pair->proposed[kept] == pair->rows[kept + 1])
        ++kept;
    const size_t all = count - 1 + (count <= pair->n_run && chosen[count - 1] == pair->rows[count]);
    const size_t accepted = all < kept ? all : kept;
    pair->stage = NONE;
    pair->has_last = 1;
    pair->last = chosen[count - 1];
    pair->n_changes = context->n_changes;
    memcpy(tokens, chosen, count * sizeof *chosen);
    *n = count;
    stats->rounds += pair->n_proposed > 0;
    stats->tokens += count;
    stats->drafted += pair->n_proposed;
    stats->accepted += accepted;
    stats->forced += all - accepted;
    for (size_t i = 0; i < pair->n_proposed; ++i) ++stats->drafted_at[i];
    for (size_t i = 0; i < accepted; ++i) ++stats->accepted_at[i];
    stats->draft_ms += pair->n_proposed ? 0.25 : 0;
    stats->verify_ms += 0.5;
    pillion_round_info mine = {.drafted = (int32_t)pair->n_proposed,
                               .accepted = (int32_t)accepted,
                               .ended = ended,
                               .draft_ms = pair->n_proposed ? 0.25f : 0,
                               .verify_ms = 0.5f,
                               .forced = (int32_t)(all - accepted)};
    if (info) fake_write_info(info, info_size, &mine, sizeof mine);
    return PILLION_OK;
}

static void abandon(pillion_pair* pair) {
    if (open_run(pair) && !pair->first) pair->context->n_rows = 0, drop_run(pair);
    pair->stage = NONE;
}

static pillion_status step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                           size_t n_max, const int32_t* ends, size_t n_ends, int32_t* tokens,
                           size_t* n, pillion_round_info* info, size_t info_size) {
    const pillion_choice free_choice = {0};
    NEED(!open_run(pair));
    pillion_status status = propose(pair, n_draft, n_max);
    if (!status) status = run(pair, pair->proposed, pair->n_proposed);
    if (!status)
        status = take(pair, sampler, &free_choice, n_max, ends, n_ends, tokens, n, info, info_size);
    if (status) abandon(pair);
    return status;
}

pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                 size_t n_max, const int32_t* ends, size_t n_ends, int32_t* tokens,
                                 size_t capacity, size_t* n, pillion_round_info* info,
                                 size_t info_size) {
    BEGIN();
    NEED(pair && sampler && n_max && (ends || !n_ends) && tokens && capacity && n);
    NEED(n_draft >= PILLION_DRAFT_AUTO && n_draft <= PILLION_DRAFT_MAX);
    ENTER(pair->context);
    const size_t most = n_max < capacity ? n_max : capacity;
    return fake_leave(pair->context,
                      step(pair, sampler, n_draft, most, ends, n_ends, tokens, n, info, info_size));
}

pillion_status pillion_pair_room(const pillion_pair* pair, size_t* n) {
    BEGIN();
    NEED(pair && n);
    ENTER(pair->context);
    *n = room(pair);
    return fake_leave(pair->context,
                      open_run(pair) ? fake_invalid("a round was run and not taken") : PILLION_OK);
}
static pillion_status enter_propose(pillion_pair* pair, int32_t n_draft, size_t n_max,
                                    int32_t* drafts, size_t* n) {
    NEED(!open_run(pair));
    TRY(propose(pair, n_draft, n_max));
    memcpy(drafts, pair->proposed, pair->n_proposed * sizeof *drafts);
    *n = pair->n_proposed;
    return PILLION_OK;
}
pillion_status fake_pair_propose(pillion_pair* pair, int32_t n_draft, size_t n_max, int32_t* drafts,
                                 size_t* n) {
    return enter_propose(pair, n_draft, n_max, drafts, n);
}
pillion_status fake_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                             size_t* first_row) {
    TRY(run(pair, drafts, n));
    *first_row = pair->first ? pair->context->n_rows - 1 : 0;
    return PILLION_OK;
}
pillion_status fake_pair_take(pillion_pair* pair, pillion_sampler* sampler,
                              const pillion_choice* choice, size_t n_max, const int32_t* ends,
                              size_t n_ends, int32_t* tokens, size_t* n, pillion_round_info* info) {
    return take(pair, sampler, choice, n_max, ends, n_ends, tokens, n, info, sizeof *info);
}
void fake_pair_abandon(pillion_pair* pair) { abandon(pair); }
pillion_context* fake_pair_context(const pillion_pair* pair) { return pair->context; }

pillion_status pillion_pair_propose(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                    size_t n_max, int32_t* drafts, size_t capacity, size_t* n) {
    BEGIN();
    NEED(pair && sampler && n_max && drafts && capacity >= PILLION_DRAFT_MAX && n);
    NEED(n_draft >= PILLION_DRAFT_AUTO && n_draft <= PILLION_DRAFT_MAX);
    ENTER(pair->context);
    return fake_leave(pair->context, enter_propose(pair, n_draft, n_max, drafts, n));
}
pillion_status pillion_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                                size_t* first_row) {
    BEGIN();
    NEED(pair && (drafts || !n));
    ENTER(pair->context);
    const pillion_status status = run(pair, drafts, n);
    if (!status && first_row) *first_row = pair->first ? pair->context->n_rows - 1 : 0;
    return fake_leave(pair->context, status);
}
void pillion_choice_init(pillion_choice* choice, size_t size) { fake_init_config(choice, size); }
pillion_status pillion_pair_take(pillion_pair* pair, pillion_sampler* sampler, size_t n_max,
                                 const int32_t* ends, size_t n_ends, const pillion_choice* given,
                                 int32_t* tokens, size_t capacity, size_t* n,
                                 pillion_round_info* info, size_t info_size) {
    BEGIN();
    pillion_choice choice = {0};
    if (!fake_read_config(&choice, sizeof choice, given))
        return fake_invalid("pillion_choice: unknown fields are not zero");
    NEED(pair && n_max && (ends || !n_ends) && tokens && capacity && n &&
         (sampler || choice.chosen));
    NEED(!choice.chosen || choice.n_chosen > 0);
    ENTER(pair->context);
    const size_t most = n_max < capacity ? n_max : capacity;
    pillion_sampler* const used = choice.chosen ? NULL : sampler;
    return fake_leave(pair->context,
                      take(pair, used, &choice, most, ends, n_ends, tokens, n, info, info_size));
}
pillion_status pillion_pair_abandon(pillion_pair* pair, pillion_sampler* sampler) {
    BEGIN();
    NEED(pair);
    (void)sampler; /* drafts draw no random numbers here */
    ENTER(pair->context);
    abandon(pair);
    return fake_leave(pair->context, PILLION_OK);
}

pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats,
                                      size_t size) {
    BEGIN();
    NEED(pair && stats && size >= sizeof(uint32_t));
    pillion_pair_stats mine = pair->stats;
    fake_write_info(stats, size, &mine, sizeof mine);
    return PILLION_OK;
}
pillion_status pillion_pair_reset_stats(pillion_pair* pair) {
    BEGIN();
    NEED(pair);
    clear_stats(pair);
    return PILLION_OK;
}

pillion_status pillion_pair_draft(pillion_pair* pair, int32_t last, int32_t n, int32_t* tokens,
                                  size_t capacity, size_t* n_drafted) {
    BEGIN();
    NEED(pair && known(last) && n > 0 && n <= PILLION_DRAFT_MAX && tokens &&
         capacity >= (size_t)n && n_drafted);
    if (!pair->drafter || !pair->drafter->is_drafter)
        return fake_invalid("only an assistant drafts by itself");
    *n_drafted = draft(pair, last, (size_t)n, pair->drafts);
    pair->n_drafted = n;
    memcpy(tokens, pair->drafts, (size_t)n * sizeof *tokens);
    return PILLION_OK;
}
pillion_status pillion_pair_draft_row(const pillion_pair* pair, int32_t step, float* logits,
                                      float* hidden) {
    BEGIN();
    NEED(pair && step >= 0 && step < pair->n_drafted);
    for (int j = 0; logits && j < N_VOCAB; ++j)
        logits[j] = j == pair->drafts[step] ? 8.0f : -INFINITY;
    for (int j = 0; hidden && j < N_EMBD; ++j) hidden[j] = (float)(step + j);
    return PILLION_OK;
}
