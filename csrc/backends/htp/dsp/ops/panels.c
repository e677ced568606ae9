// The definition, as on the CPU, block after block in one lane:
//     sum = fma(float(dot) * d, scale, sum)      dot = sum of (code - zero) * q, an exact integer
//     sum = fma(-low, d_sum, sum)                then, where the format has a minimum per 32 inputs
// Float formats: sum = fma(weight, x, sum), input after input. No sum depends on how many rows are at work.
#include "backends/htp/dsp/ops/panels.h"

#include <string.h>

struct act {                    // a row's quantised inputs
    const int32_t* q;           // four to a word
    const struct htp_act_block* b;
};
HVX_INLINE struct act act_of(const struct panel_rows* rows, unsigned i, uint32_t inputs) {
    return (struct act){(const int32_t*)rows->act[i], (const struct htp_act_block*)(rows->act[i] + (inputs + 127u) / 128u * 128u)};
}

// Codes are unsigned and stand for code - zero, hence the start at -zero * sum(q).
HVX_INLINE HVX_Vector dot_words(const HVX_Vector* codes, const int32_t* q, int n, int32_t start) {
    HVX_Vector acc = Q6_V_vsplat_R(start);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) acc = Q6_Vw_vrmpyacc_VwVubRb(acc, codes[i], q[i]);
    return acc;
}
HVX_INLINE void unpack_nibbles(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x0f0f0f0f);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const HVX_Vector v = hvx_load(at + i * HTP_VECTOR);
        codes[i] = Q6_V_vand_VV(v, mask);
        codes[4 + i] = Q6_V_vand_VV(Q6_Vuh_vlsr_VuhR(v, 4), mask);
    }
}
HVX_INLINE void load_bytes(const uint8_t* at, HVX_Vector codes[8]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) codes[i] = hvx_load(at + i * HTP_VECTOR);
}
// One vector of single bits, then four of nibbles.
HVX_INLINE void unpack_five_bits(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x10101010), bits = hvx_load(at);
    unpack_nibbles(at + HTP_VECTOR, codes);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const HVX_Vector moved = j < 4 ? Q6_Vw_vasl_VwR(bits, 4 - j) : Q6_Vuw_vlsr_VuwR(bits, j - 4);
        codes[j] = Q6_V_vor_VV(codes[j], Q6_V_vand_VV(moved, mask));
    }
}
// Two vectors of bit pairs, then four of nibbles.
HVX_INLINE void unpack_six_bits(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x30303030), p0 = hvx_load(at), p1 = hvx_load(at + HTP_VECTOR);
    unpack_nibbles(at + 2 * HTP_VECTOR, codes);
#define PAIR(j, v) codes[j] = Q6_V_vor_VV(codes[j], Q6_V_vand_VV(v, mask))
    PAIR(0, Q6_Vw_vasl_VwR(p0, 4));
    PAIR(1, Q6_Vw_vasl_VwR(p1, 4));
    PAIR(2, Q6_Vw_vasl_VwR(p0, 2));
    PAIR(3, Q6_Vw_vasl_VwR(p1, 2));
    PAIR(4, p0);
    PAIR(5, p1);
    PAIR(6, Q6_Vuw_vlsr_VuwR(p0, 2));
    PAIR(7, Q6_Vuw_vlsr_VuwR(p1, 2));
#undef PAIR
}

// Each kernel below is called with a constant n, so that acc stays in registers.
#define ROWS(i) for (unsigned i = 0; i < n; i++)

