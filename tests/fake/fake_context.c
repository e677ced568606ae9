/* A context that remembers its tokens, and rows that know the next one. */
#include <math.h>

#include "fake_state.h"

void pillion_context_config_init(pillion_context_config* config, size_t size) {
    fake_init_config(config, size);
}

pillion_status pillion_context_new(pillion_model* model, const pillion_context_config* given,
                                   pillion_context** out) {
    BEGIN();
    NEED(model && out);
    return fake_new_context(model, given, NULL, out);
}
pillion_status fake_new_context(pillion_model* model, const pillion_context_config* given,
                                fake_machine* machine, pillion_context** out) {
    pillion_context_config config = {0};
    if (!fake_read_config(&config, sizeof config, given))
        return fake_invalid("pillion_context_config: unknown fields are not zero");
    NEED(config.n_ctx >= 0 && config.n_batch >= 0 && config.n_threads >= 0 &&
         config.n_outputs >= 0);
    NEED(config.n_snapshots >= -1 && config.n_snapshots <= 256);
    if (model->is_drafter)
        return fake_error(PILLION_ERROR_PAIRING,
                          "this is a drafter: it runs only beside its target");
    if (model->metadata_only)
        return fake_invalid("the model was opened without weights (metadata_only)");
    pillion_context* context = calloc(1, sizeof *context);
    context->model = model;
    context->count = 1;
    ++model->count;
    ++fake_objects;
    context->n_ctx = config.n_ctx ? (size_t)config.n_ctx : 4096;
    context->max_outputs = config.n_outputs ? (size_t)config.n_outputs : 16;
    context->collects = config.collect_activations;
    context->tokens = calloc(context->n_ctx, sizeof *context->tokens);
    context->logits = calloc(context->max_outputs, sizeof *context->logits);
    context->hidden = calloc(context->max_outputs, sizeof *context->hidden);
    context->machine = machine ? machine : calloc(1, sizeof *machine);
    ++context->machine->count;
    ++context->machine->n_live;
    *out = context;
    return PILLION_OK;
}
void fake_release_machine(fake_machine* machine) {
    if (--machine->count == 0) free(machine);
}
void pillion_context_free(pillion_context* context) {
    if (!context || --context->count > 0) return;
    fake_release(context->model);
    --context->machine->n_live;
    fake_release_machine(context->machine);
    --fake_objects;
    free(context->tokens);
    free(context->logits);
    free(context->hidden);
    free(context);
}

pillion_status fake_enter(const pillion_context* context) {
    if (atomic_flag_test_and_set(&context->machine->inside))
        return fake_error(PILLION_ERROR_BUSY, "another thread is inside this context");
    return PILLION_OK;
}
pillion_status fake_leave(const pillion_context* context, pillion_status status) {
    atomic_flag_clear(&context->machine->inside);
    return status;
}

/* The next token at 8, all others falling slowly with their distance from it. */
static void fill_row(pillion_context* context, size_t row, size_t length, int32_t last) {
    const int32_t next = fake_next_token(length, last);
    for (int j = 0; j < N_VOCAB; ++j)
        context->logits[row][j] = j == next ? 8.0f : -0.01f * (float)abs(j - next);
    for (int j = 0; j < N_EMBD; ++j) context->hidden[row][j] = (float)last + (float)j;
}

pillion_status fake_run(pillion_context* context, const int32_t* tokens, size_t n,
                        size_t n_outputs) {
    for (size_t i = 0; i < n; ++i)
        if (!known(tokens[i])) return fake_invalid("a token is not in the vocabulary of 261");
    if (n > context->n_ctx - context->length)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    const size_t before = context->length;
    ++context->n_changes;
    context->machine->cancel = 0;
    context->machine->running = 1;
    context->n_rows = 0;
    for (size_t i = 0; i < n; ++i) {
        fake_dawdle("eval");
        if (context->machine->cancel) {
            context->machine->running = 0;
            context->length = before;
            return fake_error(PILLION_ERROR_CANCELLED, "the evaluation was cancelled");
        }
        context->tokens[context->length++] = tokens[i];
        ++fake_tokens_run;
        for (int j = 0; j < N_EMBD; ++j)
            context->sums[j] += (float)((tokens[i] + j) * (tokens[i] + j));
        context->n_summed += 1;
        if (i + n_outputs >= n) fill_row(context, i + n_outputs - n, context->length, tokens[i]);
    }
    context->machine->running = 0;
    context->n_rows = n_outputs;
    return PILLION_OK;
}

