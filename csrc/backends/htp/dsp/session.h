// One host's buffers and plans, and the answer to each of its messages. Knows nothing of rings,
// queues or files: those call session_answer and supply the two platform functions.
#ifndef PILLION_DSP_SESSION_H
#define PILLION_DSP_SESSION_H

#include "backends/htp/dsp/buffers.h"
#include "core/contract/step_state.h"

// --- supplied by the platform (main_sim.c; FastRPC) ---
// Memory of a host's buffer, or null with errno set; m->fd comes back when it is unmapped.
uint8_t* platform_map(const struct htp_map* m);
void platform_unmap(uint8_t* base, uint32_t bytes, int fd);
uint32_t platform_usecs(void);
// What a profile holds the difference of: platform_usecs, unless the platform counts something
// else.
uint32_t platform_profile(void);
// Before op `op` of a run; HTP_OK or an injected failure.
int32_t platform_before_op(uint32_t op);
void platform_run_begins(void);
// Lets the host see what was written. Does nothing unless the platform defines it: caches are
// coherent but for the device's.
void platform_flush(const uint8_t* at, uint64_t bytes);
// Before a word is read that the host may have written meanwhile; it has a line of its own. Does
// nothing either.
void platform_refresh(const void* word);

struct dsp_range {
    uint32_t buffer;
    uint64_t first, end;
};

struct dsp_plan {
    struct htp_op* ops;  // our copy; null: no plan
    uint32_t n_ops, rows_max, out_rows_max;
    uint64_t uses;              // bit b: names buffer b
    struct dsp_range* written;  // by its ops, caches of keys and values apart; merged, in order
    uint32_t n_written;
    uint32_t* paged;  // ops that reach pages by a table, one of those that reach the same
    uint32_t n_paged;
};

struct dsp_session {
    struct dsp_buffer buffer[HTP_BUFFERS_MAX];
    struct dsp_plan plan[HTP_PLANS_MAX];
};

void session_begin(struct dsp_session* s);
void session_end(struct dsp_session* s);
// Fills m->answer (and m->u.info). 1: the last message.
int session_answer(struct dsp_session* s, struct htp_message* m);

#endif
