/* A stand-in for the library behind pillion.h, for tests of the Python layer: the whole ABI over a toy model, deterministic and
 * quick, with strings (fake_pillion.h) to make it fail, dawdle or say what a test wants.
 *
 * Model file: a text file whose first line is "fake". Each further line "key=value" is metadata; the value is JSON, or a string
 * when it begins with '"'. Keys of effect: fake.arch, fake.suppress (a token), fake.drafter (an assistant; its
 * gemma4-assistant.embedding_length_out must be 8 if it has one), fake.head ("ordered", "dense").
 * Tokenizer: bytes are tokens 0..255; 256 <bos>, 257 <eos>, 258 <turn>, 259 </turn> (ends too), 260 <image>.
 * Next token: the script's where there is one; else the letter after the last one ('z' is followed by 'a', all else by 'a').
 * Drafters know the next token, unless fake_lies() has them say '!' instead.
 */
#include "fake_pillion.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_BYTES = 256, BOS = 256, EOS = 257, TURN = 258, TURN_END = 259, IMAGE = 260, N_VOCAB = 261, N_EMBD = 8 };
static const char* const kSpecial[] = {"<bos>", "<eos>", "<turn>", "</turn>", "<image>"};

/* ---- errors and strings to pull ---- */

static _Thread_local char last_error[512];
static atomic_size_t live, evaluated, begun;
static atomic_int slow_us;
static uint32_t lies;
static char marks[1024];
static char fail_function[64], fail_sentence[256];
static int32_t fail_code;
static int32_t script[4096];
static size_t script_base, script_n;
static pillion_log_callback log_sink;
static void* log_user;

void fake_reset(void) {
    evaluated = begun = 0;
    slow_us = 0;
    lies = 0;
    marks[0] = 0;
    fail_function[0] = 0;
    script_n = 0;
}
void fake_script(size_t base, const int32_t* tokens, size_t n) {
    script_base = base;
    script_n = n < 4096 ? n : 4096;
    memcpy(script, tokens, script_n * sizeof *tokens);
}
void fake_fail(const char* function, int32_t code, const char* sentence) {
    snprintf(fail_function, sizeof fail_function, "%s", function);
    snprintf(fail_sentence, sizeof fail_sentence, "%s", sentence);
    fail_code = code;
}
void fake_slow(int32_t us) { slow_us = us; }
void fake_lies(uint32_t positions) { lies = positions; }
size_t fake_live(void) { return live; }
size_t fake_evaluated(void) { return evaluated; }
size_t fake_begun(void) { return begun; }
void fake_marks(const char* folder) { snprintf(marks, sizeof marks, "%s", folder); }

static void dawdle(const char* at) {
    ++begun;
    if (marks[0]) {
        char path[sizeof marks + 16];
        snprintf(path, sizeof path, "%s/%s", marks, at);
        FILE* mark = fopen(path, "a");
        if (mark) fclose(mark);
    }
    struct timespec pause = {slow_us / 1000000, slow_us % 1000000 * 1000L};
    if (slow_us) nanosleep(&pause, NULL);
}

static void* log_body(void* message) {
    if (log_sink) log_sink(*(int32_t*)message, (char*)message + sizeof(int32_t), log_user);
    return NULL;
}
void fake_log(int32_t level, const char* message) {
    char* packed = malloc(sizeof level + strlen(message) + 1);
    memcpy(packed, &level, sizeof level);
    strcpy(packed + sizeof level, message);
    pthread_t thread;
    pthread_create(&thread, NULL, log_body, packed);
    pthread_join(thread, NULL);
    free(packed);
}

static pillion_status error(pillion_status code, const char* sentence) {
    snprintf(last_error, sizeof last_error, "%s", sentence);
    return code;
}
static pillion_status invalid(const char* sentence) { return error(PILLION_ERROR_INVALID_ARGUMENT, sentence); }
static pillion_status begin(const char* function) {
    last_error[0] = 0;
    if (strcmp(function, fail_function) != 0) return PILLION_OK;
    fail_function[0] = 0;
    return error(fail_code, fail_sentence);
}
#define BEGIN()                                     \
    do {                                            \
        pillion_status status_ = begin(__func__);   \
        if (status_) return status_;                \
    } while (0)
