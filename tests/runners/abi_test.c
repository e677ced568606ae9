/* Tests the C ABI from a C11 program: sizes, structs of other versions, wrong calls of every
 * function, and one right path. Usage: abi_test MODEL. Prints each failed check; the exit code is 1
 * if one failed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pillion.h"

/* Fields are only ever appended: these sizes may grow at the end and never shrink (64-bit systems).
 */
_Static_assert(sizeof(pillion_status) == 4, "pillion_status");
_Static_assert(sizeof(void*) != 8 || sizeof(pillion_model_config) == 48, "pillion_model_config");
_Static_assert(sizeof(void*) != 8 || sizeof(pillion_fit_config) == 40, "pillion_fit_config");
_Static_assert(sizeof(pillion_model_info) == 96, "pillion_model_info");
_Static_assert(sizeof(pillion_tokenizer_info) == 120, "pillion_tokenizer_info");
_Static_assert(sizeof(pillion_context_config) == 40, "pillion_context_config");
_Static_assert(sizeof(void*) != 8 || sizeof(pillion_activation_info) == 40,
               "pillion_activation_info");
_Static_assert(sizeof(void*) != 8 || sizeof(pillion_sampler_config) == 72,
               "pillion_sampler_config");
_Static_assert(sizeof(pillion_round_info) == 32, "pillion_round_info");
_Static_assert(sizeof(void*) != 8 || sizeof(pillion_choice) == 40, "pillion_choice");

static int n_checks, n_failed;

#define CHECK(condition)                                                               \
    do {                                                                               \
        ++n_checks;                                                                    \
        if (!(condition)) {                                                            \
            ++n_failed;                                                                \
            printf("%s:%d: %s (last error: \"%s\")\n", __FILE__, __LINE__, #condition, \
                   pillion_last_error());                                              \
        }                                                                              \
    } while (0)
#define OK(call) CHECK((call) == PILLION_OK)
/* The call is refused with this code and a sentence. */
#define REFUSED(code, call)                      \
    do {                                         \
        CHECK((call) == (code));                 \
        CHECK(strlen(pillion_last_error()) > 0); \
    } while (0)
#define INVALID(call) REFUSED(PILLION_ERROR_INVALID_ARGUMENT, call)

/* ---- structs of other versions ---- */

/* A config as a later version may have it: ours, and a field we do not know. */
#define LATER(type, name) \
    struct {              \
        type known;       \
        uint64_t unknown; \
    } name = {{0}, 0}

static void model_configs(const char* path) {
    pillion_model* model = NULL;

    OK(pillion_model_open(path, NULL, &model)); /* no config at all: the defaults */
    pillion_model_free(model);

    uint32_t oldest = sizeof oldest; /* a config of its size field alone */
    model = NULL;
    OK(pillion_model_open(path, (const pillion_model_config*)&oldest, &model));
    pillion_model_free(model);

    LATER(pillion_model_config, later);
    pillion_model_config_init(&later.known, sizeof later);
    CHECK(later.known.struct_size == sizeof later);
    model = NULL;
    OK(pillion_model_open(path, &later.known, &model));
    pillion_model_free(model);

    later.unknown = 1;
    model = NULL;
    INVALID(pillion_model_open(path, &later.known, &model));
    CHECK(model == NULL);

    pillion_model_config config;
    memset(&config, 0xAA, sizeof config);
    pillion_model_config_init(&config, sizeof config);
    CHECK(config.struct_size == sizeof config && config.n_threads == 0 && config.progress == NULL);
    CHECK(config.n_gpu_layers == -1); /* the one default that is not zero */
    memset(&config, 0, sizeof config);
    INVALID(pillion_model_open(path, &config, &model)); /* init was not called */
    config.struct_size = 2;                             /* not even the size field fits */
    INVALID(pillion_model_open(path, &config, &model));

    memset(&config, 0xAA, sizeof config);
    pillion_model_config_init(
        &config, sizeof config.struct_size); /* init writes no further than it was told */
    CHECK(((unsigned char*)&config)[sizeof config.struct_size] == 0xAA);

    CHECK(!strcmp(pillion_draft_device("cuda:1", "auto"), "cuda:1"));
    CHECK(!strcmp(pillion_draft_device("htp:sim", NULL), "cpu"));
    CHECK(!strcmp(pillion_draft_device("htp", "htp"), "htp"));
    CHECK(!strcmp(pillion_draft_device(NULL, NULL), "auto"));

    pillion_model_config_init(NULL, 0);
    pillion_fit_config_init(NULL, 0);
    pillion_context_config_init(NULL, 0);
    pillion_sampler_config_init(NULL, 0);
}

