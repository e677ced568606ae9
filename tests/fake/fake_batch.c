/* Batches: contexts on one machine, whose rounds and prompts run together. */
#include <stdio.h>

#include "fake_state.h"

struct pillion_batch {
    pillion_model *model, *drafter;
    int32_t kind;
    pillion_context_config context;
    pillion_pair_config pair;
    fake_machine* machine;
    pillion_batch_stats stats;
};

void pillion_batch_config_init(pillion_batch_config* config, size_t size) {
    fake_init_config(config, size);
}
void pillion_batch_entry_init(pillion_batch_entry* entry, size_t size) {
    fake_init_config(entry, size);
}

pillion_status pillion_batch_new(pillion_model* model, int32_t kind, pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_pair_config* pair,
                                 const pillion_batch_config* given, pillion_batch** out) {
    BEGIN();
    NEED(model && out);
    pillion_batch_config config = {0};
    pillion_batch made = {.model = model, .drafter = drafter, .kind = kind};
    if (!fake_read_config(&config, sizeof config, given) ||
        !fake_read_config(&made.context, sizeof made.context, context) ||
        !fake_read_config(&made.pair, sizeof made.pair, pair))
        return fake_invalid("unknown fields are not zero");
    NEED(config.n_sequences >= 0 && config.n_sequences <= 64 && config.n_positions >= 0);
    made.context.struct_size = sizeof made.context;
    made.pair.struct_size = sizeof made.pair;
    made.machine = calloc(1, sizeof *made.machine);
    made.machine->count = 1;
    made.machine->n_sequences = config.n_sequences ? config.n_sequences : 4;
    pillion_context* tried; /* what a context or a pair refuses, the batch refuses */
    pillion_pair* paired = NULL;
    pillion_status status = fake_new_context(model, &made.context, made.machine, &tried);
    if (!status) {
        status = pillion_pair_new(tried, kind, drafter, &made.pair, &paired);
        pillion_pair_free(paired);
        pillion_context_free(tried);
    }
    if (status) return fake_release_machine(made.machine), status;
    ++model->count;
    if (drafter) ++drafter->count;
    ++fake_objects;
    *out = malloc(sizeof made);
    **out = made;
    return PILLION_OK;
}
void pillion_batch_free(pillion_batch* batch) {
    if (!batch) return;
    fake_release(batch->model);
    if (batch->drafter) fake_release(batch->drafter);
    fake_release_machine(batch->machine);
    --fake_objects;
    free(batch);
}

static pillion_status enter(const pillion_batch* batch) {
    if (atomic_flag_test_and_set(&batch->machine->inside))
        return fake_error(PILLION_ERROR_BUSY, "another thread is inside this batch");
    return PILLION_OK;
}
static pillion_status leave(const pillion_batch* batch, pillion_status status) {
    atomic_flag_clear(&batch->machine->inside);
    return status;
}

pillion_status pillion_batch_context(pillion_batch* batch, pillion_context** out) {
    BEGIN();
    NEED(batch && out);
    if (batch->machine->n_live >= batch->machine->n_sequences)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "all sequences of the batch are in use");
    return fake_new_context(batch->model, &batch->context, batch->machine, out);
}
pillion_status pillion_batch_pair(pillion_batch* batch, pillion_context* context,
                                  pillion_pair** out) {
    BEGIN();
    NEED(batch && context && out && context->machine == batch->machine);
    return pillion_pair_new(context, batch->kind, batch->drafter, &batch->pair, out);
}

pillion_status pillion_context_share(pillion_context* context, pillion_context* from, size_t length,
                                     size_t* n) {
    BEGIN();
    NEED(context && from && from->machine == context->machine && length <= from->length);
    ENTER(context);
    memcpy(context->tokens, from->tokens, length * sizeof *context->tokens);
    context->length = length;
    context->n_rows = 0;
    ++context->n_changes;
    if (n) *n = length;
    return fake_leave(context, PILLION_OK);
}

static pillion_status fails(pillion_batch_entry* entry, pillion_status status) {
    entry->code = status;
    if (status) snprintf(entry->error, sizeof entry->error, "%s", pillion_last_error());
    return status;
}

pillion_status pillion_batch_draft(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    BEGIN();
    NEED(batch && (entries || !n));
    TRY(enter(batch));
    for (pillion_batch_entry* one = entries; one < entries + n; ++one) {
        size_t n_drafts = 0;
        one->n_drafts = one->has_run = one->code = 0;
        if (!one->tokens)
            fails(one, fake_pair_propose(one->pair, one->n_draft, (size_t)one->n_max, one->drafts,
                                         &n_drafts));
        one->n_drafts = (int32_t)n_drafts;
    }
    return leave(batch, PILLION_OK);
}

