// Chooses the kernel of a format and walks over a matrix: panel after panel, chunk after chunk, all
// rows of a tile at each chunk.
#include "backends/htp/dsp/ops/matmul_panels.h"

#include "backends/htp/dsp/ops/matmul_kernels.h"

void panel_groups(uint32_t dtype, const uint8_t* groups, uint32_t n_groups, uint32_t first,
                  uint32_t inputs, const struct panel_rows* rows, float* acc) {
    const struct groups g = {groups, n_groups, first, inputs, rows, acc};
    switch (dtype) {
        case DType_q4_0: q4_0_panel(&g); break;
        case DType_q4_1: q4_1_panel(&g); break;
        case DType_q5_0: q5_0_panel(&g); break;
        case DType_q5_1: q5_1_panel(&g); break;
        case DType_q8_0: q8_0_panel(&g); break;
        case DType_iq4_nl: iq4_nl_panel(&g); break;
        case DType_q2_k: q2_k_panel(&g); break;
        case DType_q3_k: q3_k_panel(&g); break;
        case DType_q4_k: q4_k_panel(&g); break;
        case DType_q5_k: q5_k_panel(&g); break;
        case DType_q6_k: q6_k_panel(&g); break;
        case DType_iq4_xs: iq4_xs_panel(&g); break;
        case DType_mxfp4_x: mxfp4_x_panel(&g); break;
        case DType_nvfp4_x: nvfp4_x_panel(&g); break;
        case DType_iq3_xxs_x: iq3_xxs_x_panel(&g); break;
        case DType_iq3_s_x: iq3_s_x_panel(&g); break;
        case DType_iq2_x: iq2_x_panel(&g); break;
        case DType_iq1_x: iq1_x_panel(&g); break;
        case DType_tq2_0: tq2_0_panel(&g); break;
        case DType_f16: f16_panel(&g); break;
        case DType_bf16: bf16_panel(&g); break;
        default: f32_panel(&g); break;
    }
}

// ---- chunks ----

enum { SETS_MAX = (HTP_MATMUL_ROWS_MAX + HTP_MICROKERNEL_ROWS - 1) / HTP_MICROKERNEL_ROWS };

// The chunks of a range of panels lie one behind the other in memory. The last chunk of a panel may
// be short.
struct chunks {
    const struct panel_matrix* m;
    uint32_t groups, fetch_groups, panel, end, first;
};
// Returns the groups of the next chunk; 0 at the end.
static uint32_t next_chunk(struct chunks* p, const uint8_t** at) {
    if (p->panel == p->end) return 0;
    const uint32_t left = p->groups - p->first, n = left < p->fetch_groups ? left : p->fetch_groups;
    *at = p->m->panels + p->panel * p->m->panel_bytes +
          (uint64_t)p->first * htp_group_bytes(p->m->dtype);
    p->first += n;
    if (p->first == p->groups) p->first = 0, p->panel++;
    return n;
}
static void fetch_next(struct chunks* p, struct dma* d, uint8_t* vtcm, uint32_t fetch_bytes) {
    const uint8_t* from;
    const uint32_t n = next_chunk(p, &from);
    if (n)
        dma_start(d, vtcm + (d->started % DMA_OPEN) * fetch_bytes, from,
                  n * htp_group_bytes(p->m->dtype));
}

static void clear_rows(float* acc, unsigned rows) {
    for (unsigned i = 0; i < rows; i++) hvx_store(acc + 32 * i, Q6_V_vzero());
}
static void write_panel(const struct panel_matrix* m, uint32_t panel, const struct panel_rows* set,
                        const float* acc) {
    const uint32_t left = m->rows - panel * HTP_PANEL;
    for (unsigned i = 0; i < set->n; i++)
        f32_store_first(set->out[i] + panel * HTP_PANEL, hvx_load(acc + 32 * i), left);
}

void panel_range(const struct panel_matrix* m, uint32_t begin, uint32_t end,
                 const struct panel_rows* sets, unsigned n_sets, const struct htp_tiling* t,
                 uint8_t* vtcm) {
    float acc[SETS_MAX][HTP_MICROKERNEL_ROWS * 32] __attribute__((aligned(128)));
    const uint32_t groups = (uint32_t)htp_groups(m->dtype, m->inputs);
    struct chunks work = {m, groups, t->fetch_groups ? t->fetch_groups : groups, begin, end, 0},
                  ahead = work;
    struct dma dma;
    dma_begin(&dma);
    if (t->fetch_groups) fetch_next(&ahead, &dma, vtcm, t->fetch_bytes);
    for (;;) {
        const uint32_t panel = work.panel, first = work.first;
        const uint8_t* at;
        const uint32_t n = next_chunk(&work, &at);
        if (!n) return;
        if (t->fetch_groups) {
            at = dma_wait(&dma);
            fetch_next(&ahead, &dma, vtcm, t->fetch_bytes);
        }
        if (first == 0)
            for (unsigned s = 0; s < n_sets; s++) clear_rows(acc[s], sets[s].n);
        for (unsigned s = 0; s < n_sets; s++)
            panel_groups(m->dtype, at, n, first, m->inputs, &sets[s], acc[s]);
        if (first + n == groups)
            for (unsigned s = 0; s < n_sets; s++) write_panel(m, panel, &sets[s], acc[s]);
    }
}