static void result_structs(pillion_model* model, pillion_tokenizer* tokenizer) {
    struct {
        pillion_model_info info;
        unsigned char guard[8];
    } box;
    memset(&box, 0xAA, sizeof box);
    OK(pillion_model_get_info(model, &box.info, sizeof box.info));
    CHECK(box.info.n_vocab > 0 && box.info.n_embd > 0 && strlen(box.info.arch) > 0);
    CHECK(box.guard[0] == 0xAA);

    const size_t old_size = 2 * sizeof(uint32_t); /* struct_size and n_layers: an old caller */
    memset(&box, 0xAA, sizeof box);
    OK(pillion_model_get_info(model, &box.info, old_size));
    CHECK(box.info.n_layers > 0);
    CHECK(((unsigned char*)&box.info)[old_size] == 0xAA);

    INVALID(pillion_model_get_info(model, NULL, sizeof box.info));
    INVALID(pillion_model_get_info(NULL, &box.info, sizeof box.info));

    pillion_tokenizer_info about;
    memset(&about, 0xAA, sizeof about);
    OK(pillion_tokenizer_get_info(tokenizer, &about, sizeof about));
    CHECK(about.n_tokens > 0 && about.n_end >= 1 && about.n_end <= 16);
    INVALID(pillion_tokenizer_get_info(tokenizer, NULL, sizeof about));
    INVALID(pillion_tokenizer_get_info(NULL, &about, sizeof about));
}

/* ---- every function, called wrongly ---- */

static void library(void) {
    CHECK(pillion_abi_version() == PILLION_ABI_VERSION);
    CHECK(strncmp(pillion_version(), PILLION_VERSION, strlen(PILLION_VERSION)) == 0);
    OK(pillion_set_log(NULL, NULL));
    CHECK(strcmp(pillion_last_error(), "") == 0);

    size_t needed = 0;
    char small[2];
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL, pillion_system_json(small, sizeof small, &needed));
    CHECK(needed > sizeof small);
    char* text = malloc(needed);
    OK(pillion_system_json(text, needed, &needed));
    CHECK(text[0] == '{' && text[needed - 1] == '}');
    free(text);
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL, pillion_system_json(NULL, 0, &needed));
}

