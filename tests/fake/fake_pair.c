/* Pairs and rounds. "auto" drafts 3 and parks after 5 rounds of which nothing was accepted. */
#include "fake_state.h"

#include <math.h>
#include <stdio.h>

enum { AUTO = 3, PARK_AFTER = 5 };

struct pillion_pair {
    pillion_context* context;
    pillion_model* drafter;
    pillion_pair_config config;
    pillion_pair_stats stats;
    int has_last, n_drafted;
    int32_t last, drafts[PILLION_DRAFT_MAX];
    unsigned n_changes;    /* the context's, after the last step */
};

void pillion_pair_config_init(pillion_pair_config* config, size_t size) { fake_init_config(config, size); }

static void clear_stats(pillion_pair* pair) {
    memset(&pair->stats, 0, sizeof pair->stats);
    pair->stats.state = PILLION_SPECULATION_ON;
    pair->stats.n_draft = AUTO;
    const char* kind = !pair->drafter ? "lookup" : pair->drafter->is_drafter && !pair->config.as_model ? "mtp" : "model";
    const char* head = pair->drafter ? fake_find(pair->drafter, "fake.head") : NULL;
    snprintf(pair->stats.kind, sizeof pair->stats.kind, "%s", kind);
    const char* shown = strcmp(kind, "mtp") ? "" : pair->config.dense_head || (head && strstr(head, "dense")) ? "dense" : "ordered";
    snprintf(pair->stats.head, sizeof pair->stats.head, "%s", shown);
    if (head && strstr(head, "dense"))
        snprintf(pair->stats.reason, sizeof pair->stats.reason, "the file has no centroids, so the head is dense");
}

pillion_status pillion_pair_new(pillion_context* target, pillion_model* drafter, const pillion_pair_config* given,
                                pillion_pair** out) {
    BEGIN();
    NEED(target && out);
    pillion_pair_config config = {0};
    if (!fake_read_config(&config, sizeof config, given)) return fake_invalid("pillion_pair_config: unknown fields are not zero");
    NEED(config.p_min >= 0 && config.p_min <= 1);
    if (drafter && drafter->metadata_only) return fake_invalid("the drafter was opened without weights (metadata_only)");
    if (drafter && drafter->is_drafter && config.as_model)
        return fake_error(PILLION_ERROR_PAIRING, "the drafter is an assistant: it cannot run as an ordinary model (as_model)");
    const char* width = drafter ? fake_find(drafter, "gemma4-assistant.embedding_length_out") : NULL;
    if (width && atoi(width) != N_EMBD)
        return fake_error(PILLION_ERROR_PAIRING, "the drafter is for a target of another width than 8");
    if (config.strict && drafter && fake_find(drafter, "fake.head"))
        return fake_error(PILLION_ERROR_PAIRING, "the drafter has its ordered head only in part (strict)");
    pillion_pair* pair = calloc(1, sizeof *pair);
    pair->config = config;
    pair->context = target;
    ++target->count;
    pair->drafter = drafter;
    if (drafter) ++drafter->count;
    clear_stats(pair);
    ++fake_objects;
    *out = pair;
    return PILLION_OK;
}
pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(pair && needed);
    static const char json[] = "{\"kind\": \"mtp\", \"head\": \"dense\", \"backend\": \"cpu\", \"plan\": [{\"op\": \"matmul\", "
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

pillion_status pillion_pair_set_tokens(pillion_pair* pair, const int32_t* tokens, size_t n, size_t* n_reused) {
    BEGIN();
    NEED(pair && tokens && n);
    return fake_set_tokens(pair->context, tokens, n, n_reused);
}

static size_t draft(const pillion_pair* pair, int32_t last, size_t n, int32_t* drafts) {
    for (size_t i = 0; i < n; ++i) {
        last = fake_next_token(pair->context->length + 1 + i, last);
        drafts[i] = fake_lying >> i & 1 ? '!' : last;
    }
    return n;
}

/* Samples rows until one differs from its draft, ends the text, or none is left. */
static pillion_status choose(pillion_pair* pair, pillion_sampler* sampler, size_t n_drafts, const int32_t* drafts,
                             const int32_t* ends, size_t n_ends, int32_t* tokens, size_t* n, int* ended) {
    for (*n = 0, *ended = 0; *n <= n_drafts && !*ended;) {
        int32_t token;
        pillion_status status = pillion_sampler_sample(sampler, pair->context, *n, &token);
        if (!status) status = pillion_sampler_accept(sampler, token);
        if (status) return status;
        for (size_t i = 0; i < n_ends; ++i) *ended |= ends[i] == token;
        tokens[(*n)++] = token;
        if (*n <= n_drafts && drafts[*n - 1] != token) break;
    }
    return PILLION_OK;
}

