/* pillion: Gemma 4 and its MTP drafter from GGUF files. The C ABI and the only public header.
 *
 * Contract
 *  - Every function that can fail returns a pillion_status; 0 is success. On failure
 *    pillion_last_error() holds one sentence for the calling thread until its next pillion call.
 *    Results go through the trailing out-pointers, written only on success.
 *  - Config structs begin with struct_size. pillion_<x>_config_init(&cfg, sizeof cfg) fills in the
 *    defaults: call it first, and change what you want to. A struct of zeros, whose struct_size
 *    nobody set, is refused. A field of value zero means "default", with one exception:
 *    n_gpu_layers, whose default is -1 and whose 0 says "no layer". NULL for a config: all
 *    defaults. The library reads no further than struct_size and refuses a larger struct whose
 *    surplus is not zero. Fields are only ever appended.
 *  - Text is UTF-8 with an explicit length, without a closing NUL. Functions that fill a caller's
 *    buffer take its capacity and always report the needed size; too small a buffer gives
 *    PILLION_ERROR_BUFFER_TOO_SMALL and writes nothing.
 *  - Objects are counted inside: freeing a model while a context lives is safe, free(NULL) does
 *    nothing. One context serves one caller at a time; a second concurrent call gets
 *    PILLION_ERROR_BUSY. Different contexts may run in parallel. Models and tokenizers are
 *    immutable and may be shared by threads. pillion_context_cancel may come from any thread.
 *  - After a fork() the child may use and free what its parent opened: a CPU context makes threads
 *    of its own at its first run. A handle that another thread was inside gives
 *    PILLION_ERROR_CLOSED there. What lies on a device gives PILLION_ERROR_DEVICE_LOST, and freeing
 *    it does nothing; opening a device whose driver the parent uses gives PILLION_ERROR_NO_BACKEND.
 *    _fork() and clone() are not noticed.
 *  - Nothing is printed, nothing aborts, no signal is touched. Environment read: PILLION_CPU_ISA
 *    (forces a kernel table); by the Hexagon module PILLION_HTP_SIM (command line of the simulator
 *    that is device "htp:sim"), PILLION_HTP_DRIVER (another file than libcdsprpc.so),
 *    PILLION_HTP_TIMEOUT (seconds a run may take; 60), PILLION_HTP_SPACE (MB a session may map, for
 *    tests), and ADSP_LIBRARY_PATH and DSP_LIBRARY_PATH, which are Qualcomm's (docs/hexagon.md).
 *  - After a failed or cancelled call a context is at the length it reports, usable.
 */
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
    PILLION_ERROR_CLOSED = 3, /* half a handle: a fork() came in another thread's call */
    PILLION_ERROR_BUFFER_TOO_SMALL = 4,
    PILLION_ERROR_CONTEXT_FULL = 5, /* the tokens do not fit n_ctx */
    /* file */
    PILLION_ERROR_FILE_NOT_FOUND = 10,
    PILLION_ERROR_FILE_CORRUPT = 11,
    PILLION_ERROR_UNSUPPORTED_MODEL = 12,
    PILLION_ERROR_PAIRING = 13, /* a drafter without, or with the wrong, target */
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
/* callback: NULL: silent, the default. */
pillion_status pillion_set_log(pillion_log_callback callback, void* user);

/* JSON: {"cpu": {"table", "tables": [...], "features": [...], "threads", "threads_from"},
 * "backends": [{"name", "available", "reason"}], "memory_bytes"}. Fails like any use of the CPU
 * would when PILLION_CPU_ISA names a table this machine cannot run. */
pillion_status pillion_system_json(char* out, size_t capacity, size_t* needed);

/* ---- model ---- */

/* Return 0 to go on, anything else cancels the load. done runs from 0 to total (bytes). */
typedef int32_t (*pillion_progress_callback)(uint64_t done, uint64_t total, void* user);

