/* pillion: Gemma 4 and its MTP drafter from GGUF files. The C ABI and the only public header.
 *
 * The simplest complete program reads a prompt and writes 64 tokens, the most likely one each time:
 *
 *     #include <pillion.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     int main(int argc, char** argv) {
 *         pillion_model* model = NULL;
 *         pillion_tokenizer* tokenizer = NULL;
 *         pillion_context* context = NULL;
 *         pillion_sampler* sampler = NULL;
 *         int32_t tokens[256], token;
 *         char text[64];
 *         size_t n;
 *         if (argc != 3 ||
 *             pillion_model_open(argv[1], NULL, &model) ||
 *             pillion_model_tokenizer(model, &tokenizer) ||
 *             pillion_context_new(model, NULL, &context) ||
 *             pillion_sampler_new(NULL, &sampler) ||
 *             pillion_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), 1, 1, tokens, 256,
 *                                      &n) ||
 *             pillion_context_eval(context, tokens, n, 1))
 *             return fprintf(stderr, "%s\n", pillion_last_error()), 1;
 *         for (int i = 0; i < 64; ++i) {
 *             if (pillion_sampler_sample(sampler, context, 0, &token) ||
 *                 pillion_tokenizer_token_bytes(tokenizer, token, 0, text, sizeof text, &n) ||
 *                 pillion_context_eval(context, &token, 1, 1))
 *                 return fprintf(stderr, "%s\n", pillion_last_error()), 1;
 *             fwrite(text, 1, n, stdout);
 *         }
 *         pillion_sampler_free(sampler);
 *         pillion_context_free(context);
 *         pillion_tokenizer_free(tokenizer);
 *         pillion_model_free(model);
 *         return 0;
 *     }
 *
 * A pair (pillion_pair_new) writes the same text with a drafter, faster. docs/c_abi.md shows the
 * other calls.
 *
 * Contract
 *  - Every function that can fail returns a pillion_status; 0 is success. On failure
 *    pillion_last_error() holds one sentence for the calling thread until its next pillion call.
 *    Results go through out-pointers, which the library writes only on success, but for `needed`.
 *  - A config struct begins with struct_size. pillion_<x>_config_init(&cfg, sizeof cfg) fills in
 *    the defaults: call it first, then change what you want. The library refuses a struct of zeros,
 *    whose struct_size nobody set. A field of value zero means "default", with one exception:
 *    n_gpu_layers, whose default is -1 and whose 0 means no layer. A NULL config means all
 *    defaults. The library reads at most struct_size bytes. It refuses a larger struct whose
 *    surplus is not zero. New versions only append fields.
 *  - A struct that the library fills in (pillion_<x>_info, _stats and the like) is passed with its
 *    size. The caller sets nothing. The library writes at most that many bytes and reports in
 *    struct_size how many it wrote: a field behind them is untouched.
 *  - Text is UTF-8. Prompts, and texts that the library writes into a caller's buffer, have an
 *    explicit length and no closing NUL; names, paths and fields of structs end with NUL. A
 *    function with `needed` takes the buffer's capacity and always reports the needed size (NULL:
 *    not asked). With too small a buffer it returns PILLION_ERROR_BUFFER_TOO_SMALL and writes
 *    nothing else; a NULL buffer of capacity 0 asks for the size. A round returns at most its
 *    capacity of tokens.
 *  - The library counts references: a model may be freed while a context uses it, and free(NULL)
 *    does nothing. A context with its pairs, a sampler and a quantization each serve one caller at
 *    a time; a second concurrent call gets PILLION_ERROR_BUSY. Different contexts may run in
 *    parallel. Models and tokenizers are immutable and threads may share them. Any thread may call
 *    pillion_context_cancel.
 *  - After a fork() the child may use and free what its parent opened. A CPU context starts its own
 *    threads at the child's first run. A handle gives PILLION_ERROR_CLOSED in the child if another
 *    thread was inside it at the fork(). A call that uses the device of its parent gives
 *    PILLION_ERROR_DEVICE_LOST, and freeing such an object does nothing. Opening a device whose
 *    driver the parent uses gives PILLION_ERROR_NO_BACKEND. The library does not notice _fork() and
 *    clone().
 *  - The library never prints, never aborts and never touches a signal. It reads PILLION_CPU_ISA
 *    (forces a kernel table). Its Hexagon module reads PILLION_HTP_SIM (command line of the
 *    simulator behind device "htp:sim"), PILLION_HTP_DRIVER (a file to load in place of
 *    libcdsprpc.so), PILLION_HTP_TIMEOUT (seconds that a run may take; 60), PILLION_HTP_SPACE (MB
 *    that a session may map, for tests), and Qualcomm's ADSP_LIBRARY_PATH and DSP_LIBRARY_PATH
 *    (docs/hexagon.md).
 *  - After a failed or cancelled call a context stays usable, at the length that it reports; not
 *    after PILLION_ERROR_DEVICE_LOST or PILLION_ERROR_CLOSED. */
#ifndef PILLION_H
#define PILLION_H

#include <stddef.h>
#include <stdint.h>

#define PILLION_VERSION "0.1.0"
#define PILLION_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* CDEF BEGIN (python/pillion/_cdef.py cuts the declarations for cffi from here to CDEF END) */

typedef int32_t pillion_status;
enum {
    PILLION_OK = 0,
    /* usage */
    PILLION_ERROR_INVALID_ARGUMENT = 1,
    PILLION_ERROR_BUSY = 2,   /* another thread is inside this handle */
    PILLION_ERROR_CLOSED = 3, /* another thread was inside this handle at a fork() */
    PILLION_ERROR_BUFFER_TOO_SMALL = 4,
    PILLION_ERROR_CONTEXT_FULL = 5, /* the tokens do not fit n_ctx */
    /* file */
    PILLION_ERROR_FILE_NOT_FOUND = 10,
    PILLION_ERROR_FILE_CORRUPT = 11,
    PILLION_ERROR_UNSUPPORTED_MODEL = 12,
    PILLION_ERROR_PAIRING = 13, /* a drafter without its target, or with the wrong one */
    /* machine */
    PILLION_ERROR_NO_BACKEND = 20,
    PILLION_ERROR_UNSUPPORTED_OP = 21,
    PILLION_ERROR_OUT_OF_MEMORY = 22,
    PILLION_ERROR_DEVICE_LOST = 23,
    /* other */
    PILLION_ERROR_CANCELLED = 30,
    PILLION_ERROR_INTERNAL = 31
};

