// The ops of a plan. Each gets operands whose sizes plan_check.c has checked against the op and the
// buffers; what depends on content (token ids, expert ids) it checks itself and reports with
// op_fail. Rows [0, n) are worked on; a row's result depends on nothing but the row, whatever runs
// beside it and however the op is cut into parts.
#ifndef PILLION_DSP_OPS_H
#define PILLION_DSP_OPS_H

#include "backends/htp/dsp/buffers.h"
#include "backends/htp/dsp/hvx/f32_math.h"
#include "core/contract/step_state.h"

struct op_run {
    const struct htp_op* op;
    uint8_t* in[HTP_IN];
    uint8_t* out[HTP_OUT];
    uint8_t* scratch;
    uint8_t* vtcm;
    int32_t rows, out_rows;  // of the run
    int32_t n_segments;      // of the run, which segments.h looks at
    const PillionSegment* segments;
    const int32_t* table;  // of the op's pages; null: none
    int32_t n, first_row;  // rows of this op, and which row of the run its row 0 is
    uint32_t rows_max;
    struct dsp_why* why;
};

typedef void (*dsp_op)(struct op_run* r);
extern const dsp_op dsp_ops[Op_count];  // null: no kernel

// The op gives up. From any thread; one of several reasons survives.
static inline void op_fail(struct op_run* r, int32_t why, int32_t operand, uint32_t value,
                           uint32_t limit) {
    r->why->operand = operand;
    r->why->value = value;
    r->why->limit = limit;
    __atomic_store_n(&r->why->why, why, __ATOMIC_RELEASE);
}

static inline float* in_row(const struct op_run* r, int k, int32_t row) {
    return (float*)(r->in[k] + (uint64_t)r->op->in[k].stride * (uint32_t)row);
}
static inline float* out_row(const struct op_run* r, int k, int32_t row) {
    return (float*)(r->out[k] + (uint64_t)r->op->out[k].stride * (uint32_t)row);
}

// Calls `each` for rows [0, n), cut into the op's threads.
typedef void (*op_row)(struct op_run* r, int32_t row);
void op_rows(struct op_run* r, op_row each);

// The same for ops whose elements do not know each other: rows of `width` are cut into chunks too,
// so that a single row keeps all threads busy.
typedef void (*op_chunk)(struct op_run* r, int32_t row, uint32_t begin, uint32_t n);
void op_chunks(struct op_run* r, uint32_t width, op_chunk each);

// Share [begin, end) of part `part` when n things are cut.
static inline uint32_t part_begin(uint32_t n, unsigned part, unsigned parts) {
    return (uint32_t)((uint64_t)n * part / parts);
}

// --- kernels that ops share ---

float rms_inverse(const float* x, uint32_t n, float eps);  // 1 / sqrt(mean(x^2) + eps)
void quantize_row(const float* x, uint32_t inputs,
                  uint8_t* act);  // htp_act_row_bytes; all of the row
void quantize_chunk(const float* x, uint32_t inputs, uint8_t* act, uint32_t first,
                    uint32_t end);  // inputs [first, end), multiples of 128

#define HTP_KERNEL(name) void op_##name(struct op_run* r);
#include "backends/htp/wire/htp_kernels.def"
#undef HTP_KERNEL

#endif