typedef struct {
    uint32_t struct_size;
    int32_t no_mmap;       /* 1: read the file into memory instead of mapping it */
    int32_t metadata_only; /* 1: no weights; tokenizer and descriptions work, contexts do not */
    int32_t n_threads;     /* threads that repack weights; 0: all cores this process may use */
    const char* device;    /* "auto": the best that is here; "cpu", "cuda", "cuda:1", "htp";
                            * NULL: "auto" */
    pillion_progress_callback progress;
    void* progress_user;
    int32_t n_gpu_layers; /* layers on the device, from the last one down; the others stay on the
                           * CPU. -1, the default: as many as fit (here beside a context of default
                           * size; pillion_model_fit counts for others); 0: none; more than there
                           * are: all. An assistant lies on the device as a whole. Above 0 where the
                           * device is the CPU: NO_BACKEND */
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
    int32_t is_drafter; /* a Gemma 4 assistant: runs only on a target's cache */
    uint64_t n_params, file_bytes, weight_bytes;
    char arch[32];
} pillion_model_info;

pillion_status pillion_model_get_info(const pillion_model* model, pillion_model_info* info,
                                      size_t size);
/* JSON: sizes, layers, what a drafter needs, tensor types, metadata (long arrays shortened), what
 * is wrong, unknown or not read. */
pillion_status pillion_model_json(const pillion_model* model, char* out, size_t capacity,
                                  size_t* needed);
/* JSON of what the header of any GGUF file says, also of one that this library does not run:
 * architecture, sizes, types, metadata (long arrays shortened); with_tensors: each tensor. */
pillion_status pillion_file_json(const char* path, int32_t with_tensors, char* out, size_t capacity,
                                 size_t* needed);
/* One metadata value: strings as they are, everything else as JSON. key: as in the file, or as
 * pillion_model_json shows one that is not UTF-8. INVALID_ARGUMENT when the key is absent. */
pillion_status pillion_model_metadata(const pillion_model* model, const char* key, char* out,
                                      size_t capacity, size_t* needed);
/* Borrowed from the model, which it keeps alive: free it like anything else. */
pillion_status pillion_model_tokenizer(pillion_model* model, pillion_tokenizer** tokenizer);

/* ---- tokenizer ---- */

void pillion_tokenizer_free(pillion_tokenizer* tokenizer);
pillion_status pillion_tokenizer_encode(const pillion_tokenizer* tokenizer, const char* text,
                                        size_t text_bytes, int32_t add_special,
                                        int32_t parse_special, int32_t* tokens, size_t capacity,
                                        size_t* needed);
pillion_status pillion_tokenizer_decode(const pillion_tokenizer* tokenizer, const int32_t* tokens,
                                        size_t n, int32_t print_special, char* out, size_t capacity,
                                        size_t* needed);
/* The bytes one token adds to a running text (may be half a character). */
pillion_status pillion_tokenizer_token_bytes(const pillion_tokenizer* tokenizer, int32_t token,
                                             int32_t print_special, char* out, size_t capacity,
                                             size_t* needed);
/* The vocabulary's own spelling of a token, and its PILLION_TOKEN_* type. */
pillion_status pillion_tokenizer_token_text(const pillion_tokenizer* tokenizer, int32_t token,
                                            char* out, size_t capacity, size_t* needed,
                                            int32_t* type);

typedef struct {
    uint32_t struct_size;
    int32_t n_tokens;
    int32_t bos, eos, unk, pad; /* -1: none */
    int32_t adds_bos, adds_eos;
    int32_t strips_leading_space; /* decoding a whole text drops one blank in front */
    int32_t n_end;                /* end-of-generation tokens, the first 16 of them in `end` */
    int32_t end[16];
    char model[16];
} pillion_tokenizer_info;
pillion_status pillion_tokenizer_get_info(const pillion_tokenizer* tokenizer,
                                          pillion_tokenizer_info* info, size_t size);
/* Tokens the file says must never be generated. */
pillion_status pillion_tokenizer_suppressed(const pillion_tokenizer* tokenizer, int32_t* tokens,
                                            size_t capacity, size_t* needed);

/* ---- context: one sequence on one model ---- */