enum { PILLION_KV_F16 = 1, PILLION_KV_Q8_0 = 2 }; /* 0: F16 */
enum { PILLION_FLASH_AUTO = 0, PILLION_FLASH_ON = 1, PILLION_FLASH_OFF = 2 };
enum {
    PILLION_LOG_DEBUG = 10,
    PILLION_LOG_INFO = 20,
    PILLION_LOG_WARNING = 30,
    PILLION_LOG_ERROR = 40
};
enum {
    PILLION_TOKEN_NORMAL = 1,
    PILLION_TOKEN_UNKNOWN = 2,
    PILLION_TOKEN_CONTROL = 3,
    PILLION_TOKEN_USER_DEFINED = 4,
    PILLION_TOKEN_UNUSED = 5,
    PILLION_TOKEN_BYTE = 6
};

typedef struct pillion_model pillion_model;
typedef struct pillion_tokenizer pillion_tokenizer;
typedef struct pillion_context pillion_context;
typedef struct pillion_sampler pillion_sampler;

/* ---- library ---- */

uint32_t pillion_abi_version(void);
const char* pillion_version(void);
const char* pillion_last_error(void); /* never NULL; "" after success */

typedef void (*pillion_log_callback)(int32_t level, const char* message, void* user);
/* Sets the receiver of log messages. callback NULL (the default): the library logs nothing. */
pillion_status pillion_set_log(pillion_log_callback callback, void* user);

/* Describes the machine as JSON: {"version", "cpu": {"table", "tables": [...], "features": [...],
 * "threads", "threads_from"}, "backends": [{"name", "available", "info" or "reason"}],
 * "memory_bytes"}. Fails if PILLION_CPU_ISA names a table that this machine cannot run, as every
 * use of the CPU does then. */
pillion_status pillion_system_json(char* out, size_t capacity, size_t* needed);

/* ---- model ---- */

/* Returns 0 to continue; any other value cancels the work. done runs from 0 to total, in bytes. */
typedef int32_t (*pillion_progress_callback)(uint64_t done, uint64_t total, void* user);

typedef struct {
    uint32_t struct_size;
    int32_t no_mmap;       /* 1: read the file into memory instead of mapping it */
    int32_t metadata_only; /* 1: no weights; tokenizer and descriptions work, contexts do not */
    int32_t n_threads;     /* threads that repack weights; 0: all cores this process may use */
    /* "cpu", "cuda", "cuda:1", "htp", or "auto": the best device present. NULL: "auto" */
    const char* device;
    pillion_progress_callback progress;
    void* progress_user;
    /* layers on the device, from the last one down; the others stay on the CPU. -1, the default: as
     * many as fit (beside a context of default size; pillion_model_fit counts for others); 0: none;
     * more than the model has: all. An assistant lies on the device as a whole. NO_BACKEND if above
     * 0 and the device is the CPU */
    int32_t n_gpu_layers;
} pillion_model_config;

void pillion_model_config_init(pillion_model_config* config, size_t size);
pillion_status pillion_model_open(const char* path, const pillion_model_config* config,
                                  pillion_model** model);
void pillion_model_free(pillion_model* model);
/* Where to open a drafter whose target runs on `device`: `asked`; where that is "auto" or NULL,
 * `device`, but "cpu" for a target on the Hexagon NPU. Returns one of the two or a constant, never
 * NULL. */
const char* pillion_draft_device(const char* device, const char* asked);

typedef struct {
    uint32_t struct_size;
    int32_t n_layers, n_embd, n_vocab, n_ctx_train, n_heads, window;
    int32_t is_drafter; /* 1: a Gemma 4 assistant, which runs only on a target's cache */
    uint64_t n_params, file_bytes, weight_bytes;
    char arch[32];
    int32_t takes_media;         /* 1: pillion_model_add_media works */
    int32_t image_bidirectional; /* 1: rows of an image are to be added with sees_itself */
} pillion_model_info;

pillion_status pillion_model_get_info(const pillion_model* model, pillion_model_info* info,
                                      size_t size);
/* Describes the model as JSON: sizes, layers, what a drafter needs, tensor types, metadata (long
 * arrays shortened), and every entry that is wrong, unknown or unread. */
pillion_status pillion_model_json(const pillion_model* model, char* out, size_t capacity,
                                  size_t* needed);
/* Describes the header of any GGUF file as JSON, also of a model that this library cannot run:
 * architecture, sizes, types, metadata (long arrays shortened). with_tensors 1 adds every tensor.
 */
pillion_status pillion_file_json(const char* path, int32_t with_tensors, char* out, size_t capacity,
                                 size_t* needed);
/* Returns one metadata value: a string as it is, any other type as JSON. key: as in the file; a key
 * that is not UTF-8: as pillion_model_json shows it. INVALID_ARGUMENT if the file lacks the key. */
pillion_status pillion_model_metadata(const pillion_model* model, const char* key, char* out,
                                      size_t capacity, size_t* needed);
/* Returns the model's tokenizer. The tokenizer keeps the model alive; free it like any other
 * object. */
pillion_status pillion_model_tokenizer(pillion_model* model, pillion_tokenizer** tokenizer);

/* Lends the rows of an image or a sound to the texts of this model: in a list of tokens, ids first,
 * first - 1 … first - n_rows + 1 stand for them. Such ids are below 0, and every call that takes a
 * text takes them. rows: [n_rows, n_embd], copied; NULL gives the ids alone, for texts that have
 * been read. digest: what tells the medium from others, 32 bytes; the same digest gives the same
 * ids. sees_itself 1: in sliding layers its rows see one another (pillion_model_info), so a text
 * has all of them and one run reads them. Any thread may call these two. INVALID_ARGUMENT: n_rows
 * 0, another n_embd, a known digest with another n_rows or sees_itself. UNSUPPORTED_MODEL: the
 * model takes no media. */
pillion_status pillion_model_add_media(pillion_model* model, const uint8_t* digest,
                                       const float* rows, size_t n_rows, size_t n_embd,
                                       int32_t sees_itself, int32_t* first);
/* Frees the rows. Texts that have been read stay as they are; the ids come back with the digest.
 * INVALID_ARGUMENT: no medium begins with this id. */
pillion_status pillion_model_drop_media(pillion_model* model, int32_t first);

/* ---- tokenizer ---- */

void pillion_tokenizer_free(pillion_tokenizer* tokenizer);
pillion_status pillion_tokenizer_encode(const pillion_tokenizer* tokenizer, const char* text,
                                        size_t text_bytes, int32_t add_special,
                                        int32_t parse_special, int32_t* tokens, size_t capacity,
                                        size_t* needed);
pillion_status pillion_tokenizer_decode(const pillion_tokenizer* tokenizer, const int32_t* tokens,
                                        size_t n, int32_t print_special, char* out, size_t capacity,
                                        size_t* needed);