#define NEED(condition)                                           \
    do {                                                          \
        if (!(condition)) return invalid("this must hold: " #condition); \
    } while (0)

/* A caller's struct of any size, copied into one of ours; refuses a surplus that is not zero. */
static int read_config(void* mine, size_t my_size, const void* theirs) {
    if (!theirs) return 1;
    uint32_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size) return 0;
    for (size_t i = my_size; i < size; ++i)
        if (((const char*)theirs)[i]) return 0;
    memcpy(mine, theirs, size < my_size ? size : my_size);
    return 1;
}
static void init_config(void* config, size_t size) {
    if (!config || size < sizeof(uint32_t)) return;
    memset(config, 0, size);
    uint32_t given = (uint32_t)size;
    memcpy(config, &given, sizeof given);
}
static void write_info(void* theirs, size_t size, void* mine, size_t my_size) {
    uint32_t filled = (uint32_t)(size < my_size ? size : my_size);
    memcpy(mine, &filled, sizeof filled);
    memcpy(theirs, mine, filled);
}
static pillion_status give(const void* data, size_t n, size_t item, void* out, size_t capacity, size_t* needed) {
    if (needed) *needed = n;
    if (n > capacity) return error(PILLION_ERROR_BUFFER_TOO_SMALL, "the buffer is too small");
    if (n) memcpy(out, data, n * item);
    return PILLION_OK;
}

/* ---- library ---- */

uint32_t pillion_abi_version(void) { return PILLION_ABI_VERSION; }
const char* pillion_version(void) { return PILLION_VERSION "+fake"; }
const char* pillion_last_error(void) { return last_error; }

pillion_status pillion_set_log(pillion_log_callback callback, void* user) {
    BEGIN();
    log_sink = callback;
    log_user = user;
    return PILLION_OK;
}

pillion_status pillion_system_json(char* out, size_t capacity, size_t* needed) {
    BEGIN();
    static const char json[] =
        "{\"cpu\": {\"table\": \"generic\", \"tables\": [\"generic\"], \"features\": [\"sse2\"], \"threads\": 1},"
        " \"backends\": [{\"name\": \"cpu\", \"available\": true, \"reason\": null},"
        " {\"name\": \"cuda\", \"available\": false, \"reason\": \"no driver was found\"}], \"memory_bytes\": 1073741824}";
    NEED(needed || out);
    return give(json, sizeof json - 1, 1, out, capacity, needed);
}

/* ---- model ---- */

typedef struct { char key[64], value[2048]; } entry;
struct pillion_tokenizer { atomic_int count; int32_t suppressed; };
struct pillion_model {
    atomic_int count;
    pillion_tokenizer* tokenizer;
    int metadata_only, is_drafter, n_entries;
    char arch[32];
    entry entries[32];
};

void pillion_model_config_init(pillion_model_config* config, size_t size) { init_config(config, size); }

static void free_tokenizer(pillion_tokenizer* tokenizer) {
    if (--tokenizer->count > 0) return;
    --live;
    free(tokenizer);
}
static void release(pillion_model* model) {
    if (--model->count > 0) return;
    --live;
    free_tokenizer(model->tokenizer);
    free(model);
}

static const char* find(const pillion_model* model, const char* key) {
    for (int i = 0; i < model->n_entries; ++i)
        if (strcmp(model->entries[i].key, key) == 0) return model->entries[i].value;
    return NULL;
}

pillion_status pillion_model_open(const char* path, const pillion_model_config* given, pillion_model** out) {
    BEGIN();
    NEED(path && out);
    pillion_model_config config = {0};
    if (!read_config(&config, sizeof config, given)) return invalid("pillion_model_config: unknown fields are not zero");
    FILE* file = fopen(path, "r");
    if (!file) {
        char sentence[400];
        snprintf(sentence, sizeof sentence, "%s: no such file", path);
        return error(PILLION_ERROR_FILE_NOT_FOUND, sentence);
    }
    char line[2200];
    if (!fgets(line, sizeof line, file) || strcmp(line, "fake\n") != 0) {
        fclose(file);
        return error(PILLION_ERROR_FILE_CORRUPT, "this is no model file: the first line is not 'fake'");
    }
    pillion_model* model = calloc(1, sizeof *model);
    model->count = 1;
    model->metadata_only = config.metadata_only;
    while (model->n_entries < 32 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char* equals = strchr(line, '=');
        if (!equals) continue;
        *equals = 0;
        entry* one = &model->entries[model->n_entries++];
        snprintf(one->key, sizeof one->key, "%.63s", line);
        snprintf(one->value, sizeof one->value, "%.2047s", equals + 1);
    }
    fclose(file);
    for (uint64_t done = 0; config.progress && done <= 100; done += 10) {
        dawdle("load");
        if (config.progress(done, 100, config.progress_user)) {
            free(model);
            return error(PILLION_ERROR_CANCELLED, "loading was cancelled");
        }
    }
    const char* arch = find(model, "fake.arch");
    snprintf(model->arch, sizeof model->arch, "%s", arch ? arch + 1 : "fake");    /* behind the quote ... */
    model->arch[strcspn(model->arch, "\"")] = 0;                                  /* ... to the other one */
    model->is_drafter = find(model, "fake.drafter") != NULL;
    model->tokenizer = calloc(1, sizeof *model->tokenizer);
    model->tokenizer->count = 1;
    const char* suppressed = find(model, "fake.suppress");
    model->tokenizer->suppressed = suppressed ? atoi(suppressed) : -1;
    live += 2;
    *out = model;
    return PILLION_OK;
}
void pillion_model_free(pillion_model* model) {
    if (model) release(model);
}