static void wrong_models(const char* path) {
    pillion_model* model = NULL;
    INVALID(pillion_model_open(NULL, NULL, &model));
    INVALID(pillion_model_open(path, NULL, NULL));
    REFUSED(PILLION_ERROR_FILE_NOT_FOUND, pillion_model_open("/nowhere/none.gguf", NULL, &model));
    REFUSED(PILLION_ERROR_FILE_CORRUPT, pillion_model_open(__FILE__, NULL, &model));
    CHECK(model == NULL);

    size_t needed;
    char text[64];
    pillion_tokenizer* tokenizer = NULL;
    INVALID(pillion_model_json(NULL, text, sizeof text, &needed));
    INVALID(pillion_file_json(NULL, 0, text, sizeof text, &needed));
    REFUSED(PILLION_ERROR_FILE_NOT_FOUND,
            pillion_file_json("/nowhere/none.gguf", 0, text, sizeof text, &needed));
    REFUSED(PILLION_ERROR_FILE_CORRUPT, pillion_file_json(__FILE__, 1, text, sizeof text, &needed));
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL, pillion_file_json(path, 0, text, sizeof text, &needed));
    CHECK(needed > sizeof text);
    INVALID(pillion_model_memory(NULL, NULL, NULL, text, sizeof text, &needed));
    INVALID(pillion_model_fit(NULL, NULL, NULL, NULL, NULL, text, sizeof text, &needed));
    INVALID(pillion_device_json(NULL, text, sizeof text, &needed));
    REFUSED(PILLION_ERROR_NO_BACKEND, pillion_device_json("toaster", text, sizeof text, &needed));
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL, pillion_device_json("cpu", text, 1, &needed));
    INVALID(pillion_pair_json(NULL, text, sizeof text, &needed));
    INVALID(pillion_model_metadata(NULL, "general.name", text, sizeof text, &needed));
    INVALID(pillion_model_tokenizer(NULL, &tokenizer));
    pillion_model_free(NULL);
    pillion_tokenizer_free(NULL);
    pillion_context_free(NULL);
    pillion_sampler_free(NULL);
}

static void wrong_tokenizers(pillion_model* model, pillion_tokenizer* tokenizer) {
    size_t needed;
    char text[64];
    int32_t tokens[64], type;
    INVALID(pillion_model_tokenizer(model, NULL));
    INVALID(pillion_model_metadata(model, NULL, text, sizeof text, &needed));
    INVALID(pillion_model_metadata(model, "no.such.key", text, sizeof text, &needed));

    INVALID(pillion_tokenizer_encode(NULL, "a", 1, 0, 0, tokens, 64, &needed));
    INVALID(pillion_tokenizer_encode(tokenizer, NULL, 1, 0, 0, tokens, 64, &needed));
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL,
            pillion_tokenizer_encode(tokenizer, "a b c", 5, 0, 0, tokens, 0, &needed));
    CHECK(needed >= 1);
    INVALID(pillion_tokenizer_decode(NULL, tokens, 1, 0, text, sizeof text, &needed));
    INVALID(pillion_tokenizer_decode(tokenizer, NULL, 1, 0, text, sizeof text, &needed));
    const int32_t wrong[] = {-1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 3; ++i) {
        INVALID(pillion_tokenizer_decode(tokenizer, &wrong[i], 1, 0, text, sizeof text, &needed));
        INVALID(pillion_tokenizer_token_bytes(tokenizer, wrong[i], 0, text, sizeof text, &needed));
        INVALID(
            pillion_tokenizer_token_text(tokenizer, wrong[i], text, sizeof text, &needed, &type));
    }
    INVALID(pillion_tokenizer_token_bytes(NULL, 0, 0, text, sizeof text, &needed));
    INVALID(pillion_tokenizer_token_text(NULL, 0, text, sizeof text, &needed, &type));
    INVALID(pillion_tokenizer_suppressed(NULL, tokens, 64, &needed));
    OK(pillion_tokenizer_token_text(tokenizer, 0, text, sizeof text, &needed, NULL));

    OK(pillion_tokenizer_encode(tokenizer, "", 0, 0, 0, tokens, 64, &needed));
    CHECK(needed == 0);
    OK(pillion_tokenizer_decode(tokenizer, tokens, 0, 0, text, sizeof text, &needed));
    CHECK(needed == 0);
}