/* Returns the bytes that one token adds to a running text. They may end inside a character. */
pillion_status pillion_tokenizer_token_bytes(const pillion_tokenizer* tokenizer, int32_t token,
                                             int32_t print_special, char* out, size_t capacity,
                                             size_t* needed);
/* Returns the vocabulary's spelling of a token, and its type: a PILLION_TOKEN_*. */
pillion_status pillion_tokenizer_token_text(const pillion_tokenizer* tokenizer, int32_t token,
                                            char* out, size_t capacity, size_t* needed,
                                            int32_t* type);

typedef struct {
    uint32_t struct_size;
    int32_t n_tokens;
    int32_t bos, eos, unk, pad; /* -1: the file has no such token */
    int32_t adds_bos, adds_eos;
    int32_t strips_leading_space; /* 1: decoding a whole text drops one leading blank */
    int32_t n_end;                /* number of end-of-generation tokens; `end` holds the first 16 */
    int32_t end[16];
    char model[16];
} pillion_tokenizer_info;
pillion_status pillion_tokenizer_get_info(const pillion_tokenizer* tokenizer,
                                          pillion_tokenizer_info* info, size_t size);
/* Returns the tokens that the file forbids to generate. */
pillion_status pillion_tokenizer_suppressed(const pillion_tokenizer* tokenizer, int32_t* tokens,
                                            size_t capacity, size_t* needed);

/* ---- context: one sequence on one model ---- */

typedef struct {
    uint32_t struct_size;
    int32_t n_ctx;     /* positions; 0: the model's number, at most 4096 */
    int32_t n_batch;   /* rows of one prefill run; 0: 512 */
    int32_t n_threads; /* 0: all cores that this process may use */
    int32_t n_outputs; /* most rows whose logits one eval can return; 0: 16 */
    int32_t kv_type;   /* PILLION_KV_*; 0: F16 */
    /* PILLION_FLASH_*. ON: attention that the device cannot tile is an error. OFF: the device's
     * plain kernel runs all attention. AUTO: tiled wherever the device can. The CPU's one kernel
     * tiles every shape, so all three are the same there */
    int32_t flash_attn;
    /* 1: sliding layers keep every position, so that any rewind only sets a counter */
    int32_t swa_full;
    /* 1: sums the squares of each weight's inputs, see pillion_context_activation */
    int32_t collect_activations;
    /* most copies of the sliding caches that the context keeps in host memory. With one, going back
     * to a prompt after a long answer is a copy, not a run. 0: as many as 128 MB hold, 1 to 4; -1:
     * none; at most 256 */
    int32_t n_snapshots;
} pillion_context_config;

void pillion_context_config_init(pillion_context_config* config, size_t size);
pillion_status pillion_context_new(pillion_model* model, const pillion_context_config* config,
                                   pillion_context** context);
void pillion_context_free(pillion_context* context);

/* Appends n tokens and runs them in chunks of n_batch. The last n_outputs of them get logits and
 * hidden rows, read below as rows 0 .. n_outputs-1. n_outputs: 0 .. min(n, n_outputs of the
 * config). CONTEXT_FULL if the tokens do not fit; then nothing runs. After CANCELLED or another
 * failure the context has the length that it had before the call. If the sliding caches can no
 * longer go back that far, the finished chunks stay; pillion_context_length returns the length. */
pillion_status pillion_context_eval(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_outputs);
/* Makes the context hold exactly these n tokens, with logits for the last one. Keeps the longest
 * usable common prefix and runs the rest, at least one token. n_reused: length of the kept prefix.
 * A prefix is usable if the sliding caches, or one of the snapshots, hold the window before its
 * end. The context takes snapshots where prompts end (also the end of an eval of more than 16
 * tokens with outputs), and where earlier texts diverged. */
pillion_status pillion_context_sync(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t* n_reused);
/* Runs a part of what pillion_context_sync runs, so that other work can run between the parts of a
 * long prompt. Goes back to the usable prefix of n_reused tokens and runs at most n_rows of the
 * tokens behind it, without outputs and never the last token. A repeated call continues; sync runs
 * the rest. */
pillion_status pillion_context_read(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_rows, size_t* n_reused);
/* Returns what sync would reuse and changes nothing. n_common: length of the prefix that the
 * context holds. n_usable: how much of it sync would keep. Both are less than n. Either pointer may
 * be NULL. */
pillion_status pillion_context_match(const pillion_context* context, const int32_t* tokens,
                                     size_t n, size_t* n_common, size_t* n_usable);
/* Drops all positions >= length. Only sets a counter if the sliding caches still hold the window
 * before `length`. Otherwise it runs the tokens behind the nearest snapshot at or before `length`
 * again, or all of them without such a snapshot. Outputs of the last eval become invalid. */
pillion_status pillion_context_rewind(pillion_context* context, size_t length);
pillion_status pillion_context_length(const pillion_context* context, size_t* length,
                                      size_t* n_ctx);
pillion_status pillion_context_tokens(const pillion_context* context, int32_t* tokens,
                                      size_t capacity, size_t* needed);

/* Returns an output row of the last eval, valid until the next eval, sync, rewind or free. n:
 * n_vocab for logits, n_embd for hidden. */
pillion_status pillion_context_logits(const pillion_context* context, size_t row,
                                      const float** logits, size_t* n);
pillion_status pillion_context_hidden(const pillion_context* context, size_t row,
                                      const float** hidden, size_t* n);
/* Returns the k most likely tokens of a row, best first, with their log-probabilities (natural log,
 * before any sampler). If token >= 0, also returns that token's log-probability. k may be 0;
 * unwanted out-pointers may be NULL. */
pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k,
                                        int32_t* top_tokens, float* top_logprobs, int32_t token,
                                        float* token_logprob);
/* Returns log p(tokens[i+1] | tokens[0..i]) for i = 0 .. n-2. Clears the context first; afterwards
 * it holds the tokens, without outputs. logprobs: [n-1]. */
pillion_status pillion_context_score(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* logprobs);

/* Returns the mean of all n hidden rows after the final norm, not normalised. Clears the context
 * first; afterwards it holds the tokens, without outputs. mean: [n_embd], the model's n_embd. The
 * bits are the same for any n_batch and any number of threads. INVALID_ARGUMENT without tokens or
 * with another n_embd; CONTEXT_FULL if the tokens do not fit; both leave the context unchanged.
 * After CANCELLED or another failure of a run the context holds the finished chunks of n_batch
 * rows. Costs about as much as a prompt whose every row goes through all layers; it does not need
 * the head. */