pillion_status pillion_model_get_info(const pillion_model* model, pillion_model_info* info, size_t size) {
    BEGIN();
    NEED(model && info && size >= sizeof(uint32_t));
    pillion_model_info mine = {.n_layers = 1, .n_embd = N_EMBD, .n_vocab = N_VOCAB, .n_ctx_train = 4096, .n_heads = 1,
                               .is_drafter = model->is_drafter, .n_params = 1000000, .file_bytes = 100, .weight_bytes = 200};
    snprintf(mine.arch, sizeof mine.arch, "%s", model->arch);
    write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}

static int write_metadata(const pillion_model* model, char* json) {
    int n = sprintf(json, "\"tensor_types\": {\"F32\": {\"tensors\": 1, \"params\": 25, \"bytes\": 100}}, \"metadata\": {");
    for (int i = 0; i < model->n_entries; ++i) {
        const entry* one = &model->entries[i];
        n += sprintf(json + n, "%s\"%s\": %s", i ? ", " : "", one->key, one->value[0] == '"' ? "\"...\"" : one->value);
    }
    return n + sprintf(json + n, "}}");
}

pillion_status pillion_model_json(const pillion_model* model, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && needed);
    char* json = malloc(80000);
    int n = sprintf(json, "{\"arch\": \"%s\", \"name\": \"\", \"n_layers\": 1, \"n_embd\": %d, \"n_vocab\": %d, \"n_ctx_train\": 4096,"
                    " \"window\": 0, \"softcap\": 0, \"per_layer_width\": 0, \"n_experts\": 0, \"n_experts_used\": 0, \"layers\": [],"
                    " \"warnings\": [], \"problems\": [], \"unread_keys\": [], ", model->arch, N_EMBD, N_VOCAB);
    if (model->is_drafter)
        n += sprintf(json + n, "\"drafter\": {\"target_n_embd\": %d, \"head\": \"dense\", \"head_problem\": null, \"n_centroids\": 0,"
                     " \"centroid_top_k\": 0, \"centroid_form\": null, \"reads\": {}}, ", N_EMBD);
    n += write_metadata(model, json + n);
    pillion_status status = give(json, (size_t)n, 1, out, capacity, needed);
    free(json);
    return status;
}

pillion_status pillion_file_json(const char* path, int32_t with_tensors, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(path && needed);
    const pillion_model_config config = {.struct_size = sizeof config, .metadata_only = 1};
    pillion_model* model;
    pillion_status status = pillion_model_open(path, &config, &model);
    if (status) return status;
    char* json = malloc(80000);
    int n = sprintf(json, "{\"gguf_version\": 3, \"alignment\": 32, \"file_bytes\": 100, \"architecture\": \"%s\", \"type\": null,"
                    " \"n_tensors\": 1, \"n_params\": 25, \"tensor_bytes\": 100, ", model->arch);
    if (with_tensors)
        n += sprintf(json + n, "\"tensors\": [{\"name\": \"a\", \"type\": \"F32\", \"shape\": [25], \"bytes\": 100, \"offset\": 0}], ");
    n += write_metadata(model, json + n);
    pillion_model_free(model);
    status = give(json, (size_t)n, 1, out, capacity, needed);
    free(json);
    return status;
}

pillion_status pillion_model_metadata(const pillion_model* model, const char* key, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && key && needed);
    const char* value = find(model, key);
    if (!value) return invalid("there is no such metadata key");
    size_t n = strlen(value);
    if (value[0] != '"') return give(value, n, 1, out, capacity, needed);
    char text[2048];    /* without the quotes, and \n as a line feed */
    size_t length = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
        const int escaped = value[i] == '\\' && i + 2 < n;
        text[length++] = escaped ? (value[i + 1] == 'n' ? '\n' : value[i + 1]) : value[i];
        i += escaped;
    }
    return give(text, length, 1, out, capacity, needed);
}

pillion_status pillion_model_tokenizer(pillion_model* model, pillion_tokenizer** tokenizer) {
    BEGIN();
    NEED(model && tokenizer);
    ++model->tokenizer->count;
    *tokenizer = model->tokenizer;
    return PILLION_OK;
}

/* ---- tokenizer ---- */

void pillion_tokenizer_free(pillion_tokenizer* tokenizer) {
    if (tokenizer) free_tokenizer(tokenizer);
}