static void wrong_contexts(pillion_model* model) {
    pillion_context* context = NULL;
    INVALID(pillion_context_new(NULL, NULL, &context));
    INVALID(pillion_context_new(model, NULL, NULL));
    pillion_context_config config;
    pillion_context_config_init(&config, sizeof config);
    config.n_ctx = -1;
    INVALID(pillion_context_new(model, &config, &context));
    config.n_ctx = 8;
    config.n_snapshots = -2;
    INVALID(pillion_context_new(model, &config, &context));
    config.n_snapshots = 257;
    INVALID(pillion_context_new(model, &config, &context));
    LATER(pillion_context_config, later);
    pillion_context_config_init(&later.known, sizeof later);
    later.unknown = 1;
    INVALID(pillion_context_new(model, &later.known, &context));
    CHECK(context == NULL);
    size_t size;
    INVALID(pillion_model_memory(model, NULL, &later.known, NULL, 0, &size));
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL,
            pillion_model_memory(model, NULL, NULL, NULL, 0, &size));
    CHECK(size > 100);

    char fit[400];
    int32_t layers = 7;
    OK(pillion_model_fit(model, NULL, NULL, NULL, &layers, fit, sizeof fit,
                         &size)); /* on the CPU nothing has to fit */
    CHECK(layers == 0);
    LATER(pillion_fit_config, later_fit);
    pillion_fit_config_init(&later_fit.known, sizeof later_fit);
    later_fit.known.device = "cpu";
    CHECK(later_fit.known.n_gpu_layers == -1);
    OK(pillion_model_fit(model, NULL, NULL, &later_fit.known, NULL, fit, sizeof fit, &size));
    later_fit.known.n_gpu_layers = -2;
    INVALID(pillion_model_fit(model, NULL, NULL, &later_fit.known, NULL, fit, sizeof fit, &size));
    later_fit.known.n_gpu_layers = 3;
    REFUSED(PILLION_ERROR_NO_BACKEND,
            pillion_model_fit(model, NULL, NULL, &later_fit.known, NULL, fit, sizeof fit, &size));

    size_t length, n_ctx, n;
    char text[8];
    int32_t token = 5;
    float value;
    const float* row;
    INVALID(pillion_context_eval(NULL, &token, 1, 1));
    INVALID(pillion_context_sync(NULL, &token, 1, &n));
    INVALID(pillion_context_read(NULL, &token, 1, 1, &n));
    INVALID(pillion_context_match(NULL, &token, 1, &n, &n));
    INVALID(pillion_context_rewind(NULL, 0));
    INVALID(pillion_context_length(NULL, &length, &n_ctx));
    INVALID(pillion_context_tokens(NULL, &token, 1, &n));
    INVALID(pillion_context_logits(NULL, 0, &row, &n));
    INVALID(pillion_context_hidden(NULL, 0, &row, &n));
    INVALID(pillion_context_logprobs(NULL, 0, 0, NULL, NULL, 5, &value));
    INVALID(pillion_context_score(NULL, &token, 1, &value));
    INVALID(pillion_context_embed(NULL, &token, 1, &value, 1));
    INVALID(pillion_context_cancel(NULL));
    INVALID(pillion_context_json(NULL, text, sizeof text, &n));
    pillion_quantization* quantization = NULL;
    pillion_quantize_config q;
    pillion_quantized_tensor tensor;
    INVALID(pillion_quantization_new(NULL, NULL, &quantization));
    pillion_quantize_config_init(&q, sizeof q);
    INVALID(pillion_quantization_new("x.gguf", &q, NULL));
    INVALID(pillion_quantization_count(NULL, &n, NULL));
    INVALID(pillion_quantization_tensor(NULL, 0, &tensor, sizeof tensor));
    INVALID(pillion_quantization_run(NULL, "x", NULL, NULL));
    pillion_quantization_free(NULL);
    INVALID(pillion_join(NULL, "x", NULL, NULL));
    INVALID(pillion_join("x.gguf", NULL, NULL, NULL));
    INVALID(pillion_split(NULL, "x", 1, 1, &n, NULL, NULL));
    INVALID(pillion_split("x.gguf", NULL, 1, 1, &n, NULL, NULL));
    pillion_work work;
    pillion_limits limits;
    INVALID(pillion_context_work(NULL, 1, 1, &work, sizeof work));
    INVALID(pillion_context_limits(NULL, &limits, sizeof limits));

    pillion_context_config_init(&config, sizeof config);
    config.n_ctx = 8;
    config.n_outputs = 2;
    OK(pillion_context_new(model, &config, &context));
    INVALID(pillion_context_eval(context, NULL, 1, 1));
    INVALID(pillion_context_eval(context, &token, 1, 2)); /* more outputs than tokens */
    const int32_t three[] = {5, 6, 7}, nine[9] = {5, 5, 5, 5, 5, 5, 5, 5, 5}, wrong[] = {5, -1};
    INVALID(pillion_context_eval(context, three, 3,
                                 3)); /* more outputs than the context was made for */
    INVALID(pillion_context_eval(context, wrong, 2, 1));
    REFUSED(PILLION_ERROR_CONTEXT_FULL, pillion_context_eval(context, nine, 9, 1));
    REFUSED(PILLION_ERROR_CONTEXT_FULL, pillion_context_sync(context, nine, 9, &n));
    INVALID(pillion_context_sync(context, NULL, 1, &n));
    REFUSED(PILLION_ERROR_CONTEXT_FULL, pillion_context_read(context, nine, 9, 4, &n));
    INVALID(pillion_context_read(context, NULL, 1, 1, &n));
    INVALID(pillion_context_read(context, wrong, 2, 1, &n));
    INVALID(pillion_context_match(context, NULL, 1, &n, NULL));
    INVALID(pillion_context_rewind(context, 1));           /* longer than it is */
    INVALID(pillion_context_logits(context, 0, &row, &n)); /* no run yet */
    INVALID(pillion_context_hidden(context, 0, &row, &n));
    INVALID(pillion_context_logprobs(context, 0, 0, NULL, NULL, 5, &value));
    INVALID(pillion_context_logits(context, 0, NULL, &n));
    INVALID(pillion_context_score(context, NULL, 2, &value));
    INVALID(pillion_context_embed(context, NULL, 1, &value, 1));
    INVALID(pillion_context_embed(context, &token, 1, NULL, 1));
    INVALID(pillion_context_embed(context, &token, 1, &value, 1)); /* no hidden row of 1 */
    INVALID(pillion_context_work(context, 1, 1, NULL, sizeof work));
    INVALID(pillion_context_work(context, 9, 1, &work, sizeof work)); /* beyond n_ctx */
    INVALID(pillion_context_work(context, 1, 2, &work, sizeof work));
    OK(pillion_context_length(context, &length, &n_ctx));
    CHECK(length == 0 && n_ctx == 8); /* nothing above ran */
    OK(pillion_context_cancel(context));
    pillion_activation_info activation;
    INVALID(pillion_context_activation_count(context, &n)); /* it does not collect */
    INVALID(pillion_context_activation(context, 0, &activation, sizeof activation));
    INVALID(pillion_context_activation_count(NULL, &n));
    INVALID(pillion_context_activation(NULL, 0, &activation, sizeof activation));
    pillion_context_free(context);
}

