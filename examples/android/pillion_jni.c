// The natives of pillion.Pillion. Every failure is a RuntimeException with pillion's own sentence.
#include <jni.h>
#include <stdlib.h>
#include <string.h>

#include "pillion.h"

struct text {
    pillion_model *model, *drafter;
    pillion_tokenizer* tokenizer;
    pillion_context* context;
    pillion_pair* pair;
    pillion_sampler* sampler;
    pillion_tokenizer_info info;
    int is_ended;
};

static int failed(JNIEnv* env, pillion_status status) {
    if (status == PILLION_OK) return 0;
    jclass type = (*env)->FindClass(env, "java/lang/RuntimeException");
    if (type) (*env)->ThrowNew(env, type, pillion_last_error());
    return 1;
}

static void no_memory(JNIEnv* env) {
    jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");
    if (type) (*env)->ThrowNew(env, type, "pillion: no memory");
}

// With a zero byte behind; NULL for null and for no memory.
static char* copy_bytes(JNIEnv* env, jbyteArray array, jsize* n) {
    if (!array) return NULL;
    *n = (*env)->GetArrayLength(env, array);
    char* bytes = malloc((size_t)*n + 1);
    if (!bytes) return NULL;
    (*env)->GetByteArrayRegion(env, array, 0, *n, (jbyte*)bytes);
    bytes[*n] = 0;
    return bytes;
}

static void free_text(struct text* t) {  // the context outlives its pair, the models both
    if (!t) return;
    pillion_pair_free(t->pair);
    pillion_sampler_free(t->sampler);
    pillion_context_free(t->context);
    pillion_tokenizer_free(t->tokenizer);
    pillion_model_free(t->drafter);
    pillion_model_free(t->model);
    free(t);
}

static int open_model(JNIEnv* env, const char* path, const char* device, int threads,
                      pillion_model** model) {
    pillion_model_config config;
    pillion_model_config_init(&config, sizeof config);
    config.device = device, config.n_threads = threads;
    return failed(env, pillion_model_open(path, &config, model));
}

// Without a drafter's file: prompt lookup.
static int open_pair(JNIEnv* env, struct text* t) {
    pillion_model_info drafter = {0};
    if (t->drafter && failed(env, pillion_model_get_info(t->drafter, &drafter, sizeof drafter)))
        return 1;
    const int32_t kind = !t->drafter          ? PILLION_DRAFTER_LOOKUP
                         : drafter.is_drafter ? PILLION_DRAFTER_ASSISTANT
                                              : PILLION_DRAFTER_MODEL;
    return failed(env, pillion_pair_new(t->context, kind, t->drafter, NULL, &t->pair));
}

static int open_text(JNIEnv* env, struct text* t, const char* model, const char* drafter,
                     const char* device, jint n_ctx, jint threads) {
    pillion_context_config context;
    pillion_sampler_config sampler;
    pillion_context_config_init(&context, sizeof context);
    pillion_sampler_config_init(
        &sampler, sizeof sampler);  // greedy; set temperature, top_k, top_p for another
    context.n_ctx = n_ctx, context.n_threads = threads;
    return open_model(env, model, device, threads, &t->model) ||
           (drafter &&
            open_model(env, drafter, pillion_draft_device(device, "auto"), threads, &t->drafter)) ||
           failed(env, pillion_model_tokenizer(t->model, &t->tokenizer)) ||
           failed(env, pillion_tokenizer_get_info(t->tokenizer, &t->info, sizeof t->info)) ||
           failed(env, pillion_context_new(t->model, &context, &t->context)) || open_pair(env, t) ||
           failed(env, pillion_sampler_new(&sampler, &t->sampler));
}

JNIEXPORT jlong JNICALL Java_pillion_Pillion_open(JNIEnv* env, jclass type, jbyteArray model,
                                                  jbyteArray drafter, jbyteArray device, jint n_ctx,
                                                  jint threads) {
    jsize n = 0;
    char *m = copy_bytes(env, model, &n), *d = copy_bytes(env, drafter, &n),
         *where = copy_bytes(env, device, &n);
    struct text* t = calloc(1, sizeof *t);
    (void)type;
    const int is_short = !t || !m || !where || (drafter && !d);
    if (is_short) no_memory(env);
    if (is_short || open_text(env, t, m, d, where, n_ctx, threads)) free_text(t), t = NULL;
    free(m), free(d), free(where);
    return (jlong)(intptr_t)t;
}

JNIEXPORT void JNICALL Java_pillion_Pillion_prompt(JNIEnv* env, jclass type, jlong handle,
                                                   jbyteArray text) {
    struct text* t = (struct text*)(intptr_t)handle;
    jsize n = 0;
    char* bytes = copy_bytes(env, text, &n);
    const size_t most =
        (size_t)n + 2;  // no token is shorter than a byte, but for those put around the text
    int32_t* tokens = malloc(most * sizeof *tokens);
    size_t n_tokens = 0;
    (void)type;
    if (!bytes || !tokens) no_memory(env);
    else if (!failed(env, pillion_tokenizer_encode(t->tokenizer, bytes, (size_t)n, 1, 1, tokens,
                                                   most, &n_tokens)) &&
             !failed(env, pillion_pair_sync(t->pair, tokens, n_tokens, NULL)))
        t->is_ended = 0;
    free(bytes), free(tokens);
}

JNIEXPORT jbyteArray JNICALL Java_pillion_Pillion_step(JNIEnv* env, jclass type, jlong handle) {
    struct text* t = (struct text*)(intptr_t)handle;
    int32_t tokens[PILLION_DRAFT_MAX + 1];
    char bytes[4096];
    size_t n = 0, at = 0, length = 0, n_ctx = 0;
    pillion_round_info round;
    (void)type;
    if (t->is_ended || failed(env, pillion_context_length(t->context, &length, &n_ctx)) ||
        length > n_ctx - 1)
        return NULL;
    const size_t n_end = (size_t)(t->info.n_end < 16 ? t->info.n_end : 16);
    if (failed(env, pillion_pair_step(t->pair, t->sampler, PILLION_DRAFT_AUTO, n_ctx - length,
                                      t->info.end, n_end, tokens, PILLION_DRAFT_MAX + 1, &n, &round,
                                      sizeof round)))
        return NULL;
    t->is_ended = round.ended;
    for (size_t i = 0; i < n - (round.ended ? 1 : 0); i++) {
        size_t size = 0;
        if (failed(env, pillion_tokenizer_token_bytes(t->tokenizer, tokens[i], 0, bytes + at,
                                                      sizeof bytes - at, &size)))
            return NULL;
        at += size;
    }
    if (at == 0 && round.ended) return NULL;
    jbyteArray out = (*env)->NewByteArray(env, (jsize)at);
    if (out) (*env)->SetByteArrayRegion(env, out, 0, (jsize)at, (const jbyte*)bytes);
    return out;
}

JNIEXPORT void JNICALL Java_pillion_Pillion_cancel(JNIEnv* env, jclass type, jlong handle) {
    (void)env, (void)type;
    if (handle) (void)pillion_context_cancel(((struct text*)(intptr_t)handle)->context);
}

JNIEXPORT void JNICALL Java_pillion_Pillion_close(JNIEnv* env, jclass type, jlong handle) {
    (void)env, (void)type;
    free_text((struct text*)(intptr_t)handle);
}
