// Ops without arithmetic to speak of: one value in, one value out, or copies.
#include <string.h>

#include "backends/htp/dsp/ops/ops.h"

static void scale_chunk(struct op_run* r, int32_t row, uint32_t begin, uint32_t n) {
    const float *x = in_row(r, 0, row) + begin, s = r->op->params.scale.scale;
    float* y = out_row(r, 0, row) + begin;
    F32_ROW(y, n, i, f32_scale(f32_load(x + i), s));
}
void op_scale(struct op_run* r) { op_chunks(r, r->op->out[0].width, scale_chunk); }

static void add_chunk(struct op_run* r, int32_t row, uint32_t begin, uint32_t n) {
    const float *a = in_row(r, 0, row) + begin, *b = in_row(r, 1, row) + begin;
    float* y = out_row(r, 0, row) + begin;
    F32_ROW(y, n, i, f32_add(f32_load(a + i), f32_load(b + i)));
}
void op_add(struct op_run* r) { op_chunks(r, r->op->out[0].width, add_chunk); }

// act(gate) * up
static void glu(const float* gate, const float* up, float* y, uint32_t n, int32_t activation) {
    if (activation == Activation_silu)
        F32_ROW(y, n, i, f32_mul(f32_silu(f32_load(gate + i)), f32_load(up + i)));
    else F32_ROW(y, n, i, f32_mul(f32_gelu(f32_load(gate + i)), f32_load(up + i)));
}
static void glu_chunk(struct op_run* r, int32_t row, uint32_t begin, uint32_t n) {
    const GluParams p = r->op->params.glu;
    glu(in_row(r, 0, row) + begin, in_row(r, 1, row) + p.up_offset + begin,
        out_row(r, 0, row) + begin, n, p.activation);
}
// Gates and ups of several groups in one operand.
static void glu_groups(struct op_run* r, int32_t row) {
    const GluParams p = r->op->params.glu;
    const float* x = in_row(r, 0, row);
    const uint32_t n = r->op->out[0].width / (uint32_t)p.groups;
    for (uint32_t g = 0; g < (uint32_t)p.groups; g++)
        glu(x + 2 * g * n, x + (2 * g + 1) * n, out_row(r, 0, row) + g * n, n, p.activation);
}
void op_glu(struct op_run* r) {
    if (r->op->params.glu.groups) op_rows(r, glu_groups);
    else op_chunks(r, r->op->out[0].width, glu_chunk);
}

static void gather_row(struct op_run* r, int32_t row) {
    memcpy(out_row(r, 0, row), in_row(r, 0, r->rows - r->out_rows + row),
           4ull * r->op->out[0].width);
}
void op_gather_rows(struct op_run* r) { op_rows(r, gather_row); }

static void concat_row(struct op_run* r, int32_t row) {
    const uint32_t a = r->op->in[0].width, b = r->op->in[1].width;
    float* y = out_row(r, 0, row);
    memcpy(y, in_row(r, 0, row), 4ull * a);
    memcpy(y + a, in_row(r, 1, row), 4ull * b);
}
void op_concat(struct op_run* r) { op_rows(r, concat_row); }

static void softcap_chunk(struct op_run* r, int32_t row, uint32_t begin, uint32_t n) {
    float *x = in_row(r, 0, row) + begin, cap = r->op->params.softcap.cap;
    F32_ROW(x, n, i, f32_capped(f32_load(x + i), cap));
}
void op_softcap(struct op_run* r) { op_chunks(r, r->op->in[0].width, softcap_chunk); }