pillion_status pillion_context_embed(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* mean, size_t n_embd);

/* Saves what the context holds, tokens and cache, and the sampler's state (NULL: none) in a file:
 * random numbers, accepted tokens. docs/saved_state.md has the format. The file appears when it is
 * complete; until then an older one stays. FILE_NOT_FOUND if it cannot be created there,
 * FILE_CORRUPT if the system refuses to write (no space left), INVALID_ARGUMENT for a folder, a
 * device or a FIFO, CANCELLED. Outputs are not saved: sync() with the same tokens runs the last one
 * again. */
pillion_status pillion_context_save(pillion_context* context, pillion_sampler* sampler,
                                    const char* path);
/* Brings it back: the context holds that text, without outputs, and what follows has the bits that
 * it would have had. n_ctx, n_batch, swa_full and threads may differ from those of the saved
 * context. sampler (NULL: none) gets the saved state and keeps its own settings. n_run (may be
 * NULL): tokens that had to run, 0 unless the context has copies of its cache in another layout on
 * another device.
 * The whole file is checked before anything changes. FILE_NOT_FOUND; FILE_CORRUPT for damage and
 * for a file of another kind; UNSUPPORTED_MODEL for a newer version; INVALID_ARGUMENT for another
 * model, another kv_type or device layout, and for a sampler that was not saved; CONTEXT_FULL for a
 * text longer than n_ctx; CANCELLED. Only a device that fails, or a file that somebody changes
 * meanwhile, leaves the context empty. */
pillion_status pillion_context_load(pillion_context* context, pillion_sampler* sampler,
                                    const char* path, size_t* n_run);
/* The same bytes in the caller's memory. */
pillion_status pillion_context_get_state(pillion_context* context, pillion_sampler* sampler,
                                         void* out, size_t capacity, size_t* needed);
pillion_status pillion_context_set_state(pillion_context* context, pillion_sampler* sampler,
                                         const void* state, size_t n, size_t* n_run);

/* Stops a running eval at the next op; that call returns CANCELLED. Any thread may call it. Without
 * a running call it does nothing: the next call forgets a cancel that came just before it. Repeat
 * the cancel until the call is over. */
pillion_status pillion_context_cancel(pillion_context* context);
/* Describes the context as JSON: where each op of the decode plan runs, kernel table, scratch, KV
 * bytes per layer and store kind. */
pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity,
                                    size_t* needed);

/* Counts, from the graph, what an eval of n more tokens with n_outputs asks of the machine. Routed
 * experts count as many as rows with random experts would use on average. */
typedef struct {
    uint32_t struct_size;
    double multiply_adds; /* in matrix products */
    double weight_bytes;  /* of the matrices that a run reads, each counted once */
    double kv_bytes;      /* of the cached keys and values that a run reads */
} pillion_work;
pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs,
                                    pillion_work* work, size_t size);
/* Measures the best that the machine can do with the context's threads and kernels. Takes about
 * half a second and, for that time, 256 MB. */
typedef struct {
    uint32_t struct_size;
    double read_bytes_per_second;
    double multiply_adds_per_second; /* int8 dot products; 0: unknown */
} pillion_limits;
pillion_status pillion_context_limits(pillion_context* context, pillion_limits* limits,
                                      size_t size);

typedef struct {
    uint32_t struct_size;
    /* n_in: input channels. n_experts: matrices with sums of their own: the experts of a routed
     * weight, else 1 */
    int32_t n_in, n_experts;
    const char* name; /* of the weight, as in the file; ends with NUL */
    /* [n_experts, n_in]: for each channel, the sum of the squares of all input rows, before
     * rounding */
    const float* sums;
    /* [n_experts]: number of those rows; 0, with sums of 0, for an expert that no row chose */
    const float* counts;
} pillion_activation_info;

/* Returns what went into the weights since a context with collect_activations was made. All rows
 * that ran count, also those that were dropped later. Weights behind the last layer with a cache
 * see only rows with outputs; pillion_context_score gives every row an output. INVALID_ARGUMENT
 * without collect_activations, and after an interrupted run. The pointers stay valid until the next
 * pillion_context_activation or free. */
pillion_status pillion_context_activation_count(const pillion_context* context, size_t* n);
pillion_status pillion_context_activation(const pillion_context* context, size_t i,
                                          pillion_activation_info* info, size_t size);

/* Returns as JSON the bytes that a context with this config would take on this machine: weights, KV
 * of full and sliding layers, scratch, outputs, and the bytes of a drafter on it (drafter may be
 * NULL). Loads nothing; models opened with metadata_only suffice. Fails as making the context or
 * the pair would fail. For an assistant without a drafter it returns the assistant's weights. */
pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter,
                                    const pillion_context_config* config, char* out,
                                    size_t capacity, size_t* needed);

/* What pillion_model_fit fits into: a device and a part of its memory. */
typedef struct {
    uint32_t struct_size;
    /* as in pillion_model_config; -1, the default, counts */
    int32_t n_gpu_layers;
    const char* device;       /* NULL: "auto" */
    const char* draft_device; /* NULL: "auto", see pillion_draft_device */
    /* bytes of the device's memory that may be used; 0: its free memory now, less a reserve for its
     * driver */
    uint64_t device_bytes;
    /* 1: if n_gpu_layers is -1, fewer layers than all are an error */
    int32_t strict;
} pillion_fit_config;
void pillion_fit_config_init(pillion_fit_config* config, size_t size);
/* Computes how a device's memory would be used and how many layers it holds, before anything is
 * allocated. n_gpu_layers: the value to open the model with. Models opened with metadata_only
 * suffice; drafter may be NULL. JSON: {"device", "is_host", "n_layers", "device_layers", "weights",
 * "kv", "scratch", "total", "available", "note"}: bytes on the device, including the drafter's if
 * it runs there. note: a sentence for the user if not all layers fit, else "". OUT_OF_MEMORY, with
 * the numbers, if the model does not fit even without layers, if the wanted layers do not fit, if
 * strict is set and not all fit, or if the CPU shares the memory and it is too small. */
pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_fit_config* config, int32_t* n_gpu_layers, char* out,
                                 size_t capacity, size_t* needed);
/* Describes a device by its name, "auto" included, as JSON: {"name", "is_host", "memory": {"total",
 * "free", "unified"}, "info"}. NO_BACKEND if the device is absent; the sentence gives the reason.
 */
pillion_status pillion_device_json(const char* device, char* out, size_t capacity, size_t* needed);

/* ---- sampler ---- */

