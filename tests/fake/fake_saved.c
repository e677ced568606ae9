/* Saved states: the tokens behind a word. The sampler's state is not kept. */
#include <stdio.h>

#include "fake_state.h"

static const char kMagic[8] = "FAKESAVE";

static size_t state_bytes(const pillion_context* context) {
    return sizeof kMagic + context->length * sizeof *context->tokens;
}
static void put(const pillion_context* context, char* out) {
    memcpy(out, kMagic, sizeof kMagic);
    memcpy(out + sizeof kMagic, context->tokens, context->length * sizeof *context->tokens);
}

static pillion_status take(pillion_context* context, const char* bytes, size_t n, size_t* n_run) {
    if (n < sizeof kMagic || memcmp(bytes, kMagic, sizeof kMagic) || n % sizeof(int32_t))
        return fake_error(PILLION_ERROR_FILE_CORRUPT, "this is no saved state");
    const size_t length = (n - sizeof kMagic) / sizeof(int32_t);
    if (length > context->n_ctx)
        return fake_error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    memcpy(context->tokens, bytes + sizeof kMagic, n - sizeof kMagic);
    context->length = length;
    context->n_rows = 0;
    ++context->n_changes;
    if (n_run) *n_run = 0;
    return PILLION_OK;
}

static pillion_status write_file(const char* path, const char* bytes, size_t n) {
    FILE* file = fopen(path, "wb");
    if (!file) return fake_error(PILLION_ERROR_FILE_NOT_FOUND, "cannot be written");
    const size_t written = fwrite(bytes, 1, n, file);
    return fclose(file) == 0 && written == n
               ? PILLION_OK
               : fake_error(PILLION_ERROR_FILE_CORRUPT, "writing failed");
}

pillion_status pillion_context_save(pillion_context* context, pillion_sampler* sampler,
                                    const char* path) {
    BEGIN();
    NEED(context && path);
    (void)sampler;
    ENTER(context);
    const size_t n = state_bytes(context);
    char* bytes = malloc(n);
    put(context, bytes);
    const pillion_status status = write_file(path, bytes, n);
    free(bytes);
    return fake_leave(context, status);
}

pillion_status pillion_context_load(pillion_context* context, pillion_sampler* sampler,
                                    const char* path, size_t* n_run) {
    BEGIN();
    NEED(context && path);
    (void)sampler;
    ENTER(context);
    FILE* file = fopen(path, "rb");
    if (!file)
        return fake_leave(context, fake_error(PILLION_ERROR_FILE_NOT_FOUND, "cannot open it"));
    const size_t most = sizeof kMagic + (context->n_ctx + 1) * sizeof(int32_t);
    char* bytes = malloc(most);
    const size_t n = fread(bytes, 1, most, file);
    fclose(file);
    const pillion_status status = take(context, bytes, n, n_run);
    free(bytes);
    return fake_leave(context, status);
}

pillion_status pillion_context_get_state(pillion_context* context, pillion_sampler* sampler,
                                         void* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(context);
    (void)sampler;
    ENTER(context);
    const size_t n = state_bytes(context);
    if (needed) *needed = n;
    if (capacity < n)
        return fake_leave(context,
                          fake_error(PILLION_ERROR_BUFFER_TOO_SMALL, "the buffer is too small"));
    put(context, out);
    return fake_leave(context, PILLION_OK);
}

pillion_status pillion_context_set_state(pillion_context* context, pillion_sampler* sampler,
                                         const void* state, size_t n, size_t* n_run) {
    BEGIN();
    NEED(context && state);
    (void)sampler;
    ENTER(context);
    return fake_leave(context, take(context, state, n, n_run));
}
