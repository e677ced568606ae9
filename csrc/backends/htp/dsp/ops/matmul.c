// y[row] = W x[row]. Rows go in tiles of rows_at_once. Each tile is quantized, then the weights are
// read once for it.
#include "backends/htp/dsp/ops/matmul_panels.h"
#include "backends/htp/dsp/workers.h"

struct matmul {
    struct op_run* r;
    struct panel_matrix m;
    int32_t first, n;    // rows of the tile
    uint64_t act_bytes;  // of a quantized row; 0: float weights
};

// A few rows are split along their inputs.
static void quantize_part(void* args, unsigned part, unsigned parts) {
    const struct matmul* t = args;
    const uint32_t chunks = (t->m.inputs + 127) / 128, all = (uint32_t)t->n * chunks;
    uint32_t i = part_begin(all, part, parts);
    const uint32_t end = part_begin(all, part + 1, parts);
    while (i < end) {
        const uint32_t row = i / chunks, first = i % chunks,
                       n = chunks - first < end - i ? chunks - first : end - i;
        const uint32_t stop = (first + n) * 128 < t->m.inputs ? (first + n) * 128 : t->m.inputs;
        quantize_chunk(in_row(t->r, 1, t->first + (int32_t)row), t->m.inputs,
                       t->r->scratch + row * t->act_bytes, first * 128, stop);
        i += n;
    }
}

static void multiply_part(void* args, unsigned part, unsigned parts) {
    const struct matmul* t = args;
    const struct htp_tiling* tiling = &t->r->op->tiling;
    const uint32_t panels = (uint32_t)htp_panels(t->m.rows);
    struct panel_rows sets[(HTP_MATMUL_ROWS_MAX + HTP_MICROKERNEL_ROWS - 1) / HTP_MICROKERNEL_ROWS];
    unsigned n_sets = 0;
    for (int32_t row = 0; row < t->n; row++) {
        if (row % HTP_MICROKERNEL_ROWS == 0) sets[n_sets++].n = 0;
        struct panel_rows* s = &sets[n_sets - 1];
        s->act[s->n] = t->act_bytes ? t->r->scratch + (uint32_t)row * t->act_bytes : 0;
        s->x[s->n] = in_row(t->r, 1, t->first + row);
        s->out[s->n++] = out_row(t->r, 0, t->first + row);
    }
    panel_range(&t->m, part_begin(panels, part, parts), part_begin(panels, part + 1, parts), sets,
                n_sets, tiling,
                t->r->vtcm + tiling->vtcm_offset + 2ull * part * tiling->fetch_bytes);
}

void op_matmul(struct op_run* r) {
    const struct htp_tensor* w = &r->op->in[0];
    struct matmul t = {r,
                       {w->dtype, w->width, w->rows, r->in[0], w->stride},
                       0,
                       0,
                       htp_is_float(w->dtype) ? 0 : htp_act_row_bytes(w->width)};
    const int32_t at_once =
        r->op->tiling.rows_at_once ? (int32_t)r->op->tiling.rows_at_once : HTP_MATMUL_ROWS_MAX;
    for (; t.first < r->n; t.first += at_once) {
        t.n = r->n - t.first < at_once ? r->n - t.first : at_once;
        if (t.act_bytes) workers_run(quantize_part, &t, r->op->tiling.threads);
        workers_run(multiply_part, &t, r->op->tiling.threads);
    }
}