typedef struct {
    uint32_t struct_size;
    int32_t top_k;                             /* 0: off */
    float temperature;                         /* 0: greedy */
    float top_p;                               /* 0 or 1: off */
    float min_p;                               /* 0: off */
    float repeat_penalty;                      /* 0 or 1: off */
    float frequency_penalty, presence_penalty; /* 0: off */
    /* tokens that the penalties look back at; 0: 64; -1: the whole text; -2: none, which turns the
     * penalties off */
    int32_t penalty_last_n;
    uint64_t seed;              /* 0: a random seed; any other number is the seed */
    const int32_t* bias_tokens; /* logit_bias: added to the logit; -inf bans the token */
    const float* bias_values;
    uint64_t n_bias;
} pillion_sampler_config;

void pillion_sampler_config_init(pillion_sampler_config* config, size_t size);
/* In place of init: the settings that the model's file recommends (general.sampling.*), those of
 * llama-cpp-python where it has none (temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, penalties
 * off), and a bias of -inf for the tokens that the file says must never come. The bias points into
 * the model and lives as long. A model opened for metadata only will do. FILE_CORRUPT names key,
 * value and limit of a setting that can't be. */
pillion_status pillion_sampler_config_from_model(const pillion_model* model,
                                                 pillion_sampler_config* config, size_t size);
pillion_status pillion_sampler_new(const pillion_sampler_config* config, pillion_sampler** sampler);
void pillion_sampler_free(pillion_sampler* sampler);
/* Chooses the next token from an output row of the context, and leaves the context unchanged. Call
 * pillion_sampler_accept with the token that you use. */
pillion_status pillion_sampler_sample(pillion_sampler* sampler, const pillion_context* context,
                                      size_t row, int32_t* token);
/* As pillion_sampler_sample, among the tokens that the mask allows: bit t % 32 of word t / 32 is
 * token t. n_words is n_vocab / 32 rounded up; surplus bits have no effect. The mask acts before
 * bias, penalties and top-k, so nothing brings a refused token back. INVALID_ARGUMENT for another
 * number of words, or if every allowed token has a logit of -inf or NaN; the sampler is then
 * unchanged. */
pillion_status pillion_sampler_sample_masked(pillion_sampler* sampler,
                                             const pillion_context* context, size_t row,
                                             const uint32_t* mask, size_t n_words, int32_t* token);
/* As pillion_sampler_sample_masked, from a row of the caller: logits [n] of tokens 0 .. n - 1. mask
 * may be NULL. */
pillion_status pillion_sampler_sample_logits(pillion_sampler* sampler, const float* logits,
                                             size_t n, const uint32_t* mask, size_t n_words,
                                             int32_t* token);
/* mark returns how many tokens the sampler accepted and how many random numbers it drew. go_back
 * returns it to such a mark, so that a caller can undo a step that failed. INVALID_ARGUMENT if the
 * sampler stands before the mark: it has not come so far, or a reset took it back. */
pillion_status pillion_sampler_mark(pillion_sampler* sampler, uint64_t* accepted, uint64_t* drawn);
pillion_status pillion_sampler_go_back(pillion_sampler* sampler, uint64_t accepted, uint64_t drawn);
/* Feeds the penalties with a token. */
pillion_status pillion_sampler_accept(pillion_sampler* sampler, int32_t token);
/* Forgets the accepted tokens and restarts the seed. */
pillion_status pillion_sampler_reset(pillion_sampler* sampler);

/* ---- pair: a target and a drafter ---- */

typedef struct pillion_pair pillion_pair;

enum { PILLION_SPECULATION_ON = 1, PILLION_SPECULATION_PAUSED = 2, PILLION_SPECULATION_OFF = 3 };
enum {
    PILLION_DRAFTER_NONE = 0,     /* every step is plain decoding: one token */
    PILLION_DRAFTER_LOOKUP = 1,   /* no model: drafts are looked up in the text so far */
    PILLION_DRAFTER_MODEL = 2,    /* a model with the target's vocabulary gets its own cache */
    PILLION_DRAFTER_ASSISTANT = 3 /* a Gemma 4 assistant reads the target's cache */
};
enum { PILLION_DRAFT_MAX = 8 }; /* drafts of one round */
enum { PILLION_DRAFT_AUTO = -1 };

typedef struct {
    uint32_t struct_size;
    /* 1: score the whole vocabulary even if the drafter has a centroid head */
    int32_t dense_head;
    /* 1: a centroid head that the file holds only in part is an error, not a warning */
    int32_t strict;
    int32_t n_ngram; /* prompt lookup: longest run of tokens to look for; 0: 3 */
    /* the draft ends at a token whose probability is below p_min; 0: off */
    float p_min;
    /* 1: the sampler draws the drafts and rejection sampling verifies them. At a temperature more
     * drafts are accepted; the text follows the same distribution but differs from the text without
     * drafts. Greedy text stays exact */
    int32_t sampled;
    /* 1: with an assistant, drafts also come from the text, where those promise more by what was
     * measured, and the assistant goes on behind them */
    int32_t lookup;
} pillion_pair_config;

void pillion_pair_config_init(pillion_pair_config* config, size_t size);
/* Pairs a context with a drafter, at any time, also after a prompt. kind: PILLION_DRAFTER_*.
 * drafter: for MODEL and ASSISTANT (pillion_model_info.is_drafter marks an assistant), else NULL.
 * INVALID_ARGUMENT for another kind, for a drafter that the kind does not take, and for a missing
 * one. PILLION_ERROR_PAIRING for a drafter of another kind, or if the two do not fit; the sentence
 * then names both values. A drafter on another device than the target's caches may get copies of
 * them; then the context's tokens run once more. After CANCELLED in that run the context has the
 * length that it reports. The pair keeps context and drafter alive; free them like any other
 * object. The context may run by itself between steps. */
pillion_status pillion_pair_new(pillion_context* target, int32_t kind, pillion_model* drafter,
                                const pillion_pair_config* config, pillion_pair** pair);
void pillion_pair_free(pillion_pair* pair);

typedef struct {
    uint32_t struct_size;
    int32_t drafted, accepted; /* of the drafter's tokens; 0 and 0 without a draft */
    int32_t ended;             /* 1: the last token is one of end_tokens */
    float draft_ms, verify_ms, accept_ms;
    /* accepted drafts that the caller added, behind the `accepted` ones */
    int32_t forced;
} pillion_round_info;

