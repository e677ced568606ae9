// The end of a model: which token is the most likely one, and the head that scores only the tokens
// of the best clusters.
#include <string.h>

#include "backends/htp/dsp/ops/matmul_panels.h"
#include "backends/htp/dsp/workers.h"

// Max and sum of exp(x - max): the soft-max's denominator.
static void softmax_stats(const float* x, uint32_t n, float* top, float* sum) {
    const HVX_Vector none = f32_splat(F32_NONE);
    HVX_Vector m = none;
    for (uint32_t i = 0; i < n; i += 32)
        m = f32_max(m, hvx_keep_lanes(f32_load(x + i), none, 0, (int32_t)(n - i)));
    *top = f32_largest(m);
    const HVX_Vector t = f32_splat(*top == F32_NONE ? 0.0f : *top);
    HVX_Vector l = Q6_V_vzero();
    for (uint32_t i = 0; i < n; i += 32)
        l = f32_sum_add(l, hvx_keep_lanes(f32_exp(f32_sub(f32_load(x + i), t)), Q6_V_vzero(), 0,
                                          (int32_t)(n - i)));
    *sum = f32_sum(l);
}

// Lowest index of the largest; NaN never wins. A run's maximum first, then its place in the first
// run that has it.
static uint32_t argmax(const float* x, uint32_t n) {
    enum { RUN = 1024 };
    const HVX_Vector none = f32_splat(F32_NONE);
    float best = F32_NONE;
    uint32_t from = 0, to = n;
    for (uint32_t begin = 0; begin < n; begin += RUN) {
        const uint32_t end = n - begin < RUN ? n : begin + RUN;
        HVX_Vector m = none;
        for (uint32_t i = begin; i < end; i += 32)
            m = f32_max(
                hvx_keep_lanes(f32_without_nan(f32_load(x + i)), none, 0, (int32_t)(end - i)), m);
        const float top = f32_largest(m);
        if (top > best) best = top, from = begin, to = end;
    }
    for (uint32_t i = from; i < to; i++)
        if (x[i] == best) return i;
    return 0;
}

static void argmax_row(struct op_run* r, int32_t row) {
    const float* x = in_row(r, 0, row);
    const uint32_t n = r->op->in[0].width;
    uint32_t best = argmax(x, n);
    int32_t* token = (int32_t*)out_row(r, 0, row);
    if (r->in[1]) {
        const int32_t* ids =
            (const int32_t*)in_row(r, 1, r->op->in[1].counts == Rows_fixed ? 0 : row);
        for (uint32_t i = best + 1; i < n;
             i++)  // among equals the lowest token, wherever it stands
            if (x[i] == x[best] && ids[i] < ids[best]) best = i;
        *token = ids[best];
    } else {
        *token = (int32_t)best;
    }
    if (!r->out[1]) return;
    float top, sum;
    softmax_stats(x, n, &top, &sum);
    *out_row(r, 1, row) = 1.0f / sum;
}
void op_argmax(struct op_run* r) { op_rows(r, argmax_row); }

// ---- centroid head ----

static int32_t* chosen_of(const struct op_run* r, int32_t row) {
    return (int32_t*)r->scratch + (uint32_t)row * (uint32_t)r->op->params.centroid_head.n_active;
}
static uint8_t* act_of_row(const struct op_run* r, int32_t row) {
    const uint64_t lists =
        htp_round_up((uint64_t)r->rows_max * (uint32_t)r->op->params.centroid_head.n_active * 4,
                     128);
    return r->scratch + lists + (uint32_t)row * htp_act_row_bytes(r->op->in[2].width);
}

// The n_active best clusters, best first, the lower index first among equals.
static void select_row(struct op_run* r, int32_t row) {
    const CentroidHeadParams p = r->op->params.centroid_head;
    const float* scores = in_row(r, 0, row);
    int32_t *chosen = chosen_of(r, row), n = 0;
    for (int32_t c = 0; c < p.n_centroids; c++) {
        if (n == p.n_active && !(scores[c] > scores[chosen[n - 1]])) continue;
        int32_t at = n < p.n_active ? n++ : n - 1;
        for (; at > 0 && scores[c] > scores[chosen[at - 1]]; at--) chosen[at] = chosen[at - 1];
        chosen[at] = c;
    }
    if (!htp_is_float(r->op->in[2].dtype))
        quantize_row(in_row(r, 1, row), r->op->in[2].width, act_of_row(r, row));
}

// One panel of one row's cluster. Clusters need not begin at a panel: what belongs to a neighbour
// is not copied out.
static void cluster_panel(const struct panel_matrix* m, const struct panel_rows* one,
                          uint32_t panel, uint32_t begin, uint32_t count, float* logits) {
    float acc[32] __attribute__((aligned(128))) = {0};
    panel_groups(m->dtype, m->panels + panel * m->panel_bytes,
                 (uint32_t)htp_groups(m->dtype, m->inputs), 0, m->inputs, one, acc);
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t row = panel * 32 + i;
        if (row >= begin && row < begin + count) logits[row - begin] = acc[i];
    }
}

static void clusters_part(void* args, unsigned part, unsigned parts) {
    struct op_run* r = args;
    const CentroidHeadParams p = r->op->params.centroid_head;
    const struct htp_tensor* w = &r->op->in[2];
    const struct panel_matrix m = {w->dtype, w->width, w->rows, r->in[2], w->stride};
    const uint32_t size = w->rows / (uint32_t)p.n_centroids,
                   n = (uint32_t)r->n * (uint32_t)p.n_active;
    const int32_t* order = (const int32_t*)r->in[3];
    for (uint32_t i = part_begin(n, part, parts); i < part_begin(n, part + 1, parts); i++) {
        const int32_t row = (int32_t)(i / (uint32_t)p.n_active);
        const uint32_t slot = i % (uint32_t)p.n_active,
                       begin = (uint32_t)chosen_of(r, row)[slot] * size;
        const struct panel_rows one = {
            1, {htp_is_float(w->dtype) ? 0 : act_of_row(r, row)}, {in_row(r, 1, row)}, {0}};
        float* logits = out_row(r, 0, row) + slot * size;
        for (uint32_t panel = begin / 32; panel <= (begin + size - 1) / 32; panel++)
            cluster_panel(&m, &one, panel, begin, size, logits);
        memcpy(out_row(r, 1, row) + slot * size, order + begin, 4ull * size);
    }
}

void op_centroid_head(struct op_run* r) {
    op_rows(r, select_row);
    workers_run(clusters_part, r, r->op->tiling.threads);
}