pillion_status pillion_tokenizer_encode(const pillion_tokenizer* tokenizer, const char* text, size_t n, int32_t add_special,
                                        int32_t parse_special, int32_t* tokens, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && (text || !n) && needed);
    int32_t* found = malloc((n + 1) * sizeof *found);
    size_t count = 0;
    if (add_special) found[count++] = BOS;
    for (size_t i = 0; i < n;) {
        int32_t token = (unsigned char)text[i];
        size_t length = 1;
        for (int s = 0; parse_special && s < 5; ++s) {
            size_t width = strlen(kSpecial[s]);
            if (width <= n - i && memcmp(text + i, kSpecial[s], width) == 0) token = N_BYTES + s, length = width;
        }
        found[count++] = token;
        i += length;
    }
    pillion_status status = give(found, count, sizeof *found, tokens, capacity, needed);
    free(found);
    return status;
}

static size_t spell(int32_t token, int print_special, char* out) {
    if (token < N_BYTES) return out[0] = (char)token, 1;
    if (!print_special) return 0;
    const char* name = kSpecial[token - N_BYTES];
    memcpy(out, name, strlen(name));
    return strlen(name);
}
static int known(int32_t token) { return token >= 0 && token < N_VOCAB; }

pillion_status pillion_tokenizer_decode(const pillion_tokenizer* tokenizer, const int32_t* tokens, size_t n, int32_t print_special,
                                        char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && (tokens || !n) && needed);
    char* text = malloc(8 * n + 1);
    size_t length = 0;
    for (size_t i = 0; i < n; ++i) {
        if (!known(tokens[i])) return free(text), invalid("a token is not in the vocabulary of 261");
        length += spell(tokens[i], print_special, text + length);
    }
    pillion_status status = give(text, length, 1, out, capacity, needed);
    free(text);
    return status;
}

pillion_status pillion_tokenizer_token_bytes(const pillion_tokenizer* tokenizer, int32_t token, int32_t print_special, char* out,
                                             size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && needed && known(token));
    char text[16];
    return give(text, spell(token, print_special, text), 1, out, capacity, needed);
}

pillion_status pillion_tokenizer_token_text(const pillion_tokenizer* tokenizer, int32_t token, char* out, size_t capacity,
                                            size_t* needed, int32_t* type) {
    BEGIN();
    NEED(tokenizer && needed && known(token));
    char text[16];
    size_t n = token < N_BYTES ? (size_t)sprintf(text, "<0x%02X>", (unsigned)token) : spell(token, 1, text);
    pillion_status status = give(text, n, 1, out, capacity, needed);
    if (!status && type) *type = token < N_BYTES ? PILLION_TOKEN_BYTE : PILLION_TOKEN_CONTROL;
    return status;
}

pillion_status pillion_tokenizer_get_info(const pillion_tokenizer* tokenizer, pillion_tokenizer_info* info, size_t size) {
    BEGIN();
    NEED(tokenizer && info && size >= sizeof(uint32_t));
    pillion_tokenizer_info mine = {.n_tokens = N_VOCAB, .bos = BOS, .eos = EOS, .unk = -1, .pad = -1, .adds_bos = 1,
                                   .n_end = 2, .end = {EOS, TURN_END}, .model = "bytes"};
    write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}

pillion_status pillion_tokenizer_suppressed(const pillion_tokenizer* tokenizer, int32_t* tokens, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && needed);
    return give(&tokenizer->suppressed, tokenizer->suppressed >= 0, sizeof *tokens, tokens, capacity, needed);
}

/* ---- context ---- */

struct pillion_context {
    pillion_model* model;
    atomic_int count;
    atomic_flag inside;
    atomic_int cancel, running;
    size_t n_ctx, max_outputs, length, n_rows;
    int collects;
    float sums[N_EMBD], n_summed;    /* of one weight, "fake.weight", that is fed token + channel */
    unsigned n_changes;
    int32_t* tokens;
    float (*logits)[N_VOCAB];
    float (*hidden)[N_EMBD];
};

void pillion_context_config_init(pillion_context_config* config, size_t size) { init_config(config, size); }

pillion_status pillion_context_new(pillion_model* model, const pillion_context_config* given, pillion_context** out) {
    BEGIN();
    NEED(model && out);
    pillion_context_config config = {0};
    if (!read_config(&config, sizeof config, given)) return invalid("pillion_context_config: unknown fields are not zero");
    NEED(config.n_ctx >= 0 && config.n_batch >= 0 && config.n_threads >= 0 && config.n_outputs >= 0);
    if (model->is_drafter) return error(PILLION_ERROR_PAIRING, "this is a drafter: it runs only beside its target");
    if (model->metadata_only) return invalid("the model was opened without weights (metadata_only)");
    pillion_context* context = calloc(1, sizeof *context);
    context->model = model;
    context->count = 1;
    ++model->count;
    ++live;
    context->n_ctx = config.n_ctx ? (size_t)config.n_ctx : 4096;
    context->max_outputs = config.n_outputs ? (size_t)config.n_outputs : 16;
    context->collects = config.collect_activations;
    context->tokens = calloc(context->n_ctx, sizeof *context->tokens);
    context->logits = calloc(context->max_outputs, sizeof *context->logits);
    context->hidden = calloc(context->max_outputs, sizeof *context->hidden);
    atomic_flag_clear(&context->inside);
    *out = context;
    return PILLION_OK;
}
void pillion_context_free(pillion_context* context) {
    if (!context || --context->count > 0) return;
    release(context->model);
    --live;
    free(context->tokens);
    free(context->logits);
    free(context->hidden);
    free(context);
}