static pillion_status step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft, size_t n_max, const int32_t* ends,
                           size_t n_ends, int32_t* tokens, size_t capacity, size_t* n, pillion_round_info* info, size_t info_size) {
    pillion_context* context = pair->context;
    pillion_pair_stats* stats = &pair->stats;
    if (n_draft == PILLION_DRAFT_AUTO) {
        const int parked = stats->rounds >= PARK_AFTER && !stats->accepted;
        stats->state = parked ? PILLION_SPECULATION_PARKED : PILLION_SPECULATION_ON;
        if (parked) snprintf(stats->reason, sizeof stats->reason, "0 of %d drafts were accepted", (int)stats->drafted);
        n_draft = stats->n_draft = parked ? 0 : AUTO;
    } else {
        stats->state = n_draft ? PILLION_SPECULATION_ON : PILLION_SPECULATION_OFF;
    }
    int32_t rows[PILLION_DRAFT_MAX + 1], chosen[PILLION_DRAFT_MAX + 1];
    size_t drafted = 0, length = context->length;
    pillion_status status = PILLION_OK;
    if (pair->has_last && pair->n_changes == context->n_changes) {
        size_t most = (size_t)n_draft;
        if (context->n_ctx == length) return fake_error(PILLION_ERROR_CONTEXT_FULL, "the context is full");
        if (most > n_max - 1) most = n_max - 1;
        if (most > context->max_outputs - 1) most = context->max_outputs - 1;
        if (most > context->n_ctx - length - 1) most = context->n_ctx - length - 1;
        rows[0] = pair->last;
        drafted = draft(pair, pair->last, most, rows + 1);
        status = fake_run(context, rows, drafted + 1, drafted + 1);
        pair->n_changes = context->n_changes;
    } else {
        NEED(context->n_rows > 0);
        if (context->n_rows > 1) memcpy(context->logits[0], context->logits[context->n_rows - 1], sizeof context->logits[0]);
        context->n_rows = 1;
    }
    size_t count = 0;
    int ended = 0;
    if (!status) status = choose(pair, sampler, drafted, rows + 1, ends, n_ends, chosen, &count, &ended);
    if (status) {
        if (pair->has_last && pair->n_changes == context->n_changes) context->length = length, context->n_rows = 0;
        return status;
    }
    if (count > capacity) return fake_error(PILLION_ERROR_BUFFER_TOO_SMALL, "the buffer is too small");
    const size_t accepted = count - 1 + (count <= drafted && chosen[count - 1] == rows[count]);    /* an accepted end token */
    if (pair->has_last && pair->n_changes == context->n_changes) context->length = length + count;
    pair->has_last = 1;
    pair->last = chosen[count - 1];
    pair->n_changes = context->n_changes;
    memcpy(tokens, chosen, count * sizeof *chosen);
    *n = count;
    stats->rounds += drafted > 0;
    stats->tokens += count;
    stats->drafted += drafted;
    stats->accepted += accepted;
    for (size_t i = 0; i < drafted; ++i) ++stats->drafted_at[i];
    for (size_t i = 0; i < accepted; ++i) ++stats->accepted_at[i];
    stats->draft_ms += drafted ? 0.25 : 0;
    stats->verify_ms += 0.5;
    pillion_round_info mine = {.drafted = (int32_t)drafted, .accepted = (int32_t)accepted, .ended = ended,
                               .draft_ms = drafted ? 0.25f : 0, .verify_ms = 0.5f};
    if (info) fake_write_info(info, info_size, &mine, sizeof mine);
    return PILLION_OK;
}

pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft, size_t n_max, const int32_t* ends,
                                 size_t n_ends, int32_t* tokens, size_t capacity, size_t* n, pillion_round_info* info,
                                 size_t info_size) {
    BEGIN();
    NEED(pair && sampler && n_max && (ends || !n_ends) && tokens && n);
    NEED(n_draft >= PILLION_DRAFT_AUTO && n_draft <= PILLION_DRAFT_MAX);
    ENTER(pair->context);
    return fake_leave(pair->context, step(pair, sampler, n_draft, n_max, ends, n_ends, tokens, capacity, n, info, info_size));
}

pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats, size_t size) {
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

pillion_status pillion_pair_draft(pillion_pair* pair, int32_t last, int32_t n, int32_t* tokens, size_t capacity, size_t* n_drafted) {
    BEGIN();
    NEED(pair && known(last) && n > 0 && n <= PILLION_DRAFT_MAX && tokens && capacity >= (size_t)n && n_drafted);
    if (!pair->drafter || !pair->drafter->is_drafter) return fake_invalid("only an assistant drafts by itself");
    *n_drafted = draft(pair, last, (size_t)n, pair->drafts);
    pair->n_drafted = n;
    memcpy(tokens, pair->drafts, (size_t)n * sizeof *tokens);
    return PILLION_OK;
}
pillion_status pillion_pair_draft_row(const pillion_pair* pair, int32_t step, float* logits, float* hidden) {
    BEGIN();
    NEED(pair && step >= 0 && step < pair->n_drafted);
    for (int j = 0; logits && j < N_VOCAB; ++j) logits[j] = j == pair->drafts[step] ? 8.0f : -INFINITY;
    for (int j = 0; hidden && j < N_EMBD; ++j) hidden[j] = (float)(step + j);
    return PILLION_OK;
}