typedef struct {
    uint32_t struct_size;
    int32_t n_ctx;      /* positions; 0: the model's, at most 4096 */
    int32_t n_batch;    /* rows of one prefill run; 0: 512 */
    int32_t n_threads;  /* 0: all cores this process may use */
    int32_t n_outputs;  /* most rows whose logits one eval can return; 0: 16 */
    int32_t kv_type;    /* PILLION_KV_*; 0: F16 */
    int32_t flash_attn; /* PILLION_FLASH_*. ON: attention that the device can't tile is an error;
                         * OFF: its plain kernel for all; AUTO: tiled where it can. The CPU's one
                         * kernel tiles every shape: all three are the same there */
    int32_t swa_full;   /* 1: sliding layers keep every position, so that any rewind is a counter */
    int32_t collect_activations; /* 1: sums up what goes into each weight, see
                                    pillion_context_activation */
    int32_t n_snapshots; /* copies of the sliding caches that may be kept in the host's memory,
                          * so that going back to a prompt after a long answer is a copy, not
                          * a run. 0: as many as 128 MB hold, 1 to 4; -1: none; at most 256 */
} pillion_context_config;

void pillion_context_config_init(pillion_context_config* config, size_t size);
pillion_status pillion_context_new(pillion_model* model, const pillion_context_config* config,
                                   pillion_context** context);
void pillion_context_free(pillion_context* context);

/* Appends n tokens and runs them in chunks of n_batch. The last n_outputs of them (0 .. min(n, the
 * config's n_outputs)) get logits and hidden rows, read below by row 0 .. n_outputs-1. CONTEXT_FULL
 * when they do not fit: nothing is run then. After CANCELLED or another failure the context has the
 * length it had before the call; where the sliding caches can no longer go back that far, the
 * chunks already run stay (pillion_context_length tells). */
pillion_status pillion_context_eval(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_outputs);
/* Makes the context hold exactly these tokens, with logits for the last one: keeps the longest
 * usable common prefix and runs the rest (at least one token). n_reused: how many were kept.
 * Usable: the sliding caches, or one of the snapshots, hold the window before its end. Snapshots
 * are kept of where prompts ended (also those of an eval of more than 16 tokens with outputs), and
 * of where texts parted before. */
pillion_status pillion_context_sync(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t* n_reused);
/* A part of the same: goes back to the usable prefix, n_reused, and runs at most n_rows of the
 * tokens behind it, never the last one and without outputs. Called again it goes on from there, and
 * sync runs the rest: a long prompt leaves room for other work between its parts. */
pillion_status pillion_context_read(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_rows, size_t* n_reused);
/* What sync would find: n_common tokens at the beginning are those that the context holds, of
 * which it would keep n_usable. Changes nothing; both are less than n. Either pointer may be NULL.
 */
pillion_status pillion_context_match(const pillion_context* context, const int32_t* tokens,
                                     size_t n, size_t* n_common, size_t* n_usable);
/* Drops all positions >= length. A counter where the sliding caches still hold the window before
 * `length`; otherwise the tokens after the nearest snapshot at or before `length`, or all of them,
 * are run again. Outputs of the last eval become invalid. */
pillion_status pillion_context_rewind(pillion_context* context, size_t length);
pillion_status pillion_context_length(const pillion_context* context, size_t* length,
                                      size_t* n_ctx);
pillion_status pillion_context_tokens(const pillion_context* context, int32_t* tokens,
                                      size_t capacity, size_t* needed);

/* Valid until the next eval, sync, rewind or free. n: n_vocab or n_embd. */
pillion_status pillion_context_logits(const pillion_context* context, size_t row,
                                      const float** logits, size_t* n);
pillion_status pillion_context_hidden(const pillion_context* context, size_t row,
                                      const float** hidden, size_t* n);
/* The k most likely tokens of a row with their log-probabilities (natural log, before any sampler),
 * best first; and, when token
 * >= 0, that token's log-probability. k may be 0, out pointers that are not wanted may be NULL. */
pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k,
                                        int32_t* top_tokens, float* top_logprobs, int32_t token,
                                        float* token_logprob);
/* log p(tokens[i+1] | tokens[0..i]) for i = 0 .. n-2, from an empty context (it is cleared first
 * and holds the tokens after, without outputs). logprobs: n-1 floats. */
pillion_status pillion_context_score(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* logprobs);

/* The mean over all n positions of the hidden rows after the final norm, as one text, from an empty
 * context: it is cleared first and holds the tokens afterwards, without outputs. After CANCELLED or
 * another failure of a run it holds those of the runs of n_batch rows that were done. mean: n_embd
 * floats, the model's n_embd, not normalised; the same bits for any n_batch and number of threads.
 * INVALID_ARGUMENT without tokens or with another n_embd, CONTEXT_FULL when they do not fit: the
 * context is as it was then. Needs no head: about the price of a prompt whose every row goes
 * through
 * all layers. */