/* Runs one round: drafts, verifies the drafts in one run of the target, and returns the tokens that
 * the sampler chose, 1 .. n_max. They equal the tokens of steps without drafts, also when sampling,
 * unless `sampled` is set. The first step after a prompt returns the token that the prompt's logits
 * give. The last returned token is not in the cache yet. n_draft: 0: no drafts; 1 ..
 * PILLION_DRAFT_MAX; or PILLION_DRAFT_AUTO: as many as pay off by measured times. A pair without
 * drafter drafts nothing. tokens has room for `capacity`, at least 1; a smaller capacity than n_max
 * takes its place, so 1 + PILLION_DRAFT_MAX is enough for every round. Until the next call, the
 * context's output row i is the row that token i was chosen from; in the first step after a prompt,
 * the context's last row. */
pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                 size_t n_max, const int32_t* end_tokens, size_t n_end,
                                 int32_t* tokens, size_t capacity, size_t* n,
                                 pillion_round_info* info, size_t info_size);

/* Runs the same round in three steps, for callers that influence it: a grammar that limits the
 * tokens, a function that changes the logits. pillion_pair_step is propose, run and take in one
 * call; on a device, the host does not intervene between them.
 *
 * propose: returns the drafter's tokens. capacity: at least PILLION_DRAFT_MAX. Returns 0 tokens
 * right after a prompt, which needs no run, and while "auto" finds that drafts do not pay off.
 * run: runs the chosen token and n drafts, at most pillion_pair_room() of them. Drafts are the
 * proposal or its beginning, other tokens behind it, or other tokens alone (forced ones); n may be
 * 0. run does not need a propose before it.
 * take: chooses the tokens. Row i of the run gives the token after i drafts. take ends where a
 * choice differs from the draft, at an end token, or after n_max tokens. capacity: as for
 * pillion_pair_step.
 *
 * The text is that of pillion_pair_step. Statistics, and the draft length of "auto", count the
 * drafter's tokens; a proposed token that was not run counts as refused. Between the steps other
 * calls may read the context (logits). A call that changes the context ends the round. A step that
 * fails or is cancelled leaves pair, context and sampler as before the step, so it can be repeated.
 * INVALID_ARGUMENT: take without run; run, propose, room, step or draft between run and take; a
 * context that was changed in between; more drafts than pillion_pair_room(). CONTEXT_FULL and
 * n_draft: as for pillion_pair_step. */
pillion_status pillion_pair_propose(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                    size_t n_max, int32_t* drafts, size_t capacity, size_t* n);
/* first_row: the context's output row that is row 0 of the round; may be NULL. */
pillion_status pillion_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                                size_t* first_row);
typedef struct {
    uint32_t struct_size;
    /* [drafts + 1, words]: the mask of each row, as for pillion_sampler_sample_masked; NULL: all
     * tokens */
    const uint32_t* masks;
    uint64_t n_mask_words; /* of all rows together */
    /* [n_chosen]: the caller's own choice for the first rows, without the sampler; NULL: the
     * sampler chooses all */
    const int32_t* chosen;
    uint64_t n_chosen;
} pillion_choice;
void pillion_choice_init(pillion_choice* choice, size_t size);
/* choice may be NULL. sampler may be NULL if the caller chooses all tokens. A mask that refuses
 * every token is an error only if the text reaches its row. */
pillion_status pillion_pair_take(pillion_pair* pair, pillion_sampler* sampler, size_t n_max,
                                 const int32_t* end_tokens, size_t n_end,
                                 const pillion_choice* choice, int32_t* tokens, size_t capacity,
                                 size_t* n, pillion_round_info* info, size_t info_size);
/* Abandons a round that was proposed or run. Pair and context return to their state before it. So
 * does the sampler if it is the sampler of propose; NULL leaves it as it is. Does nothing without
 * such a round. */
pillion_status pillion_pair_abandon(pillion_pair* pair, pillion_sampler* sampler);
/* Returns the most drafts that the next run may take: PILLION_DRAFT_MAX, or what context and
 * outputs hold if that is less. 0 right after a prompt. */
pillion_status pillion_pair_room(const pillion_pair* pair, size_t* n);

/* As pillion_context_sync, for a pair. */
pillion_status pillion_pair_sync(pillion_pair* pair, const int32_t* tokens, size_t n,
                                 size_t* n_reused);

typedef struct {
    uint32_t struct_size;
    int32_t state;   /* PILLION_SPECULATION_*, of the last step */
    uint64_t rounds; /* rounds with at least one draft */
    uint64_t tokens; /* tokens that steps returned */
    uint64_t drafted, accepted;
    uint64_t drafted_at[8], accepted_at[8]; /* by position in the draft */
    double draft_ms, verify_ms, accept_ms;  /* verify: all runs of the target by steps */
    int32_t n_draft;                        /* draft length that "auto" would use now */
    char kind[16];                          /* "mtp", "model", "lookup", "lookup+mtp"; "": none */
    char head[16];                          /* "centroid", "dense", "" */
    char reason[160];                       /* why paused or off, or why the head is dense */
    /* accepted drafts that the caller added; `drafted` counts the drafter's */
    uint64_t forced;
} pillion_pair_stats;
pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats,
                                      size_t size);
pillion_status pillion_pair_reset_stats(pillion_pair* pair);

/* Describes the pair as JSON: {"kind", "head", "backend", "n_read", "plan"}. n_read: tokens of the
 * text that a drafter with its own cache ran. plan: where each op of one draft step runs. backend
 * and plan are null without a model. */
pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity,
                                 size_t* needed);

/* Drafts up to n tokens after `last`, which would stand at the context's length, and verifies none
 * of them. For tests and benchmarks. pillion_pair_draft_row then reads step i: logits [n_vocab],
 * -inf for tokens that were not scored, and hidden [n_embd of the target], the row passed to the
 * next step. Either pointer may be NULL. Only assistants have these rows. */
pillion_status pillion_pair_draft(pillion_pair* pair, int32_t last, int32_t n, int32_t* tokens,
                                  size_t capacity, size_t* n_drafted);
pillion_status pillion_pair_draft_row(const pillion_pair* pair, int32_t step, float* logits,
                                      float* hidden);

/* ---- batch: several sequences on weights that are read once ---- */

/* A batch makes contexts that share its machine (threads, plans, outputs) and a pool of KV pages,
 * and pairs that share one drafter. Every call for contexts and pairs works on them, one at a time
 * for the whole batch (BUSY). pillion_batch_draft, _run and _take make a round for several pairs,
 * and parts of prompts beside them, in one run. Tokens, logits (on the CPU bit for bit) and
 * accepted drafts of a sequence are those of a run by itself. A run of any other sequence ends the
 * life of a context's output rows.
 *
 * On a device that can't run rows of several sequences at once the same calls run them one after
 * another; pillion_batch_json says so. */
typedef struct pillion_batch pillion_batch;