HVX_INLINE void q4_0_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    const HVX_VectorPair scales = f32_from_f16(hvx_load(g));
    for (uint32_t half = 0; half < 2 && group * 64 + half * 32 < inputs; half++) {
        const uint32_t block = 2 * group + half;
        const HVX_Vector scale = half ? Q6_V_hi_W(scales) : Q6_V_lo_W(scales);
        HVX_Vector codes[8];
        unpack_nibbles(g + (1 + 4 * half) * HTP_VECTOR, codes);
        ROWS(i) acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 8, -8 * x[i].b[block].sum), x[i].b[block].d, scale);
    }
}
HVX_INLINE void q8_0_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    const HVX_VectorPair scales = f32_from_f16(hvx_load(g));
    for (uint32_t half = 0; half < 2 && group * 64 + half * 32 < inputs; half++) {
        const uint32_t block = 2 * group + half;
        const HVX_Vector scale = half ? Q6_V_hi_W(scales) : Q6_V_lo_W(scales);
        HVX_Vector codes[8];
        load_bytes(g + (1 + 8 * half) * HTP_VECTOR, codes);
        ROWS(i) acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 8, -128 * x[i].b[block].sum), x[i].b[block].d, scale);
    }
}

// Field i of three vectors of six-bit fields.
HVX_INLINE HVX_Vector six_bit_field(const uint8_t* at, int i) {
    if (i < 15) return Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(hvx_load(at + i / 5 * HTP_VECTOR), 6 * (i % 5)), Q6_V_vsplat_R(63));
    const HVX_Vector v0 = Q6_Vuw_vlsr_VuwR(hvx_load(at), 30), v1 = Q6_Vuw_vlsr_VuwR(hvx_load(at + HTP_VECTOR), 30);
    const HVX_Vector v2 = Q6_Vuw_vlsr_VuwR(hvx_load(at + 2 * HTP_VECTOR), 30);
    return Q6_V_vor_VV(v0, Q6_V_vor_VV(Q6_Vw_vasl_VwR(v1, 2), Q6_Vw_vasl_VwR(v2, 4)));
}
// Q4_K and Q5_K
HVX_INLINE void minima_group(const uint8_t* g, uint32_t group, const struct act* x, unsigned n, HVX_Vector* acc, int bits) {
    for (int s = 0; s < 8; s++) {
        const HVX_VectorPair d = f32_from_f16(hvx_load(g));
        const uint32_t block = 8 * group + (uint32_t)s;
        const HVX_Vector scale = f32_mul(Q6_V_lo_W(d), f32_from_small_i32(six_bit_field(g + HTP_VECTOR, s)));
        const HVX_Vector low = f32_mul(Q6_V_hi_W(d), f32_from_small_i32(six_bit_field(g + HTP_VECTOR, 8 + s)));
        HVX_Vector codes[8];
        if (bits == 4) unpack_nibbles(g + (4 + 4 * s) * HTP_VECTOR, codes);
        else unpack_five_bits(g + (4 + 5 * s) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i].b + block;
            acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 8, 0), b->d, scale);
            acc[i] = f32_scale_add(acc[i], low, -b->d_sum);
        }
    }
}
HVX_INLINE void q4_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    minima_group(g, group, x, n, acc, 4);
}
HVX_INLINE void q5_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    minima_group(g, group, x, n, acc, 5);
}
HVX_INLINE void q6_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    for (int s = 0; s < 8; s++) {
        const HVX_Vector d = Q6_V_lo_W(f32_from_f16(hvx_load(g)));
        const uint32_t block = 8 * group + (uint32_t)s;
        // scales 2s and 2s + 1: two neighbouring bytes of a lane
        const HVX_Vector bytes = hvx_load(g + (1 + s / 2) * HTP_VECTOR);
        const HVX_Vector first = f32_mul(d, f32_from_small_i32(Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(bytes, s % 2 ? 8 : 24), 24)));
        const HVX_Vector second = f32_mul(d, f32_from_small_i32(Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(bytes, s % 2 ? 0 : 16), 24)));
        HVX_Vector codes[8];
        unpack_six_bits(g + (5 + 6 * s) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i].b + block;
            acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 4, -32 * (b->sum - b->sum_high)), b->d, first);
            acc[i] = f32_block_add(acc[i], dot_words(codes + 4, x[i].q + 8 * block + 4, 4, -32 * b->sum_high), b->d, second);
        }
    }
}