pillion_status pillion_context_embed(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* mean, size_t n_embd);

/* Stops a running eval at the next op; the call returns CANCELLED. With nothing running it does
 * nothing: one that comes just before a call begins is forgotten, so a canceller repeats it until
 * the call is over. Any thread. */
pillion_status pillion_context_cancel(pillion_context* context);
/* JSON: where each op of the decode plan runs, kernel table, scratch, KV bytes per layer and store
 * kind. */
pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity,
                                    size_t* needed);

/* What an eval of n more tokens with n_outputs asks of the machine, counted from the graph; routed
 * experts as expected at random. */
typedef struct {
    uint32_t struct_size;
    double multiply_adds; /* of matrix products */
    double weight_bytes;  /* of the matrices that are read, once each run */
    double kv_bytes;      /* of cached keys and values that are read */
} pillion_work;
pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs,
                                    pillion_work* work, size_t size);
/* What the machine can do at best with the context's threads and kernels, measured: about half a
 * second and 256 MB for that time. */
typedef struct {
    uint32_t struct_size;
    double read_bytes_per_second;
    double multiply_adds_per_second; /* int8 dot products; 0: unknown */
} pillion_limits;
pillion_status pillion_context_limits(pillion_context* context, pillion_limits* limits,
                                      size_t size);

typedef struct {
    uint32_t struct_size;
    int32_t n_in, n_experts; /* input channels; matrices that are summed apart: the experts of a
                                routed weight, else 1 */
    const char* name;        /* of the weight, as in the file; ends with NUL */
    /* [n_experts, n_in]: of the squares of each channel over the rows that went through, before
     * rounding */
    const float* sums;
    /* [n_experts]: those rows; 0, and sums of 0, for an expert that was never chosen */
    const float* counts;
} pillion_activation_info;

/* What went into the weights since a context with collect_activations was made. All rows count that
 * ran, also those that were dropped later. Weights behind the last layer with a cache see only rows
 * with outputs: use pillion_context_score, which gives all of them. INVALID_ARGUMENT without
 * collect_activations, and after a run that was broken off. The pointers live until the next call
 * of pillion_context_activation, or free. */
pillion_status pillion_context_activation_count(const pillion_context* context, size_t* n);
pillion_status pillion_context_activation(const pillion_context* context, size_t i,
                                          pillion_activation_info* info, size_t size);

/* JSON: bytes that a context with this config would take on this machine: weights, KV of full and
 * sliding layers, scratch, outputs, and those of a drafter on it (may be NULL). Models opened for
 * metadata only will do: nothing is loaded. Fails as making the context or the pair would. An
 * assistant by itself (no drafter) gives its weights. */
pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter,
                                    const pillion_context_config* config, char* out,
                                    size_t capacity, size_t* needed);

/* Where a device's memory goes, and how many layers it holds: counted before anything is allocated.
 */
typedef struct {
    uint32_t struct_size;
    int32_t n_gpu_layers;     /* as in pillion_model_config: -1, the default, counts */
    const char* device;       /* NULL: "auto" */
    const char* draft_device; /* NULL: "auto", see pillion_draft_device */
    uint64_t device_bytes;    /* of its memory that may be used; 0: what is free now, less a reserve
                                 for its driver */
    int32_t strict;           /* 1: where n_gpu_layers is -1, fewer layers than all are an error */
} pillion_fit_config;
void pillion_fit_config_init(pillion_fit_config* config, size_t size);
/* n_gpu_layers: what to open the model with. Models opened for metadata only will do; drafter may
 * be NULL. JSON: {"device", "is_host", "n_layers", "device_layers", "weights", "kv", "scratch",
 * "total", "available", "note"}, bytes on the device, the drafter's among them where it is there;
 * note: a sentence for the user where not all layers fit, else "". OUT_OF_MEMORY, with the
 * numbers: not even without layers, not so many, strict, or memory that the CPU shares. */
pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_fit_config* config, int32_t* n_gpu_layers, char* out,
                                 size_t capacity, size_t* needed);