static pillion_status read_prompt(pillion_batch_entry* one) {
    pillion_context* context = fake_pair_context(one->pair);
    const size_t n = one->n_tokens, same = fake_common(context, one->tokens, n);
    const size_t rows = one->n_rows < n - same ? one->n_rows : n - same;
    one->n_reused = same, one->n_ran = 0, one->n_left = n - same;
    if (rows == n - same) TRY(fake_begin("pillion_pair_sync"));
    if (n > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    context->length = same;
    TRY(fake_run(context, one->tokens + same, rows, rows == n - same ? 1 : 0));
    one->n_ran = rows, one->n_left -= rows;
    if (one->n_left || !one->sampler) return PILLION_OK;
    TRY(fake_pair_propose(one->pair, 0, 1, one->drafts, &(size_t){0}));
    one->has_run = 1;
    return fake_pair_run(one->pair, NULL, 0, &(size_t){0});
}

static pillion_status run_one(pillion_batch_entry* one) {
    if (one->tokens) return read_prompt(one);
    size_t first_row = 0;
    const pillion_status status =
        fake_pair_run(one->pair, one->drafts, (size_t)one->n_drafts, &first_row);
    one->first_row = first_row;
    one->has_run = !status;
    return status;
}

pillion_status pillion_batch_run(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    BEGIN();
    NEED(batch && (entries || !n));
    TRY(enter(batch));
    size_t before[64];
    for (size_t i = 0; i < n; ++i) before[i] = fake_pair_context(entries[i].pair)->length;
    for (size_t i = 0; i < n; ++i) {
        if (entries[i].code || fails(&entries[i], run_one(&entries[i])) != PILLION_ERROR_CANCELLED)
            continue;
        for (size_t j = 0; j <= i; ++j) {
            fake_pair_abandon(entries[j].pair);
            pillion_context* context = fake_pair_context(entries[j].pair);
            if (context->length > before[j]) context->length = before[j];
        }
        return leave(batch, fake_error(PILLION_ERROR_CANCELLED, "the evaluation was cancelled"));
    }
    ++batch->stats.runs;
    batch->stats.last_entries = (int32_t)n;
    return leave(batch, PILLION_OK);
}

static pillion_status take_one(pillion_batch_entry* one) {
    pillion_choice choice = {0};
    if (!fake_read_config(&choice, sizeof choice, one->choice))
        return fake_invalid("pillion_choice: unknown fields are not zero");
    size_t count = 0;
    pillion_round_info info = {.struct_size = sizeof info};
    TRY(fake_pair_take(one->pair, choice.chosen ? NULL : one->sampler, &choice, (size_t)one->n_max,
                       one->end_tokens, one->n_end, one->out, &count, &info));
    one->n_out = (int32_t)count;
    one->drafted = info.drafted, one->accepted = info.accepted, one->ended = info.ended;
    one->forced = info.forced, one->draft_ms = info.draft_ms, one->verify_ms = info.verify_ms;
    one->has_run = 0;
    return PILLION_OK;
}

pillion_status pillion_batch_take(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    BEGIN();
    NEED(batch && (entries || !n));
    TRY(enter(batch));
    for (size_t i = 0; i < n; ++i)
        if (entries[i].has_run && !entries[i].code) fails(&entries[i], take_one(&entries[i]));
    return leave(batch, PILLION_OK);
}

pillion_status pillion_batch_abandon(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    BEGIN();
    NEED(batch && (entries || !n));
    TRY(enter(batch));
    for (size_t i = 0; i < n; ++i) fake_pair_abandon(entries[i].pair);
    return leave(batch, PILLION_OK);
}

pillion_status pillion_batch_cancel(pillion_batch* batch) {
    BEGIN();
    NEED(batch);
    if (batch->machine->running) batch->machine->cancel = 1;
    return PILLION_OK;
}

pillion_status pillion_batch_get_stats(const pillion_batch* batch, pillion_batch_stats* out,
                                       size_t size) {
    BEGIN();
    NEED(batch && out && size >= sizeof(uint32_t));
    pillion_batch_stats mine = batch->stats;
    mine.is_batched = 1, mine.n_sequences = batch->machine->n_sequences;
    fake_write_info(out, size, &mine, sizeof mine);
    return PILLION_OK;
}
pillion_status pillion_batch_json(const pillion_batch* batch, char* out, size_t capacity,
                                  size_t* needed) {
    BEGIN();
    NEED(batch && needed);
    const pillion_context_config* c = &batch->context;
    char json[300];
    const int n = snprintf(json, sizeof json,
                           "{\"batched\": true, \"why\": \"\", \"n_sequences\": %d, \"n_ctx\": %d, "
                           "\"n_batch\": %d, \"n_outputs\": %d, \"n_pages\": 0, \"page\": 256}",
                           batch->machine->n_sequences, c->n_ctx ? c->n_ctx : 4096,
                           c->n_batch ? c->n_batch : 512, c->n_outputs ? c->n_outputs : 128);
    return fake_give(json, (size_t)n, 1, out, capacity, needed);
}