static pillion_status enter(const pillion_context* context) {
    if (atomic_flag_test_and_set(&((pillion_context*)context)->inside))
        return error(PILLION_ERROR_BUSY, "another thread is inside this context");
    return PILLION_OK;
}
static pillion_status leave(const pillion_context* context, pillion_status status) {
    atomic_flag_clear(&((pillion_context*)context)->inside);
    return status;
}
#define ENTER(context)                               \
    do {                                             \
        pillion_status status_ = enter(context);     \
        if (status_) return status_;                 \
    } while (0)

static int32_t next_token(size_t length, int32_t last) {
    if (length >= script_base && length - script_base < script_n) return script[length - script_base];
    return last >= 'a' && last < 'z' ? last + 1 : 'a';
}
/* The next token at 8, all others falling slowly with their distance from it. */
static void fill_row(pillion_context* context, size_t row, size_t length, int32_t last) {
    const int32_t next = next_token(length, last);
    for (int j = 0; j < N_VOCAB; ++j) context->logits[row][j] = j == next ? 8.0f : -0.01f * (float)abs(j - next);
    for (int j = 0; j < N_EMBD; ++j) context->hidden[row][j] = (float)last + (float)j;
}

static pillion_status run(pillion_context* context, const int32_t* tokens, size_t n, size_t n_outputs) {
    for (size_t i = 0; i < n; ++i)
        if (!known(tokens[i])) return invalid("a token is not in the vocabulary of 261");
    if (n > context->n_ctx - context->length) return error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    const size_t before = context->length;
    ++context->n_changes;
    context->cancel = 0;
    context->running = 1;
    context->n_rows = 0;
    for (size_t i = 0; i < n; ++i) {
        dawdle("eval");
        if (context->cancel) {
            context->running = 0;
            context->length = before;
            return error(PILLION_ERROR_CANCELLED, "the evaluation was cancelled");
        }
        context->tokens[context->length++] = tokens[i];
        ++evaluated;
        for (int j = 0; j < N_EMBD; ++j) context->sums[j] += (float)((tokens[i] + j) * (tokens[i] + j));
        context->n_summed += 1;
        if (i + n_outputs >= n) fill_row(context, i + n_outputs - n, context->length, tokens[i]);
    }
    context->running = 0;
    context->n_rows = n_outputs;
    return PILLION_OK;
}

pillion_status pillion_context_eval(pillion_context* context, const int32_t* tokens, size_t n, size_t n_outputs) {
    BEGIN();
    NEED(context && tokens && n && n_outputs <= n && n_outputs <= context->max_outputs);
    ENTER(context);
    return leave(context, run(context, tokens, n, n_outputs));
}

static pillion_status set_tokens(pillion_context* context, const int32_t* tokens, size_t n, size_t* n_reused) {
    if (n > context->n_ctx) return error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    size_t same = 0;
    while (same < context->length && same < n - 1 && context->tokens[same] == tokens[same]) ++same;
    context->length = same;
    pillion_status status = run(context, tokens + same, n - same, 1);
    if (!status && n_reused) *n_reused = same;
    return leave(context, status);
}
pillion_status pillion_context_set_tokens(pillion_context* context, const int32_t* tokens, size_t n, size_t* n_reused) {
    BEGIN();
    NEED(context && tokens && n);
    return set_tokens(context, tokens, n, n_reused);
}

pillion_status pillion_context_rewind(pillion_context* context, size_t length) {
    BEGIN();
    NEED(context);
    ENTER(context);
    if (length > context->length) return leave(context, invalid("rewind goes back only: the context is shorter"));
    context->length = length;
    context->n_rows = 0;
    ++context->n_changes;
    return leave(context, PILLION_OK);
}

pillion_status pillion_context_length(const pillion_context* context, size_t* length, size_t* n_ctx) {
    BEGIN();
    NEED(context);
    ENTER(context);
    if (length) *length = context->length;
    if (n_ctx) *n_ctx = context->n_ctx;
    return leave(context, PILLION_OK);
}

pillion_status pillion_context_tokens(const pillion_context* context, int32_t* tokens, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(context && needed);
    ENTER(context);
    return leave(context, give(context->tokens, context->length, sizeof *tokens, tokens, capacity, needed));
}