/* JSON: {"name", "is_host", "memory": {"total", "free", "unified"}, "info"} of a device name,
 * "auto" among them. NO_BACKEND says why not. */
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
    int32_t penalty_last_n; /* tokens that the penalties see. 0: 64; -1: the whole text; -2: none,
                             * which turns the penalties off */
    uint64_t seed;          /* 0: a random one; any other number is that seed */
    const int32_t* bias_tokens; /* logit_bias: added to the logit; -inf bans */
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
/* The next token from a row of the context's logits. Does not change the context; call accept with
 * the token that was used. */
pillion_status pillion_sampler_sample(pillion_sampler* sampler, const pillion_context* context,
                                      size_t row, int32_t* token);
/* The same among the tokens that the mask allows: bit t % 32 of word t / 32 is token t, n_words is
 * n_vocab / 32 rounded up, further bits play no part. A refused token is out before bias, penalties
 * and top-k see the row: nothing brings it back. INVALID_ARGUMENT: another number of words, or no
 * allowed token whose logit is a number above -inf; the sampler is then as before. */
pillion_status pillion_sampler_sample_masked(pillion_sampler* sampler,
                                             const pillion_context* context, size_t row,
                                             const uint32_t* mask, size_t n_words, int32_t* token);
/* The same from a row of the caller's: n logits of tokens 0 .. n - 1; mask may be NULL. */
pillion_status pillion_sampler_sample_logits(pillion_sampler* sampler, const float* logits,
                                             size_t n, const uint32_t* mask, size_t n_words,
                                             int32_t* token);
/* How many tokens it was fed and how many random numbers it has drawn, and back there: for a caller
 * who takes back what failed half-way. INVALID_ARGUMENT: it is not yet, or since a reset no longer,
 * so far. */
pillion_status pillion_sampler_mark(pillion_sampler* sampler, uint64_t* accepted, uint64_t* drawn);
pillion_status pillion_sampler_go_back(pillion_sampler* sampler, uint64_t accepted, uint64_t drawn);
pillion_status pillion_sampler_accept(pillion_sampler* sampler,
                                      int32_t token); /* feeds the penalties */
pillion_status pillion_sampler_reset(
    pillion_sampler* sampler); /* forgets accepted tokens, restarts the seed */

/* ---- pair: a target and a drafter ---- */

typedef struct pillion_pair pillion_pair;

enum { PILLION_SPECULATION_ON = 1, PILLION_SPECULATION_PARKED = 2, PILLION_SPECULATION_OFF = 3 };
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
    int32_t dense_head; /* 1: score the whole vocabulary even if the drafter has an centroid head */
    int32_t
        strict; /* 1: an centroid head that the file has only in part is an error, not a warning */
    int32_t n_ngram; /* prompt lookup: longest run of tokens to look for; 0: 3 */
    float p_min; /* a draft whose step gives its best token less than this ends the draft; 0: off */
    int32_t sampled; /* 1: drafts are drawn by the sampler and verified by rejection: accepted more
                      * often at a temperature, the text follows the same distribution but is
                      * another than without drafts. Greedy stays exact */
} pillion_pair_config;

void pillion_pair_config_init(pillion_pair_config* config, size_t size);
/* kind: PILLION_DRAFTER_*. drafter: for MODEL and ASSISTANT (pillion_model_info.is_drafter tells an
 * assistant), else NULL. At any time, also after a prompt. INVALID_ARGUMENT: another kind, a
 * drafter that the kind does not take, none where it takes one. PILLION_ERROR_PAIRING: a drafter of
 * another kind; or it names both values when the two do not fit. A drafter on another device than
 * the target's caches may get copies of them, for which the context's tokens run once more
 * (cancelled then, the context is as long as it says). The pair keeps both alive; free it like
 * anything else. The context may still be used by itself between steps. */
pillion_status pillion_pair_new(pillion_context* target, int32_t kind, pillion_model* drafter,
                                const pillion_pair_config* config, pillion_pair** pair);
void pillion_pair_free(pillion_pair* pair);

typedef struct {
    uint32_t struct_size;
    int32_t drafted, accepted; /* of the drafter's tokens; 0 and 0 without a draft */
    int32_t ended;             /* 1: the last token is one of end_tokens */
    float draft_ms, verify_ms, accept_ms;
    int32_t forced; /* accepted drafts of others, behind the `accepted` ones */
} pillion_round_info;