HVX_INLINE void f32_group(const uint8_t* g, uint32_t group, const float* const* x, unsigned n, HVX_Vector* acc) {
    const HVX_Vector w = hvx_load(g);
    ROWS(i) acc[i] = f32_scale_add(acc[i], w, x[i][group]);
}
HVX_INLINE void halves_group(HVX_VectorPair w, uint32_t group, uint32_t inputs, const float* const* x, unsigned n, HVX_Vector* acc) {
    ROWS(i) acc[i] = f32_scale_add(acc[i], Q6_V_lo_W(w), x[i][2 * group]);
    if (2 * group + 1 < inputs) ROWS(i) acc[i] = f32_scale_add(acc[i], Q6_V_hi_W(w), x[i][2 * group + 1]);
}
#undef ROWS

struct groups {
    const uint8_t* at;
    uint32_t n, first, inputs;
    const struct panel_rows* rows;
    float* acc;
};

#define BEGIN(n) \
    HVX_Vector acc[HTP_FEW]; \
    const uint8_t* at = g->at; \
    for (unsigned i = 0; i < n; i++) acc[i] = hvx_load(g->acc + 32 * i)
#define END(n) \
    for (unsigned i = 0; i < n; i++) hvx_store(g->acc + 32 * i, acc[i])

#define QUANT_KERNEL(name, dtype) \
    HVX_INLINE void name##_n(const struct groups* g, unsigned n) { \
        BEGIN(n); \
        struct act x[HTP_FEW]; \
        for (unsigned i = 0; i < n; i++) x[i] = act_of(g->rows, i, g->inputs); \
        for (uint32_t k = g->first; k < g->first + g->n; k++, at += htp_group_bytes(dtype)) name##_group(at, k, g->inputs, x, n, acc); \
        END(n); \
    }
#define FLOAT_KERNEL(name, step) \
    HVX_INLINE void name##_n(const struct groups* g, unsigned n) { \
        BEGIN(n); \
        const float* x[HTP_FEW]; \
        for (unsigned i = 0; i < n; i++) x[i] = g->rows->x[i]; \
        for (uint32_t k = g->first; k < g->first + g->n; k++, at += HTP_VECTOR) step; \
        END(n); \
    }
#if HTP_F32_LANES
// Under emulation 1, 2 and 4 rows at a time are enough to see that counts work, and compile in a sixth of the time.
#define COUNTS(name) \
    static void name##_rows(const struct groups* g) { \
        struct panel_rows part = *g->rows; \
        struct groups rest = *g; \
        rest.rows = &part; \
        for (unsigned i = 0; i < g->rows->n; rest.acc += 32 * part.n, i += part.n) { \
            const unsigned left = g->rows->n - i; \
            part.n = left >= 4 ? 4 : left >= 2 ? 2 : 1; \
            for (unsigned k = 0; k < part.n; k++) part.act[k] = g->rows->act[i + k], part.x[k] = g->rows->x[i + k]; \
            if (part.n == 4) name##_n(&rest, 4); \
            else if (part.n == 2) name##_n(&rest, 2); \
            else name##_n(&rest, 1); \
        } \
    }
#else
#define COUNTS(name) \
    static void name##_rows(const struct groups* g) { \
        switch (g->rows->n) { \
            case 1: name##_n(g, 1); break; \
            case 2: name##_n(g, 2); break; \
            case 3: name##_n(g, 3); break; \
            case 4: name##_n(g, 4); break; \
            case 5: name##_n(g, 5); break; \
            case 6: name##_n(g, 6); break; \
            case 7: name##_n(g, 7); break; \
            case 8: name##_n(g, 8); break; \
            default: name##_n(g, 9); break; \
        } \
    }
#endif

QUANT_KERNEL(q4_0, HTP_Q4_0)
QUANT_KERNEL(q8_0, HTP_Q8_0)
QUANT_KERNEL(q4_k, HTP_Q4_K)
QUANT_KERNEL(q5_k, HTP_Q5_K)
QUANT_KERNEL(q6_k, HTP_Q6_K)
FLOAT_KERNEL(f32, f32_group(at, k, x, n, acc))
FLOAT_KERNEL(f16, halves_group(f32_from_f16(hvx_load(at)), k, g->inputs, x, n, acc))
FLOAT_KERNEL(bf16, halves_group(f32_from_bf16(hvx_load(at)), k, g->inputs, x, n, acc))
COUNTS(q4_0)
COUNTS(q8_0)
COUNTS(q4_k)
COUNTS(q5_k)
COUNTS(q6_k)
COUNTS(f32)
COUNTS(f16)
COUNTS(bf16)