pillion_status pillion_context_eval(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_outputs) {
    BEGIN();
    NEED(context && tokens && n && n_outputs <= n && n_outputs <= context->max_outputs);
    ENTER(context);
    return fake_leave(context, fake_run(context, tokens, n, n_outputs));
}

size_t fake_common(const pillion_context* context, const int32_t* tokens, size_t n) {
    size_t same = 0;
    while (same < context->length && same + 1 < n && context->tokens[same] == tokens[same]) ++same;
    return same;
}

pillion_status fake_sync(pillion_context* context, const int32_t* tokens, size_t n,
                         size_t* n_reused) {
    if (n > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    const size_t same = fake_common(context, tokens, n);
    context->length = same;
    pillion_status status = fake_run(context, tokens + same, n - same, 1);
    if (!status && n_reused) *n_reused = same;
    return fake_leave(context, status);
}
pillion_status pillion_context_sync(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t* n_reused) {
    BEGIN();
    NEED(context && tokens && n);
    return fake_sync(context, tokens, n, n_reused);
}

pillion_status pillion_context_read(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_rows, size_t* n_reused) {
    BEGIN();
    NEED(context && tokens && n);
    for (size_t i = 0; i < n; ++i)
        if (!known(tokens[i])) return fake_invalid("a token is not in the vocabulary of 261");
    if (n > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    const size_t same = fake_common(context, tokens, n);
    const size_t rows = n_rows < n - 1 - same ? n_rows : n - 1 - same;
    context->length = same;
    context->n_rows = 0;
    pillion_status status = rows ? fake_run(context, tokens + same, rows, 0) : PILLION_OK;
    if (!status && n_reused) *n_reused = same;
    return fake_leave(context, status);
}

pillion_status pillion_context_match(const pillion_context* context, const int32_t* tokens,
                                     size_t n, size_t* n_common, size_t* n_usable) {
    BEGIN();
    NEED(context && (tokens || !n));
    ENTER(context);
    const size_t same = fake_common(context, tokens, n);
    if (n_common) *n_common = same;
    if (n_usable) *n_usable = same;
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_rewind(pillion_context* context, size_t length) {
    BEGIN();
    NEED(context);
    ENTER(context);
    if (length > context->length)
        return fake_leave(context, fake_invalid("rewind goes back only: the context is shorter"));
    context->length = length;
    context->n_rows = 0;
    ++context->n_changes;
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_length(const pillion_context* context, size_t* length,
                                      size_t* n_ctx) {
    BEGIN();
    NEED(context);
    ENTER(context);
    if (length) *length = context->length;
    if (n_ctx) *n_ctx = context->n_ctx;
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_tokens(const pillion_context* context, int32_t* tokens,
                                      size_t capacity, size_t* needed) {
    BEGIN();
    NEED(context && needed);
    ENTER(context);
    return fake_leave(context, fake_give(context->tokens, context->length, sizeof *tokens, tokens,
                                         capacity, needed));
}

pillion_status pillion_context_logits(const pillion_context* context, size_t row,
                                      const float** logits, size_t* n) {
    BEGIN();
    NEED(context && logits && row < context->n_rows);
    *logits = context->logits[row];
    if (n) *n = N_VOCAB;
    return PILLION_OK;
}
pillion_status pillion_context_hidden(const pillion_context* context, size_t row,
                                      const float** hidden, size_t* n) {
    BEGIN();
    NEED(context && hidden && row < context->n_rows);
    *hidden = context->hidden[row];
    if (n) *n = N_EMBD;
    return PILLION_OK;
}

static double log_sum(const float* logits) {
    double sum = 0;
    for (int j = 0; j < N_VOCAB; ++j) sum += exp(logits[j]);
    return log(sum);
}

pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k,
                                        int32_t* top_tokens, float* top_logprobs, int32_t token,
                                        float* token_logprob) {
    BEGIN();
    NEED(context && row < context->n_rows && k <= N_VOCAB && token < N_VOCAB);
    const float* logits = context->logits[row];
    const double total = log_sum(logits);
    char taken[N_VOCAB] = {0};
    for (size_t i = 0; i < k; ++i) {
        int best = -1;
        for (int j = 0; j < N_VOCAB; ++j)
            if (!taken[j] && (best < 0 || logits[j] > logits[best])) best = j;
        taken[best] = 1;
        if (top_tokens) top_tokens[i] = best;
        if (top_logprobs) top_logprobs[i] = (float)(logits[best] - total);
    }
    if (token >= 0 && token_logprob) *token_logprob = (float)(logits[token] - total);
    return PILLION_OK;
}

pillion_status pillion_context_score(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* logprobs) {
    BEGIN();
    NEED(context && tokens && n && (logprobs || n < 2));
    if (n > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    context->length = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
        pillion_status status = fake_run(context, tokens + i, 1, 1);
        if (status) return fake_leave(context, status);
        logprobs[i] = (float)(context->logits[0][tokens[i + 1]] - log_sum(context->logits[0]));
    }
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_embed(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* mean, size_t n_embd) {
    BEGIN();
    NEED(context && tokens && n && mean && n_embd == N_EMBD);
    if (n > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    context->length = 0;
    double sum[N_EMBD] = {0};
    for (size_t i = 0; i < n; ++i) {
        pillion_status status = fake_run(context, tokens + i, 1, 1);
        context->n_rows = 0;
        if (status) return fake_leave(context, status);
        for (int j = 0; j < N_EMBD; ++j) sum[j] += context->hidden[0][j];
    }
    for (int j = 0; j < N_EMBD; ++j) mean[j] = (float)(sum[j] / (double)n);
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_cancel(pillion_context* context) {
    BEGIN();
    NEED(context);
    if (context->machine->running) context->machine->cancel = 1;
    return PILLION_OK;
}

pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity,
                                    size_t* needed) {
    BEGIN();
    NEED(context && needed);
    static const char json[] = "{\"table\": \"generic\", \"scratch_bytes\": 0, \"layers\": []}";
    return fake_give(json, sizeof json - 1, 1, out, capacity, needed);
}

pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs,
                                    pillion_work* out, size_t size) {
    BEGIN();
    NEED(context && out && n && n_outputs <= n && n <= context->n_ctx - context->length);
    const pillion_work work = {sizeof work, 100.0 * n, 50.0, 2.0 * n};
    memcpy(out, &work, size < sizeof work ? size : sizeof work);
    return PILLION_OK;
}

pillion_status pillion_context_limits(pillion_context* context, pillion_limits* out, size_t size) {
    BEGIN();
    NEED(context && out);
    const pillion_limits limits = {sizeof limits, 1e9, 1e10};
    memcpy(out, &limits, size < sizeof limits ? size : sizeof limits);
    return PILLION_OK;
}

pillion_status pillion_context_activation_count(const pillion_context* context, size_t* n) {
    BEGIN();
    NEED(context && n && context->collects);
    *n = 1;
    return PILLION_OK;
}
pillion_status pillion_context_activation(const pillion_context* context, size_t i,
                                          pillion_activation_info* info, size_t size) {
    BEGIN();
    NEED(context && info && context->collects && i < 1);
    pillion_activation_info mine = {.n_in = N_EMBD,
                                    .n_experts = 1,
                                    .name = "fake.weight",
                                    .sums = context->sums,
                                    .counts = &context->n_summed};
    fake_write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}