/* One round: drafts, verifies them in one run of the target, and returns the tokens that the
 * sampler chose: at least one, at most n_max. They are those that steps without drafts would give,
 * also when sampling (but see `sampled`). The first step after a prompt returns the token that the
 * prompt's logits give. n_draft: 0 none, 1 .. PILLION_DRAFT_MAX, or PILLION_DRAFT_AUTO: as many as
 * pay off by what was measured. A pair without drafter drafts nothing. The context's output row i
 * is the one that token i was chosen from, until the next call; in the first step after a prompt
 * that is its last row. The last token is not in the cache yet. */
pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                 size_t n_max, const int32_t* end_tokens, size_t n_end,
                                 int32_t* tokens, size_t capacity, size_t* n,
                                 pillion_round_info* info, size_t info_size);

/* The same round in three steps, for callers that have a say in it: a grammar that knows which
 * tokens may come, a function that changes the logits. pillion_pair_step is propose, run and take
 * in one, and on a device without a word from the host in between.
 *
 * propose: the drafter's tokens; capacity: at least PILLION_DRAFT_MAX. None right after a prompt,
 * where nothing has to run, and where "auto" found that drafts do not pay off.
 * run: runs the chosen token and these drafts: the proposal, its beginning, other tokens behind
 * that or alone (forced ones), or none. May come without a proposal. At most pillion_pair_room() of
 * them. take: chooses. Row i of the run gives what follows i drafts. Ends where a choice is not the
 * draft, with an end token, or after n_max tokens.
 *
 * Text: as pillion_pair_step. Statistics, and the draft length of "auto", count the drafter's
 * tokens: one that was proposed and not run counts as refused. Between the steps other calls may
 * read the context (logits); one that changes it ends the round. A step that fails, or is
 * cancelled, leaves pair, context and sampler as before the step: it can be repeated.
 * INVALID_ARGUMENT: take without run; run, propose, room, step or draft between run and take; a
 * context that was changed in between;
 * more drafts than there is room for; CONTEXT_FULL and n_draft as for pillion_pair_step. */
pillion_status pillion_pair_propose(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                    size_t n_max, int32_t* drafts, size_t capacity, size_t* n);
/* first_row: the context's output row that is the round's row 0; may be NULL. */
pillion_status pillion_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                                size_t* first_row);
typedef struct {
    uint32_t struct_size;
    const uint32_t* masks; /* [drafts + 1, words]: of each row, as for
                            * pillion_sampler_sample_masked; NULL: all tokens */
    uint64_t n_mask_words; /* of all rows together */
    const int32_t* chosen; /* the caller's own choice for the first rows: the sampler is neither
                            * asked nor fed; NULL: the sampler's */
    uint64_t n_chosen;
} pillion_choice;
void pillion_choice_init(pillion_choice* choice, size_t size);
/* choice: may be NULL. sampler: may be NULL where the tokens are chosen. A row whose mask refuses
 * all is an error only where the text gets there. */
pillion_status pillion_pair_take(pillion_pair* pair, pillion_sampler* sampler, size_t n_max,
                                 const int32_t* end_tokens, size_t n_end,
                                 const pillion_choice* choice, int32_t* tokens, size_t capacity,
                                 size_t* n, pillion_round_info* info, size_t info_size);
/* Gives up a round that was proposed or run: the pair and its context are as before, and so is the
 * sampler if it is the one of propose (NULL: leave it). Without such a round it does nothing. */
pillion_status pillion_pair_abandon(pillion_pair* pair, pillion_sampler* sampler);
/* Most drafts of the next run: PILLION_DRAFT_MAX, or what context and outputs hold; 0 right after a
 * prompt. */
pillion_status pillion_pair_room(const pillion_pair* pair, size_t* n);

/* As pillion_context_sync, for a pair. */
pillion_status pillion_pair_sync(pillion_pair* pair, const int32_t* tokens, size_t n,
                                 size_t* n_reused);