void panel_groups(uint32_t dtype, const uint8_t* groups, uint32_t n_groups, uint32_t first, uint32_t inputs, const struct panel_rows* rows,
                  float* acc) {
    const struct groups g = {groups, n_groups, first, inputs, rows, acc};
    switch (dtype) {
        case HTP_Q4_0: q4_0_rows(&g); break;
        case HTP_Q8_0: q8_0_rows(&g); break;
        case HTP_Q4_K: q4_k_rows(&g); break;
        case HTP_Q5_K: q5_k_rows(&g); break;
        case HTP_Q6_K: q6_k_rows(&g); break;
        case HTP_F16: f16_rows(&g); break;
        case HTP_BF16: bf16_rows(&g); break;
        default: f32_rows(&g); break;
    }
}

// ------------------------------------------------------------------------------------------------------------------------- pieces

enum { SETS_MAX = (HTP_MATMUL_ROWS_MAX + HTP_FEW - 1) / HTP_FEW };

// Pieces of a range of panels follow each other in memory; the last piece of a panel may be short.
struct pieces {
    const struct panel_matrix* m;
    uint32_t groups, fetch_groups, panel, end, first;
};
// The next piece; 0: none left.
static uint32_t next_piece(struct pieces* p, const uint8_t** at) {
    if (p->panel == p->end) return 0;
    const uint32_t left = p->groups - p->first, n = left < p->fetch_groups ? left : p->fetch_groups;
    *at = p->m->panels + p->panel * p->m->panel_bytes + (uint64_t)p->first * htp_group_bytes(p->m->dtype);
    p->first += n;
    if (p->first == p->groups) p->first = 0, p->panel++;
    return n;
}
static void fetch_next(struct pieces* p, struct dma* d, uint8_t* vtcm, uint32_t fetch_bytes) {
    const uint8_t* from;
    const uint32_t n = next_piece(p, &from);
    if (n) dma_start(d, vtcm + (d->started % DMA_OPEN) * fetch_bytes, from, n * htp_group_bytes(p->m->dtype));
}

static void write_panel(const struct panel_matrix* m, uint32_t panel, const struct panel_rows* set, const float* acc) {
    const uint32_t left = m->rows - panel * HTP_PANEL;
    for (unsigned i = 0; i < set->n; i++) f32_store_first(set->out[i] + panel * HTP_PANEL, hvx_load(acc + 32 * i), left);
}

void panel_range(const struct panel_matrix* m, uint32_t begin, uint32_t end, const struct panel_rows* sets, unsigned n_sets,
                 const struct htp_tiling* t, uint8_t* vtcm) {
    float acc[SETS_MAX][HTP_FEW * 32] __attribute__((aligned(128)));
    const uint32_t groups = (uint32_t)htp_groups(m->dtype, m->inputs);
    struct pieces work = {m, groups, t->fetch_groups ? t->fetch_groups : groups, begin, end, 0}, ahead = work;
    struct dma dma;
    dma_begin(&dma);
    if (t->fetch_groups) fetch_next(&ahead, &dma, vtcm, t->fetch_bytes);
    for (;;) {
        const uint32_t panel = work.panel, first = work.first;
        const uint8_t* at;
        const uint32_t n = next_piece(&work, &at);
        if (!n) return;
        if (t->fetch_groups) {
            at = dma_wait(&dma);
            fetch_next(&ahead, &dma, vtcm, t->fetch_bytes);
        }
        if (first == 0) memset(acc, 0, n_sets * sizeof acc[0]);
        for (unsigned s = 0; s < n_sets; s++) panel_groups(m->dtype, at, n, first, m->inputs, &sets[s], acc[s]);
        if (first + n == groups)
            for (unsigned s = 0; s < n_sets; s++) write_panel(m, panel, &sets[s], acc[s]);
    }
}