/* The mean of the hidden rows, which are read one by one here. */
static void embedding(pillion_context* context, const int32_t* tokens, size_t n) {
    static float mean[8192];
    static double sum[8192];
    const float* row;
    size_t width = 0, length = 9;
    memset(sum, 0, sizeof sum);
    OK(pillion_context_rewind(context, 0));
    for (size_t i = 0; i < n; i++) {
        OK(pillion_context_eval(context, tokens + i, 1, 1));
        OK(pillion_context_hidden(context, 0, &row, &width));
        CHECK(width <= 8192);
        for (size_t j = 0; j < width; j++) sum[j] += (double)row[j];
    }
    INVALID(pillion_context_embed(context, tokens, 0, mean, width));
    INVALID(pillion_context_embed(context, tokens, n, mean, width + 1));
    OK(pillion_context_length(context, &length, NULL));
    CHECK(length == n); /* nothing was run, nothing was dropped */
    OK(pillion_context_embed(context, tokens, n, mean, width));
    for (size_t j = 0; j < width; j++) CHECK(mean[j] == (float)(sum[j] / (double)n));
    OK(pillion_context_length(context, &length, NULL));
    CHECK(length == n);
    INVALID(pillion_context_hidden(context, 0, &row, &width)); /* no outputs */
}

static void collecting(pillion_model* model) {
    pillion_context* context = NULL;
    pillion_context_config config;
    pillion_context_config_init(&config, sizeof config);
    config.n_ctx = 8;
    config.collect_activations = 1;
    OK(pillion_context_new(model, &config, &context));
    const int32_t two[] = {5, 6};
    OK(pillion_context_eval(context, two, 2, 2));
    size_t n = 0;
    OK(pillion_context_activation_count(context, &n));
    CHECK(n > 0);
    struct {
        pillion_activation_info info;
        unsigned char guard[8];
    } box;
    memset(&box, 0xAA, sizeof box);
    OK(pillion_context_activation(context, n - 1, &box.info, sizeof box.info));
    CHECK(box.guard[0] == 0xAA && strlen(box.info.name) > 0 && box.info.n_in > 0 &&
          box.info.n_experts == 1);
    CHECK(box.info.counts[0] == 2 && box.info.sums[0] > 0);
    INVALID(pillion_context_activation_count(context, NULL));
    INVALID(pillion_context_activation(context, n, &box.info, sizeof box.info));
    INVALID(pillion_context_activation(context, 0, NULL, sizeof box.info));
    pillion_context_free(context);
}

