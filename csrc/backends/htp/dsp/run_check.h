#ifndef PILLION_DSP_RUN_CHECK_H
#define PILLION_DSP_RUN_CHECK_H

#include "backends/htp/dsp/session.h"

// Fills p->paged from its ops. 0, or -1: no memory.
int collect_paged(struct dsp_plan* p);
// Whether a plan may run with this state, which lies in our own memory: rows, segments, and every
// page that an op would reach by a table. 0, or -1 with the reason.
int run_check(const struct dsp_buffer* buffers, const struct dsp_plan* p,
              const PillionStepState* state, struct dsp_why* why);
// First entry of an op's page table; null: it has none.
const int32_t* table_of(const struct dsp_buffer* buffers, const struct htp_op* op);

#endif
