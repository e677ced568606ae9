/* What the parts of the fake share. */
#ifndef FAKE_STATE_H
#define FAKE_STATE_H

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fake_pillion.h"

enum {
    N_BYTES = 256,
    BOS = 256,
    EOS = 257,
    TURN = 258,
    TURN_END = 259,
    IMAGE = 260,
    N_VOCAB = 261,
    N_WORDS = 9,
    N_EMBD = 8
};

typedef struct { char key[64], value[2048]; } entry;
struct pillion_tokenizer {
    atomic_int count;
    int32_t suppressed;
};
struct pillion_model {
    atomic_int count;
    pillion_tokenizer* tokenizer;
    int metadata_only, is_drafter, n_entries;
    char arch[32];
    entry entries[32];
};
/* What the contexts of a batch share, and a context without one has to itself. */
typedef struct {
    atomic_int count;
    atomic_flag inside;
    atomic_int cancel, running;
    int n_sequences, n_live;
} fake_machine;
struct pillion_context {
    pillion_model* model;
    atomic_int count;
    fake_machine* machine;
    size_t n_ctx, max_outputs, length, n_rows;
    int collects;
    float sums[N_EMBD], n_summed; /* of one weight, "fake.weight", that is fed token + channel */
    unsigned n_changes;
    int32_t* tokens;
    float (*logits)[N_VOCAB];
    float (*hidden)[N_EMBD];
};

extern atomic_size_t fake_objects, fake_tokens_run; /* not freed; tokens run */
extern uint32_t fake_lying;                         /* bit i: drafts at position i are wrong */

/* Keeps the sentence; returns the code. */
pillion_status fake_error(pillion_status code, const char* sentence);
pillion_status fake_invalid(const char* sentence);
/* Clears the error; fails when a test has asked for it. */
pillion_status fake_begin(const char* function);
/* n items into a buffer of that capacity. */
pillion_status fake_give(const void* data, size_t n, size_t item, void* out, size_t capacity,
                         size_t* needed);
/* A caller's struct of any size, copied into one of ours; refuses a surplus that is not zero. */
int fake_read_config(void* mine, size_t my_size, const void* theirs);
void fake_init_config(void* config, size_t size);
void fake_write_info(void* theirs, size_t size, void* mine, size_t my_size);
/* A token, or a tenth of a load, begins: "eval", "load". */
void fake_dawdle(const char* at);
void fake_free_tokenizer(pillion_tokenizer* tokenizer);
void fake_release(pillion_model* model);
/* Metadata, or NULL. */
const char* fake_find(const pillion_model* model, const char* key);
/* One caller at a time. */
pillion_status fake_enter(const pillion_context* context);
pillion_status fake_sample(pillion_sampler* sampler, const pillion_context* context, size_t row,
                           const uint32_t* mask, int32_t* token);
pillion_status fake_leave(const pillion_context* context, pillion_status status);
/* A context on that machine, or on one of its own. */
pillion_status fake_new_context(pillion_model* model, const pillion_context_config* given,
                                fake_machine* machine, pillion_context** out);
void fake_release_machine(fake_machine* machine);
size_t fake_common(const pillion_context* context, const int32_t* tokens, size_t n);
/* A pair's round in its steps; without entering. */
pillion_status fake_pair_propose(pillion_pair* pair, int32_t n_draft, size_t n_max, int32_t* drafts,
                                 size_t* n);
pillion_status fake_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                             size_t* first_row);
pillion_status fake_pair_take(pillion_pair* pair, pillion_sampler* sampler,
                              const pillion_choice* choice, size_t n_max, const int32_t* ends,
                              size_t n_ends, int32_t* tokens, size_t* n, pillion_round_info* info);
void fake_pair_abandon(pillion_pair* pair);
pillion_context* fake_pair_context(const pillion_pair* pair);
/* Evaluates; without entering. */
pillion_status fake_run(pillion_context* context, const int32_t* tokens, size_t n,
                        size_t n_outputs);
/* Keeps the common beginning; enters by itself. */
pillion_status fake_sync(pillion_context* context, const int32_t* tokens, size_t n,
                         size_t* n_reused);
/* What comes at this length, after this token: the script, else the letter after the last. */
int32_t fake_next_token(size_t length, int32_t last);
static inline int known(int32_t token) { return token >= 0 && token < N_VOCAB; }

#define TRY(call)                      \
    do {                               \
        pillion_status status_ = call; \
        if (status_) return status_;   \
    } while (0)
#define BEGIN() TRY(fake_begin(__func__))
#define ENTER(context) TRY(fake_enter(context))
#define NEED(condition)                                                       \
    do {                                                                      \
        if (!(condition)) return fake_invalid("this must hold: " #condition); \
    } while (0)

#endif