static void wrong_samplers(void) {
    pillion_sampler* sampler = NULL;
    int32_t token;
    INVALID(pillion_sampler_new(NULL, NULL));
    LATER(pillion_sampler_config, later);
    pillion_sampler_config_init(&later.known, sizeof later);
    later.unknown = 1;
    INVALID(pillion_sampler_new(&later.known, &sampler));
    INVALID(pillion_sampler_sample(NULL, NULL, 0, &token));
    INVALID(pillion_sampler_accept(NULL, 5));
    INVALID(pillion_sampler_reset(NULL));
    OK(pillion_sampler_new(NULL, &sampler));
    INVALID(pillion_sampler_sample(sampler, NULL, 0, &token));
    INVALID(pillion_sampler_accept(sampler, -1));
    const uint32_t mask = 1;
    const float row[2] = {0, 1};
    uint64_t accepted, drawn;
    INVALID(pillion_sampler_sample_masked(NULL, NULL, 0, &mask, 1, &token));
    INVALID(pillion_sampler_sample_masked(sampler, NULL, 0, &mask, 1, &token));
    INVALID(pillion_sampler_sample_logits(NULL, row, 2, NULL, 0, &token));
    INVALID(pillion_sampler_sample_logits(sampler, NULL, 2, NULL, 0, &token));
    INVALID(pillion_sampler_sample_logits(sampler, row, 0, NULL, 0, &token));
    INVALID(pillion_sampler_sample_logits(sampler, row, 2, NULL, 0, NULL));
    INVALID(pillion_sampler_sample_logits(sampler, row, 2, &mask, 2, &token));
    INVALID(pillion_sampler_mark(NULL, &accepted, &drawn));
    INVALID(pillion_sampler_mark(sampler, NULL, &drawn));
    INVALID(pillion_sampler_go_back(NULL, 0, 0));
    INVALID(pillion_sampler_go_back(sampler, 1, 0));
    pillion_sampler_free(sampler);
}

/* ---- the right path ---- */

#include "abi_rounds.h"

static int log_lines;
static void count_lines(int32_t level, const char* message, void* user) {
    (void)level, (void)message;
    ++*(int*)user;
}