typedef struct {
    uint32_t struct_size;
    int32_t n_sequences; /* contexts that may exist at a time, 1 to 64; 0: 4 */
    /* positions of the full layers' cache that the sequences share, in pages of 256; at least
     * n_ctx; 0: n_sequences * n_ctx */
    int64_t n_positions;
} pillion_batch_config;

void pillion_batch_config_init(pillion_batch_config* config, size_t size);
/* kind, drafter, pair: as for pillion_pair_new. context: of every sequence; n_outputs 0 stands for
 * 9 a sequence, at most 128. NULL configs are defaults. */
pillion_status pillion_batch_new(pillion_model* model, int32_t kind, pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_pair_config* pair,
                                 const pillion_batch_config* config, pillion_batch** batch);
/* Its contexts and pairs live on. */
void pillion_batch_free(pillion_batch* batch);
/* A new empty sequence. CONTEXT_FULL: n_sequences exist already. */
pillion_status pillion_batch_context(pillion_batch* batch, pillion_context** context);
/* Pairs one of its contexts with the drafter of all. */
pillion_status pillion_batch_pair(pillion_batch* batch, pillion_context* context,
                                  pillion_pair** pair);
/* Lets a context hold what `from`, another context of the same batch, holds at `length`, and no
 * more: full pages are shared, and copied when one of the two writes to them. n: the tokens that
 * are held then: length, or less if the sliding layers of `from` no longer go back so far. */
pillion_status pillion_context_share(pillion_context* context, pillion_context* from, size_t length,
                                     size_t* n);

/* One sequence's part of a run. Zeros are defaults but for what is named. */
typedef struct {
    uint32_t struct_size;
    int32_t code; /* result: why this entry has no part; the others have */
    pillion_pair* pair;
    pillion_sampler*
        sampler; /* of a round. Of a prompt: NULL: its first token is a later round's */
    /* NULL: a round. Else a text that the sequence is to hold, [n_tokens], of which at most n_rows
     * tokens run now, behind those that it holds already */
    const int32_t* tokens;
    uint64_t n_tokens, n_rows;
    int32_t n_draft, n_max; /* as for pillion_pair_step */
    const int32_t* end_tokens;
    uint64_t n_end;
    const pillion_choice* choice; /* for take; may be NULL */
    /* from draft, for run: the caller may shorten or replace them */
    int32_t n_drafts, drafts[8];
    /* results of run: tokens of a prompt that were there, that ran, that are left; whether take has
     * something to take; the context's output row that is row 0 of the round */
    int32_t has_run;
    uint64_t n_reused, n_ran, n_left, first_row;
    /* results of take */
    int32_t n_out, out[9];
    int32_t drafted, accepted, ended, forced;
    float draft_ms, verify_ms, accept_ms;
    char error[240]; /* the sentence of `code` */
} pillion_batch_entry;

void pillion_batch_entry_init(pillion_batch_entry* entry, size_t size);
/* draft: begins the round of each entry without tokens, and drafts for all of them together.
 * PILLION_DRAFT_AUTO lengths are chosen jointly, by what the whole batch gains; other lengths are
 * never cut.
 * run: runs all entries. A prompt whose last token ran gives its first token in take.
 * take: chooses the tokens of the entries with has_run.
 *
 * Entries are an array whose stride is the struct_size of the first. An entry that can't take part
 * (no room in its context or in the pool, a wrong token) says so in `code`. A call that fails
 * leaves every sequence and sampler as before it; run may then be repeated, or
 * pillion_batch_abandon gives the rounds up, as pillion_pair_abandon. INVALID_ARGUMENT: more rows
 * than n_batch, or more outputs than n_outputs. */
pillion_status pillion_batch_draft(pillion_batch* batch, pillion_batch_entry* entries, size_t n);
pillion_status pillion_batch_run(pillion_batch* batch, pillion_batch_entry* entries, size_t n);
pillion_status pillion_batch_take(pillion_batch* batch, pillion_batch_entry* entries, size_t n);
pillion_status pillion_batch_abandon(pillion_batch* batch, pillion_batch_entry* entries, size_t n);
/* Stops the run that is under way, of all entries. Any thread may call it. */
pillion_status pillion_batch_cancel(pillion_batch* batch);

typedef struct {
    uint32_t struct_size;
    int32_t is_batched; /* 0: the sequences run in turn */
    int32_t n_sequences, n_pages, n_free_pages, page_size;
    int32_t last_rows, last_entries; /* of the last run */
    double last_draft_ms, last_run_ms;
    uint64_t runs, rows;
} pillion_batch_stats;
pillion_status pillion_batch_get_stats(const pillion_batch* batch, pillion_batch_stats* stats,
                                       size_t size);
/* {"batched", "why", "n_sequences", "n_ctx", "n_batch", "n_outputs", "few_rows", "n_pages",
 * "page"}. few_rows above 0: on this device the bits of a row depend on the other rows of longer
 * runs. A run then takes rounds of at most so many rows, or prompts; prompts beside rounds wait
 * (n_ran 0). */
pillion_status pillion_batch_json(const pillion_batch* batch, char* out, size_t capacity,
                                  size_t* needed);

/* ---- images and sound: an mmproj file, whose towers make rows of the target's width ---- */

typedef struct pillion_mmproj pillion_mmproj;

/* Opens an mmproj file (GGUF, general.architecture "clip"): a vision tower (gemma4v, gemma4uv), an
 * audio tower (gemma4a, gemma4ua), or both. Reads the header and checks every tensor; the weights
 * of a tower are loaded when it first encodes. The towers run on the CPU. n_threads: 0: all cores
 * that this process may use. FILE_NOT_FOUND; FILE_CORRUPT for a key or tensor that is missing or
 * wrong; UNSUPPORTED_MODEL for another kind of file, projector or tensor type.
 * Any thread may use the handle: encodings run one after the other. */
pillion_status pillion_mmproj_open(const char* path, int32_t n_threads, pillion_mmproj** mmproj);
void pillion_mmproj_free(pillion_mmproj* mmproj);
/* {"path", "n_embd" (width of a row: the target's n_embd), "vision": {"projector", "n_embd",
 * "n_ff", "n_layers", "n_heads", "head_dim", "patch", "pool", "unit" (pixels of a soft token's
 * side), "image_tokens" (the most of an image by default), "tokens_max", "file_bytes"} or null,
 * "audio": {"projector", "n_embd", "n_ff", "n_layers", "n_heads", "n_mel", "file_bytes"} or null,
 * "file_bytes", "n_threads", "tensor_types"} */
pillion_status pillion_mmproj_json(const pillion_mmproj* mmproj, char* out, size_t capacity,
                                   size_t* needed);