pillion_status pillion_context_logits(const pillion_context* context, size_t row, const float** logits, size_t* n) {
    BEGIN();
    NEED(context && logits && row < context->n_rows);
    *logits = context->logits[row];
    if (n) *n = N_VOCAB;
    return PILLION_OK;
}
pillion_status pillion_context_hidden(const pillion_context* context, size_t row, const float** hidden, size_t* n) {
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

pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k, int32_t* top_tokens,
                                        float* top_logprobs, int32_t token, float* token_logprob) {
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

pillion_status pillion_context_score(pillion_context* context, const int32_t* tokens, size_t n, float* logprobs) {
    BEGIN();
    NEED(context && tokens && n && (logprobs || n < 2));
    if (n > context->n_ctx) return error(PILLION_ERROR_CONTEXT_FULL, "the tokens do not fit n_ctx");
    ENTER(context);
    context->length = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
        pillion_status status = run(context, tokens + i, 1, 1);
        if (status) return leave(context, status);
        logprobs[i] = (float)(context->logits[0][tokens[i + 1]] - log_sum(context->logits[0]));
    }
    return leave(context, PILLION_OK);
}

pillion_status pillion_context_cancel(pillion_context* context) {
    BEGIN();
    NEED(context);
    if (context->running) context->cancel = 1;
    return PILLION_OK;
}

pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(context && needed);
    static const char json[] = "{\"table\": \"generic\", \"scratch_bytes\": 0, \"layers\": []}";
    return give(json, sizeof json - 1, 1, out, capacity, needed);
}

pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs, pillion_work* out, size_t size) {
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
pillion_status pillion_context_activation(const pillion_context* context, size_t i, pillion_activation_info* info, size_t size) {
    BEGIN();
    NEED(context && info && context->collects && i < 1);
    pillion_activation_info mine = {.n_in = N_EMBD, .n_experts = 1, .name = "fake.weight", .sums = context->sums,
                                    .counts = &context->n_summed};
    write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}

pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter, const pillion_context_config* given,
                                    char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && needed);
    pillion_context_config config = {0};
    if (!read_config(&config, sizeof config, given)) return invalid("pillion_context_config: unknown fields are not zero");
    if (model->is_drafter && drafter) return error(PILLION_ERROR_PAIRING, "this is a drafter: it runs only beside its target");
    const int n_ctx = config.n_ctx ? config.n_ctx : 4096, alone = model->is_drafter;
    char kv[200] = "null", other[200] = "null", json[1000];
    if (!alone)
        sprintf(kv, "{\"full\": {\"layers\": 1, \"positions\": %d, \"bytes\": %d}, \"sliding\": {\"layers\": 0, \"positions\": 0,"
                " \"bytes\": 0}, \"bytes\": %d}", n_ctx, 4 * n_ctx, 4 * n_ctx);
    if (drafter)
        sprintf(other, "{\"kind\": \"mtp\", \"head\": \"dense\", \"weights\": 200, \"mapped\": 0, \"kv_bytes\": 0, \"scratch\": 0,"
                " \"outputs\": 0, \"bytes\": 200}");
    int n = sprintf(json, "{\"n_ctx\": %d, \"n_batch\": 512, \"kv_type\": \"f16\", \"weights\": 200, \"mapped\": 0, \"kv\": %s,"
                    " \"scratch\": 0, \"outputs\": 0, \"drafter\": %s, \"total\": %d}", n_ctx, kv, other,
                    200 + (alone ? 0 : 4 * n_ctx) + (drafter ? 200 : 0));
    return give(json, (size_t)n, 1, out, capacity, needed);
}

/* One device, the host: nothing has to fit. */
void pillion_fit_config_init(pillion_fit_config* config, size_t size) { init_config(config, size); }
pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter, const pillion_context_config* context,
                                 const pillion_fit_config* given, int32_t* n_gpu_layers, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && needed);
    (void)drafter, (void)context;
    pillion_fit_config config = {0};
    if (!read_config(&config, sizeof config, given)) return invalid("pillion_fit_config: unknown fields are not zero");
    if (config.n_gpu_layers < -1) return invalid("n_gpu_layers is below -1");
    if (config.n_gpu_layers > 0) return error(PILLION_ERROR_NO_BACKEND, "n_gpu_layers asked, but there is only the cpu here");
    if (n_gpu_layers) *n_gpu_layers = 0;
    static const char json[] = "{\"device\": \"cpu\", \"is_host\": true, \"n_layers\": 1, \"device_layers\": 0, \"weights\": 0, "
                               "\"kv\": 0, \"scratch\": 0, \"total\": 0, \"available\": 0}";
    return give(json, sizeof json - 1, 1, out, capacity, needed);
}
pillion_status pillion_device_json(const char* device, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(device && needed);
    if (strcmp(device, "auto") && strcmp(device, "cpu")) return error(PILLION_ERROR_NO_BACKEND, "there is only the cpu here");
    static const char json[] = "{\"name\": \"cpu\", \"is_host\": true, \"memory\": {\"total\": 0, \"free\": 0, \"unified\": true}, "
                               "\"info\": {}}";
    return give(json, sizeof json - 1, 1, out, capacity, needed);
}

