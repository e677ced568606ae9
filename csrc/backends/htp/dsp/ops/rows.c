// Ops without arithmetic to speak of: one value in, one value out, or copies.
#include <string.h>

#include "backends/htp/dsp/ops/ops.h"

static void scale_row(struct op_run* r, int32_t row) {
    const float *x = in_row(r, 0, row), s = r->op->params.scale.scale;
    float* y = out_row(r, 0, row);
    const uint32_t n = r->op->out[0].width;
    for (uint32_t i = 0; i < n; i += 32) f32_store_first(y + i, f32_scale(f32_load(x + i), s), n - i);
}
void op_scale(struct op_run* r) { op_rows(r, scale_row); }

static void add_row(struct op_run* r, int32_t row) {
    const float *a = in_row(r, 0, row), *b = in_row(r, 1, row);
    float* y = out_row(r, 0, row);
    const uint32_t n = r->op->out[0].width;
    for (uint32_t i = 0; i < n; i += 32) f32_store_first(y + i, f32_add(f32_load(a + i), f32_load(b + i)), n - i);
}
void op_add(struct op_run* r) { op_rows(r, add_row); }

// act(gate) * up
static void glu(const float* gate, const float* up, float* y, uint32_t n, int32_t activation) {
    if (activation == HTP_SILU)
        for (uint32_t i = 0; i < n; i += 32) f32_store_first(y + i, f32_mul(f32_silu(f32_load(gate + i)), f32_load(up + i)), n - i);
    else
        for (uint32_t i = 0; i < n; i += 32) f32_store_first(y + i, f32_mul(f32_gelu(f32_load(gate + i)), f32_load(up + i)), n - i);
}
static void geglu_row(struct op_run* r, int32_t row) {
    const struct htp_glu_params p = r->op->params.glu;
    const float* gate = in_row(r, 0, row);
    float* y = out_row(r, 0, row);
    if (p.groups == 0) return glu(gate, in_row(r, 1, row) + p.up_offset, y, r->op->out[0].width, p.activation);
    const uint32_t n = r->op->out[0].width / (uint32_t)p.groups;
    for (uint32_t g = 0; g < (uint32_t)p.groups; g++) glu(gate + 2 * g * n, gate + (2 * g + 1) * n, y + g * n, n, p.activation);
}
void op_geglu(struct op_run* r) { op_rows(r, geglu_row); }

static void gather_row(struct op_run* r, int32_t row) {
    memcpy(out_row(r, 0, row), in_row(r, 0, r->rows - r->out_rows + row), 4ull * r->op->out[0].width);
}
void op_gather_rows(struct op_run* r) { op_rows(r, gather_row); }

static void concat_row(struct op_run* r, int32_t row) {
    const uint32_t a = r->op->in[0].width, b = r->op->in[1].width;
    float* y = out_row(r, 0, row);
    memcpy(y, in_row(r, 0, row), 4ull * a);
    memcpy(y + a, in_row(r, 1, row), 4ull * b);
}
void op_concat(struct op_run* r) { op_rows(r, concat_row); }

static void softcap_row(struct op_run* r, int32_t row) {
    float *x = in_row(r, 0, row), cap = r->op->params.softcap.cap;
    const uint32_t n = r->op->in[0].width;
    for (uint32_t i = 0; i < n; i += 32) f32_store_first(x + i, f32_capped(f32_load(x + i), cap), n - i);
}
void op_softcap(struct op_run* r) { op_rows(r, softcap_row); }