static void run(const char* path) {
    OK(pillion_set_log(count_lines, &log_lines));
    pillion_model* model = NULL;
    pillion_context* context = NULL;
    pillion_sampler* sampler = NULL;
    OK(pillion_model_open(path, NULL, &model));
    OK(pillion_context_new(model, NULL, &context));
    pillion_model_free(model); /* the context keeps what it needs */

    const int32_t prompt[] = {5, 6, 7};
    int32_t token = -1, again = -1, held[8];
    size_t n = 0, length = 0;
    const float* logits = NULL;
    OK(pillion_context_eval(context, prompt, 3, 2));
    OK(pillion_context_logits(context, 1, &logits, &n));
    CHECK(logits != NULL && n > 0);
    INVALID(pillion_context_logits(context, 2, &logits, &n));
    OK(pillion_sampler_new(NULL, &sampler)); /* the defaults: greedy */
    OK(pillion_sampler_sample(sampler, context, 1, &token));
    OK(pillion_sampler_accept(sampler, token));
    OK(pillion_sampler_reset(sampler));

    OK(pillion_context_rewind(context, 2));
    INVALID(pillion_context_logits(context, 0, &logits, &n)); /* outputs went with the rewind */
    OK(pillion_context_sync(context, prompt, 3, &n));
    CHECK(n == 2);
    size_t usable = 9;
    OK(pillion_context_match(context, prompt, 3, &n, &usable));
    CHECK(n == 2 && usable == 2);
    OK(pillion_context_match(context, prompt, 0, &n, NULL));
    CHECK(n == 0);
    OK(pillion_context_rewind(context, 0));
    OK(pillion_context_read(context, prompt, 3, 1, &n));
    CHECK(n == 0);
    OK(pillion_context_read(context, prompt, 3, 9, &n));
    CHECK(n == 1);
    OK(pillion_context_length(context, &n, NULL));
    CHECK(n == 2); /* never the last one */
    INVALID(pillion_context_logits(context, 0, &logits, &n));
    OK(pillion_context_sync(context, prompt, 3, &n));
    CHECK(n == 2);
    OK(pillion_sampler_sample(sampler, context, 0, &again));
    CHECK(again == token);

    float best[2], own;
    int32_t ids[2];
    OK(pillion_context_logprobs(context, 0, 2, ids, best, token, &own));
    CHECK(ids[0] == token && best[0] == own && best[0] >= best[1] && own <= 0);
    OK(pillion_context_tokens(context, held, 8, &n));
    CHECK(n == 3 && memcmp(held, prompt, sizeof prompt) == 0);
    REFUSED(PILLION_ERROR_BUFFER_TOO_SMALL, pillion_context_tokens(context, held, 2, &n));
    CHECK(n == 3);
    OK(pillion_context_length(context, &length, NULL));
    CHECK(length == 3);

    float scores[2];
    OK(pillion_context_score(context, prompt, 3, scores));
    CHECK(scores[0] < 0 && scores[1] < 0);
    embedding(context, prompt, 3);
    pillion_sampler_free(sampler);
    pillion_context_free(context);
    OK(pillion_set_log(NULL, NULL));
}

int main(int argc, char** argv) {
    if (argc != 2) return fprintf(stderr, "usage: abi_test MODEL\n"), 2;
    library();
    wrong_models(argv[1]);
    model_configs(argv[1]);

    pillion_model* model = NULL;
    pillion_tokenizer* tokenizer = NULL;
    OK(pillion_model_open(argv[1], NULL, &model));
    OK(pillion_model_tokenizer(model, &tokenizer));
    result_structs(model, tokenizer);
    wrong_tokenizers(model, tokenizer);
    wrong_contexts(model);
    collecting(model);
    wrong_samplers();
    run_rounds(model);
    pillion_model_free(model);
    pillion_tokenizer_free(tokenizer); /* in any order */

    run(argv[1]);
    printf("abi_test: %d checks, %d failed\n", n_checks, n_failed);
    return n_failed != 0;
}