/* ---- sampler: greedy at temperature 0, else drawn; bans and presence penalty are honoured ---- */

struct pillion_sampler {
    pillion_sampler_config config;
    int32_t* bias_tokens;
    float* bias_values;
    uint64_t state;
    int32_t seen[64];
    size_t n_seen;
};

void pillion_sampler_config_init(pillion_sampler_config* config, size_t size) { init_config(config, size); }

pillion_status pillion_sampler_new(const pillion_sampler_config* given, pillion_sampler** out) {
    BEGIN();
    NEED(out);
    pillion_sampler* sampler = calloc(1, sizeof *sampler);
    if (!read_config(&sampler->config, sizeof sampler->config, given))
        return free(sampler), invalid("pillion_sampler_config: unknown fields are not zero");
    const size_t n = sampler->config.n_bias;
    sampler->bias_tokens = calloc(n + 1, sizeof(int32_t));
    sampler->bias_values = calloc(n + 1, sizeof(float));
    if (n) memcpy(sampler->bias_tokens, sampler->config.bias_tokens, n * sizeof(int32_t));
    if (n) memcpy(sampler->bias_values, sampler->config.bias_values, n * sizeof(float));
    static atomic_ullong random_seed = 12345;
    sampler->state = sampler->config.seed ? sampler->config.seed : ++random_seed;
    ++live;
    *out = sampler;
    return PILLION_OK;
}
void pillion_sampler_free(pillion_sampler* sampler) {
    if (!sampler) return;
    --live;
    free(sampler->bias_tokens);
    free(sampler->bias_values);
    free(sampler);
}

pillion_status pillion_sampler_sample(pillion_sampler* sampler, const pillion_context* context, size_t row, int32_t* token) {
    BEGIN();
    NEED(sampler && context && token && row < context->n_rows);
    float logits[N_VOCAB];
    memcpy(logits, context->logits[row], sizeof logits);
    for (size_t i = 0; i < sampler->config.n_bias; ++i) {
        NEED(known(sampler->bias_tokens[i]));
        logits[sampler->bias_tokens[i]] += sampler->bias_values[i];
    }
    char seen[N_VOCAB] = {0};
    for (size_t i = 0; i < sampler->n_seen; ++i) seen[sampler->seen[i]] = 1;
    for (int j = 0; j < N_VOCAB; ++j) logits[j] -= seen[j] ? sampler->config.presence_penalty : 0;
    if (sampler->config.temperature > 0) {
        for (int j = 0; j < N_VOCAB; ++j) {    /* the largest of logit / temperature + Gumbel noise is a draw */
            sampler->state = sampler->state * 6364136223846793005u + 1442695040888963407u;
            const double uniform = ((double)(sampler->state >> 11) + 0.5) / 9007199254740992.0;
            logits[j] = (float)(logits[j] / sampler->config.temperature - log(-log(uniform)));
        }
    }
    int best = 0;
    for (int j = 1; j < N_VOCAB; ++j)
        if (logits[j] > logits[best]) best = j;
    *token = best;
    return PILLION_OK;
}
pillion_status pillion_sampler_accept(pillion_sampler* sampler, int32_t token) {
    BEGIN();
    NEED(sampler && known(token));
    sampler->seen[sampler->n_seen++ % 64] = token;
    if (sampler->n_seen > 64) sampler->n_seen = 64;
    return PILLION_OK;
}
pillion_status pillion_sampler_reset(pillion_sampler* sampler) {
    BEGIN();
    NEED(sampler);
    sampler->n_seen = 0;
    sampler->state = sampler->config.seed;
    return PILLION_OK;
}

/* ---- pair: "auto" drafts 3 and parks after 5 rounds of which nothing was accepted ---- */

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

void pillion_pair_config_init(pillion_pair_config* config, size_t size) { init_config(config, size); }