typedef struct {
    uint32_t struct_size;
    int32_t state;   /* PILLION_SPECULATION_*, of the last step */
    uint64_t rounds; /* with at least one draft */
    uint64_t tokens; /* returned by steps */
    uint64_t drafted, accepted;
    uint64_t drafted_at[8], accepted_at[8]; /* by position in the draft */
    double draft_ms, verify_ms, accept_ms;  /* verify: all runs of the target by steps */
    int32_t n_draft;                        /* what "auto" would take now */
    char kind[16];                          /* "mtp", "model", "lookup"; "": no drafter */
    char head[16];                          /* "ordered", "dense", "" */
    char reason[160];                       /* why paused or off, or why the head is dense */
    uint64_t forced; /* accepted drafts of others; `drafted` counts the drafter's */
} pillion_pair_stats;
pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats,
                                      size_t size);
pillion_status pillion_pair_reset_stats(pillion_pair* pair);

/* JSON: {"kind", "head", "backend", "n_read": tokens of the text that a drafter with a cache of its
 * own ran to follow it, "plan": where each op of one draft step runs}; backend and plan are null
 * without a model. */
pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity,
                                 size_t* needed);

/* What the drafter says after `last`, which would stand at the context's length: up to n tokens,
 * nothing is verified. For tests and benchmarks. draft_row then reads step i: logits [n_vocab]
 * (-inf for tokens that were not scored) and the hidden row handed to the next step [n_embd of the
 * target]; either may be NULL; only assistants have such rows. */
pillion_status pillion_pair_draft(pillion_pair* pair, int32_t last, int32_t n, int32_t* tokens,
                                  size_t capacity, size_t* n_drafted);
pillion_status pillion_pair_draft_row(const pillion_pair* pair, int32_t step, float* logits,
                                      float* hidden);

/* ---- quantize: GGUF to GGUF with other tensor types ---- */

typedef struct pillion_quantization pillion_quantization;

typedef struct {
    uint32_t struct_size;
    int32_t pure;             /* 1: every matrix in the type itself, no mix */
    int32_t allow_requantize; /* 1: the source may be quantised already */
    int32_t n_threads;        /* 0: all cores */
    const char* type;     /* "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K_S",
                           * "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K". Vectors, norms, routers, rotation
                           * factors and the masked embedding stay as they are */
    const char* imatrix;  /* llama.cpp's GGUF importance matrix, or NULL */
    uint64_t n_overrides; /* tensor names, or regular expressions on them, and their type; the last
                             that fits wins */
    const char* const* override_names;
    const char* const* override_types;
} pillion_quantize_config;

void pillion_quantize_config_init(pillion_quantize_config* config, size_t size);
/* A plan: reads headers, decides every tensor's type. Nothing is written. */
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
    char reason[96]; /* why this type, when it is not the one asked for */
} pillion_quantized_tensor;
pillion_status pillion_quantization_tensor(const pillion_quantization* quantization, size_t i,
                                           pillion_quantized_tensor* tensor, size_t size);
/* Streams through slices of rows, reads the result back, and only then gives it its name: a failed
 * or cancelled run leaves nothing. progress: bytes of the source; may be NULL. FILE_CORRUPT names a
 * value that is no finite number, or a full disk. */
pillion_status pillion_quantization_run(pillion_quantization* quantization, const char* out,
                                        pillion_progress_callback progress, void* user);

/* ---- join and split: one model in one file, or in parts NAME-00001-of-00003.gguf ---- */

/* Every call that opens a file takes any part of a model for the whole of it. These copy it, byte
 * for byte, to one file and to several. The result is read back before it gets its name: a failed
 * or cancelled run leaves nothing. progress: bytes of tensors; may be NULL. INVALID_ARGUMENT:
 * nothing to join, an output that is also an input or no regular file, a limit that no part can
 * keep; FILE_CORRUPT: parts that do not belong together, or a full disk; FILE_NOT_FOUND names a
 * part that is missing. */

/* part: any of them, or a file made of them by cat. */
pillion_status pillion_join(const char* part, const char* out, pillion_progress_callback progress,
                            void* user);
/* max_bytes: of a part's file, max_tensors: of a part; 0: any, but not both. n_parts (may be NULL):
 * how many were written, as PREFIX-00001-of-0000N.gguf and so on; ".gguf" at the end of `prefix` is
 * left
 * out. */
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
