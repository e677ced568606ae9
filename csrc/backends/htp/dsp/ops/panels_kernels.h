// What the inner loops of all weight formats share: unpacking of codes, dot products of a block, and the macros that make a kernel for
// each count of rows out of what a format does with one group. Included by panels_*.c only.
//
// The definition, as on the CPU, block after block in one lane:
//     sum = fma(float(dot) * d, scale, sum)          dot = sum of (code - zero) * q, an exact integer
//     sum = fma(-low, d_sum, sum)                    then, where the format has a minimum per 32 inputs
//     sum = fma(low / 8, float(-8 * sum(q)) * d, sum)    where it has one per 16 (q of those 16; then the next 16)
// Float formats: sum = fma(weight, x, sum), input after input. No sum depends on how many rows are at work.
#ifndef PILLION_DSP_PANELS_KERNELS_H
#define PILLION_DSP_PANELS_KERNELS_H

#include "backends/htp/dsp/ops/panels.h"

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

// Two vectors of bit pairs: codes of two bits.
HVX_INLINE void unpack_pairs(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x03030303);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        codes[2 * i] = Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(hvx_load(at), 2 * i), mask);
        codes[2 * i + 1] = Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(hvx_load(at + HTP_VECTOR), 2 * i), mask);
    }
}
// One vector of single bits, then two of bit pairs: codes of three bits.
HVX_INLINE void unpack_three_bits(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x04040404), bits = hvx_load(at);
    unpack_pairs(at + HTP_VECTOR, codes);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const HVX_Vector moved = j < 2 ? Q6_Vw_vasl_VwR(bits, 2 - j) : Q6_Vuw_vlsr_VuwR(bits, j - 2);
        codes[j] = Q6_V_vor_VV(codes[j], Q6_V_vand_VV(moved, mask));
    }
}
// Four vectors of nibbles that are places in the table of IQ4, whose values + 128 become the codes.
static const uint8_t iq4_codes[HTP_VECTOR] __attribute__((aligned(128))) = {
    1, 0, 24, 0, 45, 0, 63, 0, 79, 0, 93, 0, 106, 0, 118, 0, 129, 0, 141, 0, 153, 0, 166, 0, 181, 0, 197, 0, 217, 0, 241};
HVX_INLINE void unpack_iq4(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector table = hvx_load(iq4_codes);
    unpack_nibbles(at, codes);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) codes[i] = Q6_Vb_vlut32_VbVbR(codes[i], table, 0);
}

// Each kernel below is called with a constant n, so that acc stays in registers.
#define ROWS(i) for (unsigned i = 0; i < n; i++)

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
    void name##_panel(const struct groups* g) { \
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
    void name##_panel(const struct groups* g) { \
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

#define QUANT(name, dtype) QUANT_KERNEL(name, dtype) COUNTS(name)
#define FLOAT(name, step) FLOAT_KERNEL(name, step) COUNTS(name)

// --- a kernel for each format: the groups of g for all rows of g ---
void q4_0_panel(const struct groups* g);
void q4_1_panel(const struct groups* g);
void q5_0_panel(const struct groups* g);
void q5_1_panel(const struct groups* g);
void q8_0_panel(const struct groups* g);
void iq4_nl_panel(const struct groups* g);
void q2_k_panel(const struct groups* g);
void q3_k_panel(const struct groups* g);
void q4_k_panel(const struct groups* g);
void q5_k_panel(const struct groups* g);
void q6_k_panel(const struct groups* g);
void iq4_xs_panel(const struct groups* g);
void f32_panel(const struct groups* g);
void f16_panel(const struct groups* g);
void bf16_panel(const struct groups* g);

#endif