static void clear_stats(pillion_pair* pair) {
    memset(&pair->stats, 0, sizeof pair->stats);
    pair->stats.state = PILLION_SPECULATION_ON;
    pair->stats.n_draft = AUTO;
    const char* kind = !pair->drafter ? "lookup" : pair->drafter->is_drafter && !pair->config.as_model ? "mtp" : "model";
    const char* head = pair->drafter ? find(pair->drafter, "fake.head") : NULL;
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
    if (!read_config(&config, sizeof config, given)) return invalid("pillion_pair_config: unknown fields are not zero");
    NEED(config.p_min >= 0 && config.p_min <= 1);
    if (drafter && drafter->metadata_only) return invalid("the drafter was opened without weights (metadata_only)");
    if (drafter && drafter->is_drafter && config.as_model)
        return error(PILLION_ERROR_PAIRING, "the drafter is an assistant: it cannot run as an ordinary model (as_model)");
    const char* width = drafter ? find(drafter, "gemma4-assistant.embedding_length_out") : NULL;
    if (width && atoi(width) != N_EMBD)
        return error(PILLION_ERROR_PAIRING, "the drafter is for a target of another width than 8");
    if (config.strict && drafter && find(drafter, "fake.head"))
        return error(PILLION_ERROR_PAIRING, "the drafter has its ordered head only in part (strict)");
    pillion_pair* pair = calloc(1, sizeof *pair);
    pair->config = config;
    pair->context = target;
    ++target->count;
    pair->drafter = drafter;
    if (drafter) ++drafter->count;
    clear_stats(pair);
    ++live;
    *out = pair;
    return PILLION_OK;
}
pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(pair && needed);
    static const char json[] = "{\"kind\": \"mtp\", \"head\": \"dense\", \"backend\": \"cpu\", \"plan\": [{\"op\": \"matmul\", "
                               "\"layer\": 0, \"backend\": \"cpu\", \"kernel\": \"fake\"}]}";
    return give(json, sizeof json - 1, 1, out, capacity, needed);
}
void pillion_pair_free(pillion_pair* pair) {
    if (!pair) return;
    pillion_context_free(pair->context);
    if (pair->drafter) release(pair->drafter);
    --live;
    free(pair);
}

pillion_status pillion_pair_set_tokens(pillion_pair* pair, const int32_t* tokens, size_t n, size_t* n_reused) {
    BEGIN();
    NEED(pair && tokens && n);
    return set_tokens(pair->context, tokens, n, n_reused);
}

static size_t draft(const pillion_pair* pair, int32_t last, size_t n, int32_t* drafts) {
    for (size_t i = 0; i < n; ++i) {
        last = next_token(pair->context->length + 1 + i, last);
        drafts[i] = lies >> i & 1 ? '!' : last;
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
        if (context->n_ctx == length) return error(PILLION_ERROR_CONTEXT_FULL, "the context is full");
        if (most > n_max - 1) most = n_max - 1;
        if (most > context->max_outputs - 1) most = context->max_outputs - 1;
        if (most > context->n_ctx - length - 1) most = context->n_ctx - length - 1;
        rows[0] = pair->last;
        drafted = draft(pair, pair->last, most, rows + 1);
        status = run(context, rows, drafted + 1, drafted + 1);
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
    if (count > capacity) return error(PILLION_ERROR_BUFFER_TOO_SMALL, "the buffer is too small");
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
    if (info) write_info(info, info_size, &mine, sizeof mine);
    return PILLION_OK;
}

pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft, size_t n_max, const int32_t* ends,
                                 size_t n_ends, int32_t* tokens, size_t capacity, size_t* n, pillion_round_info* info,
                                 size_t info_size) {
    BEGIN();
    NEED(pair && sampler && n_max && (ends || !n_ends) && tokens && n);
    NEED(n_draft >= PILLION_DRAFT_AUTO && n_draft <= PILLION_DRAFT_MAX);
    ENTER(pair->context);
    return leave(pair->context, step(pair, sampler, n_draft, n_max, ends, n_ends, tokens, capacity, n, info, info_size));
}

pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats, size_t size) {
    BEGIN();
    NEED(pair && stats && size >= sizeof(uint32_t));
    pillion_pair_stats mine = pair->stats;
    write_info(stats, size, &mine, sizeof mine);
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
    if (!pair->drafter || !pair->drafter->is_drafter) return invalid("only an assistant drafts by itself");
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

/* ---- quantize: not in the stand-in ---- */

void pillion_quantize_config_init(pillion_quantize_config* config, size_t size) { init_config(config, size); }
pillion_status pillion_quantization_new(const char* path, const pillion_quantize_config* config, pillion_quantization** quantization) {
    BEGIN();
    NEED(path && config && quantization);
    return invalid("the stand-in does not quantize");
}
void pillion_quantization_free(pillion_quantization* quantization) { (void)quantization; }
pillion_status pillion_quantization_count(const pillion_quantization* quantization, size_t* n, uint64_t* bytes) {
    BEGIN();
    (void)n, (void)bytes;
    NEED(quantization);
    return PILLION_OK;
}
pillion_status pillion_quantization_tensor(const pillion_quantization* quantization, size_t i, pillion_quantized_tensor* tensor, size_t size) {
    BEGIN();
    (void)i, (void)size;
    NEED(quantization && tensor);
    return PILLION_OK;
}
pillion_status pillion_quantization_run(pillion_quantization* quantization, const char* out, pillion_progress_callback progress, void* user) {
    BEGIN();
    (void)progress, (void)user;
    NEED(quantization && out);
    return PILLION_OK;
}