/* The grid of soft tokens that an image becomes: rows * cols is at most n_tokens. height, width:
 * pixels. n_tokens: 1 .. 1120; the model was trained with 70, 140, 280, 560 and 1120. 0: what the
 * file says, 280 where it says nothing.
 * INVALID_ARGUMENT without a vision tower. */
pillion_status pillion_mmproj_image_grid(const pillion_mmproj* mmproj, size_t height, size_t width,
                                         int32_t n_tokens, int32_t* rows, int32_t* cols);
/* Stretches an image to its grid and encodes it. rgb: bytes [height, width, 3]; at most 64 million
 * pixels. rows: f32 [T, n_embd], T = rows * cols of the grid, row by row; capacity: rows that fit.
 * BUFFER_TOO_SMALL, CANCELLED; OUT_OF_MEMORY where the weights do not fit. */
pillion_status pillion_mmproj_encode_image(pillion_mmproj* mmproj, const uint8_t* rgb,
                                           size_t height, size_t width, int32_t n_tokens,
                                           float* rows, size_t capacity);
/* Soft tokens of so many samples (16 kHz, one channel); 0: too short for one. INVALID_ARGUMENT
 * without an audio tower, and for more samples than one piece may have: 30 seconds for gemma4a. */
pillion_status pillion_mmproj_audio_tokens(const pillion_mmproj* mmproj, size_t n_samples,
                                           size_t* n);
/* Encodes one piece of sound. samples: f32, 16 kHz, one channel, -1 .. 1. rows: f32 [T, n_embd], T
 * of pillion_mmproj_audio_tokens; capacity: rows that fit. */
pillion_status pillion_mmproj_encode_audio(pillion_mmproj* mmproj, const float* samples,
                                           size_t n_samples, float* rows, size_t capacity);
/* Stops the encoding under way at the next op; that call returns CANCELLED. Any thread may call it.
 * Without an encoding it does nothing: the next one forgets it. */
pillion_status pillion_mmproj_cancel(pillion_mmproj* mmproj);
/* Stretches an image to another size, its rows first, as Pillow's Image.resize(size, BICUBIC) does,
 * bit for bit. (From 13 on Pillow begins with the columns of an image that loses more than twice as
 * many rows as columns.) rgb: [height, width, 3]; out_rgb: [out_height, out_width, 3].
 * INVALID_ARGUMENT for a side outside 1 .. 2^20 and for more than 2^26 pixels, of either image. */
pillion_status pillion_resize_image(const uint8_t* rgb, int64_t height, int64_t width,
                                    int64_t out_height, int64_t out_width, uint8_t* out_rgb);

/* The log-mel spectrogram that Gemma 4's audio encoder reads, of 16 kHz mono sound in -1 .. 1:
 * frames of 128 natural logarithms, (n_samples - 161) / 160 + 1 of them, none below 161 samples.
 * out: [frames, 128]; capacity and needed count floats. INVALID_ARGUMENT for a sample that is not
 * finite. */
pillion_status pillion_log_mel(const float* samples, size_t n_samples, float* out, size_t capacity,
                               size_t* needed);

/* ---- quantize: GGUF to GGUF with other tensor types ---- */

typedef struct pillion_quantization pillion_quantization;

typedef struct {
    uint32_t struct_size;
    int32_t pure;             /* 1: every matrix gets the type itself, without a mix */
    int32_t allow_requantize; /* 1: accepts a source that is already quantized */
    int32_t n_threads;        /* 0: all cores that this process may use */
    /* "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K_S", "Q4_K_M", "Q5_K_S",
     * "Q5_K_M", "Q6_K". Vectors, norms, routers, rotation factors and the centroid head stay as
     * they are */
    const char* type;
    const char* imatrix; /* llama.cpp's GGUF importance matrix, or NULL */
    /* overrides: a tensor's name, or a regular expression that matches names, and the type; the
     * last match wins */
    uint64_t n_overrides;
    const char* const* override_names;
    const char* const* override_types;
} pillion_quantize_config;

void pillion_quantize_config_init(pillion_quantize_config* config, size_t size);
/* Makes a plan: reads the headers and decides every tensor's type. Writes nothing. */
pillion_status pillion_quantization_new(const char* path, const pillion_quantize_config* config,
                                        pillion_quantization** quantization);
void pillion_quantization_free(pillion_quantization* quantization);
pillion_status pillion_quantization_count(const pillion_quantization* quantization, size_t* n,
                                          uint64_t* bytes);

typedef struct {
    uint32_t struct_size;
    uint64_t n_values, source_bytes, target_bytes;
    double error; /* after the run: rms of the error over rms of the values */
    char name[96], source_type[16], target_type[16];
    char reason[96]; /* why the tensor has another type than the one asked for */
} pillion_quantized_tensor;
pillion_status pillion_quantization_tensor(const pillion_quantization* quantization, size_t i,
                                           pillion_quantized_tensor* tensor, size_t size);
/* Streams slices of rows from the source to `out`, reads the result back, and only then renames it
 * to `out`, so that a failed or cancelled run leaves no file. progress: in bytes of the source; may
 * be NULL. FILE_CORRUPT for a value that is not finite, and for a full disk. */
pillion_status pillion_quantization_run(pillion_quantization* quantization, const char* out,
                                        pillion_progress_callback progress, void* user);

/* ---- join and split: one model in one file, or in parts NAME-00001-of-00003.gguf ---- */

/* Every call that opens a file accepts any part of a split model and opens the whole model. join
 * copies the parts byte for byte into one file; split copies a model into parts. Both read the
 * result back before they rename it, so that a failed or cancelled run leaves no file. progress: in
 * bytes of tensors; may be NULL. INVALID_ARGUMENT: nothing to join, an output that is also an input
 * or is not a regular file, a limit that no part can keep. FILE_CORRUPT: parts that do not belong
 * together, or a full disk. FILE_NOT_FOUND: a missing part; the sentence names it. */

/* part: any part, or a file made by concatenating the parts with cat. */
pillion_status pillion_join(const char* part, const char* out, pillion_progress_callback progress,
                            void* user);
/* Writes PREFIX-00001-of-0000N.gguf and so on; a ".gguf" at the end of `prefix` is dropped.
 * max_bytes: of one part's file. max_tensors: of one part. 0: unlimited; one of the two must be
 * given. n_parts: number of written parts; may be NULL. */
pillion_status pillion_split(const char* path, const char* prefix, uint64_t max_bytes,
                             uint64_t max_tensors, size_t* n_parts,
                             pillion_progress_callback progress, void* user);

/* CDEF END */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
