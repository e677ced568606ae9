// Routed experts. The (row, slot) pairs of a run are sorted by expert, so that an expert's weights
// are read once for all rows that chose it. A pair's result doesn't depend on its neighbours.
#include <string.h>

#include "backends/htp/dsp/ops/matmul_panels.h"
#include "backends/htp/dsp/workers.h"

// e^x of x <= 0 to f32 precision: in double, since these few numbers weigh all that follows.
static float exp_exact(float x) {
    if (x != x) return x;
    if (x < -104.0f) return 0.0f;
    const double magic = 6755399441055744.0;  // 1.5 * 2^52
    const double n = ((double)x * 1.44269504088896340736 + magic) - magic;
    const double r = ((double)x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 1.0, term = 1.0;
    for (int i = 1; i < 14; i++) term *= r / i, p += term;
    union {
        uint64_t u;
        double d;
    } power = {(uint64_t)((int64_t)n + 1023) << 52};
    return (float)(p * power.d);
}

// The n_used largest logits (lowest index first among equals); their soft-max over themselves,
// times the expert's scale.
static void route_row(struct op_run* r, int32_t row) {
    const MoeParams p = r->op->params.moe;
    const float *logits = in_row(r, 0, row), *scale = (const float*)r->in[1];
    int32_t ids[HTP_EXPERTS_USED_MAX];
    float gates[HTP_EXPERTS_USED_MAX], sum = 0.0f;
    for (int k = 0; k < p.n_used; k++) {
        int best = -1;
        for (int e = 0; e < p.n_experts; e++) {
            int taken = 0;
            for (int j = 0; j < k; j++) taken |= ids[j] == e;
            if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
        }
        ids[k] = best;
    }
    for (int k = 0; k < p.n_used; k++) sum += gates[k] = exp_exact(logits[ids[k]] - logits[ids[0]]);
    for (int k = 0; k < p.n_used; k++) gates[k] = gates[k] / sum * (scale ? scale[ids[k]] : 1.0f);
    memcpy(out_row(r, 0, row), ids, 4ull * (uint32_t)p.n_used);
    memcpy(out_row(r, 1, row), gates, 4ull * (uint32_t)p.n_used);
}
void op_moe_route(struct op_run* r) { op_rows(r, route_row); }

static void sum_row(struct op_run* r, int32_t row) {
    const float *x = in_row(r, 0, row), *gates = in_row(r, 1, row);
    float* y = out_row(r, 0, row);
    const uint32_t n = r->op->out[0].width;
    for (uint32_t i = 0; i < n; i += 32) {
        HVX_Vector sum = f32_scale(f32_load(x + i), gates[0]);
        for (int k = 1; k < r->op->params.moe.n_used; k++)
            sum = f32_scale_add(sum, f32_load(x + (uint32_t)k * n + i), gates[k]);
        f32_store_first(y + i, sum, n - i);
    }
}
void op_moe_sum(struct op_run* r) { op_rows(r, sum_row); }

// ---- product ----

struct moe {
    struct op_run* r;
    struct panel_matrix expert;  // expert 0
    uint64_t expert_bytes, act_bytes;
    uint8_t* act;  // quantized inputs, [row * per_row + k]
    int32_t n_active, *active, *begin, *next, *pairs;
};

static const float* input_of(const struct moe* m, int32_t pair, uint32_t* index) {
    const MoeParams p = m->r->op->params.moe;
    const int32_t row = pair / p.n_used, k = p.per_row == 1 ? 0 : pair % p.n_used;
    *index = (uint32_t)(row * p.per_row + k);
    return in_row(m->r, 1, row) + (uint32_t)k * m->expert.inputs;
}

static void quantize_input(struct op_run* r, int32_t row) {
    const MoeParams p = r->op->params.moe;
    const uint32_t inputs = r->op->in[0].width;
    uint8_t* act = r->scratch + htp_moe_list_bytes((uint32_t)p.n_experts,
                                                   (uint64_t)r->rows_max * (uint32_t)p.n_used);
    for (int32_t k = 0; k < p.per_row; k++)
        quantize_row(in_row(r, 1, row) + (uint32_t)k * inputs, inputs,
                     act + (uint64_t)(uint32_t)(row * p.per_row + k) * htp_act_row_bytes(inputs));
}

// A counting sort: pairs of an expert keep their order. -1: an id that is no expert.
static int sort_pairs(struct moe* m) {
    const MoeParams p = m->r->op->params.moe;
    memset(m->next, 0, 4ull * (uint32_t)p.n_experts);
    for (int32_t pair = 0; pair < m->r->n * p.n_used; pair++) {
        const int32_t e = ((const int32_t*)in_row(m->r, 2, pair / p.n_used))[pair % p.n_used];
        if (e < 0 || e >= p.n_experts)
            return op_fail(m->r, HTP_WHY_TOKEN, 2, (uint32_t)e, (uint32_t)p.n_experts), -1;
        m->next[e]++;
    }
    int32_t at = 0;
    for (int32_t e = 0; e < p.n_experts; e++) {
        const int32_t count = m->next[e];
        m->next[e] = at;
        if (count > 0) m->active[m->n_active] = e, m->begin[m->n_active++] = at;
        at += count;
    }
    m->begin[m->n_active] = at;
    for (int32_t pair = 0; pair < m->r->n * p.n_used; pair++)
        m->pairs[m->next[((const int32_t*)in_row(m->r, 2, pair / p.n_used))[pair % p.n_used]]++] =
            pair;
    return 0;
}

// All threads walk all active experts, each its share of the panels.
static void experts_part(void* args, unsigned part, unsigned parts) {
    const struct moe* m = args;
    const struct htp_tiling* tiling = &m->r->op->tiling;
    const uint32_t panels = (uint32_t)htp_panels(m->expert.rows);
    for (int32_t a = 0; a < m->n_active; a++) {
        struct panel_matrix expert = m->expert;
        expert.panels += m->expert_bytes * (uint32_t)m->active[a];
        for (int32_t i = m->begin[a]; i < m->begin[a + 1];) {
            struct panel_rows
                sets[(HTP_MATMUL_ROWS_MAX + HTP_MICROKERNEL_ROWS - 1) / HTP_MICROKERNEL_ROWS];
            unsigned n_sets = 0;
            for (int32_t n = 0; n < HTP_MATMUL_ROWS_MAX && i < m->begin[a + 1]; n++, i++) {
                if (n % HTP_MICROKERNEL_ROWS == 0) sets[n_sets++].n = 0;
                struct panel_rows* s = &sets[n_sets - 1];
                const int32_t pair = m->pairs[i], used = m->r->op->params.moe.n_used;
                uint32_t index;
                s->x[s->n] = input_of(m, pair, &index);
                s->act[s->n] = m->act ? m->act + index * m->act_bytes : 0;  // none of floats
                s->out[s->n++] =
                    out_row(m->r, 0, pair / used) + (uint32_t)(pair % used) * m->expert.rows;
            }
            panel_range(&expert, part_begin(panels, part, parts),
                        part_begin(panels, part + 1, parts), sets, n_sets, tiling,
                        m->r->vtcm + tiling->vtcm_offset + 2ull * part * tiling->fetch_bytes);
        }
    }
}

void op_moe_matmul(struct op_run* r) {
    const struct htp_tensor* w = &r->op->in[0];
    const MoeParams p = r->op->params.moe;
    struct moe m = {.r = r, .expert = {w->dtype, w->width, w->rows, r->in[0], w->stride}};
    m.expert_bytes = htp_packed_bytes(w->dtype, w->width, w->rows);
    m.active = (int32_t*)r->scratch + 1;
    m.begin = m.active + p.n_experts;
    m.next = m.begin + p.n_experts + 1;
    m.pairs = m.next + p.n_experts;
    if (sort_pairs(&m)) return;
    if (!htp_is_float(w->dtype)) {
        m.act_bytes = htp_act_row_bytes(w->width);
        m.act = r->scratch + htp_moe_list_bytes((uint32_t)p.n_experts,
                                                (uint64_t)r->rows_max * (uint32_t)p.n_used);
        op_rows(r, quantize_input);
    }
    workers_run(experts_part, &m, r->op->tiling.threads);
}
