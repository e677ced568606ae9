// What the inner loops of all weight formats share: unpacking of codes, dot products of a block,
// and the macros that make a kernel for each count of rows out of what a format does with one
// group. Included by matmul_*.c only.
//
// The definition, as on the CPU, block after block in one lane:
//     sum = fma(float(dot) * d, scale, sum)          dot = sum of (code - zero) * q, an exact
//     integer sum = fma(-low, d_sum, sum)                    then, where the format has a minimum
//     per 32 inputs sum = fma(low / 8, float(-8 * sum(q)) * d, sum)    where it has one per 16 (q
//     of those 16; then the next 16)
// Float formats: sum = fma(weight, x, sum), input after input. No sum depends on how many rows are
// at work.
#ifndef PILLION_DSP_PANELS_KERNELS_H
#define PILLION_DSP_PANELS_KERNELS_H

#include "backends/htp/dsp/ops/matmul_panels.h"

// Each kernel below is called with a constant n, so that all of a row's values stay in registers:
// every loop over rows is written out.
#define ROWS(i) HVX_UNROLL(9) for (unsigned i = 0; i < n; i++)

// Codes are unsigned and stand for code - zero, hence a start at -zero * sum(q). Inputs are loaded
// eight bytes at a time.
HVX_INLINE HVX_Vector dot_add(HVX_Vector acc, const HVX_Vector* codes, const int8_t* q, int n) {
    const uint64_t* words = (const uint64_t*)q;
#pragma GCC unroll 4
    for (int i = 0; i < n; i += 2) {
        const uint64_t two = words[i / 2];
        acc = Q6_Vw_vrmpyacc_VwVubRb(acc, codes[i], (int32_t)two);
        acc = Q6_Vw_vrmpyacc_VwVubRb(acc, codes[i + 1], (int32_t)(two >> 32));
    }
    return acc;
}
HVX_INLINE HVX_Vector dot_words(const HVX_Vector* codes, const int8_t* q, int n, int32_t start) {
    return dot_add(Q6_V_vsplat_R(F32_DOT_BIAS + start), codes, q, n);
}
// The same for 32 codes of which those of the second 16 inputs are 16 times too large.
HVX_INLINE HVX_Vector dot_halves(const HVX_Vector* codes, const int8_t* q, int32_t start) {
    const HVX_Vector low = dot_words(codes, q, 4, start),
                     high = dot_add(Q6_V_vzero(), codes + 4, q + 16, 4);
    return Q6_Vw_vasracc_VwVwR(low, high, 4);
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
enum { FEW_SPLIT = 4 };  // rows for which split nibbles pay
// The second 16 inputs' codes times 16, for dot_halves: the shifts are saved, and two sums run side
// by side.
HVX_INLINE void split_nibbles(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector low = Q6_V_vsplat_R(0x0f0f0f0f), high = Q6_V_vsplat_R((int32_t)0xf0f0f0f0u);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const HVX_Vector v = hvx_load(at + i * HTP_VECTOR);
        codes[i] = Q6_V_vand_VV(v, low);
        codes[4 + i] = Q6_V_vand_VV(v, high);
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
        const HVX_Vector moved =
            j < 4 ? Q6_Vw_vasl_VwR(bits, 4 - j) : Q6_Vuw_vlsr_VuwR(bits, j - 4);
        codes[j] = Q6_V_vor_VV(codes[j], Q6_V_vand_VV(moved, mask));
    }
}
// Two vectors of bit pairs, then four of nibbles.
HVX_INLINE void unpack_six_bits(const uint8_t* at, HVX_Vector codes[8]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x30303030), p0 = hvx_load(at),
                     p1 = hvx_load(at + HTP_VECTOR);
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
        const HVX_Vector moved =
            j < 2 ? Q6_Vw_vasl_VwR(bits, 2 - j) : Q6_Vuw_vlsr_VuwR(bits, j - 2);
        codes[j] = Q6_V_vor_VV(codes[j], Q6_V_vand_VV(moved, mask));
    }
}
// Codes that are places in a table of core/contract/blocks.h, whose values + 128 take their places.
// A table's entries stand in even bytes.
#define CODE_TABLE(name, ...) \
    static const uint8_t name[HTP_VECTOR] __attribute__((aligned(128), unused)) = {__VA_ARGS__}
CODE_TABLE(iq4_codes, 1, 0, 24, 0, 45, 0, 63, 0, 79, 0, 93, 0, 106, 0, 118, 0, 129, 0, 141, 0, 153,
           0, 166, 0, 181, 0, 197, 0, 217, 0, 241);
CODE_TABLE(e2m1_codes, 128, 0, 129, 0, 130, 0, 131, 0, 132, 0, 134, 0, 136, 0, 140, 0, 128, 0, 127,
           0, 126, 0, 125, 0, 124, 0, 122, 0, 120, 0, 116);
CODE_TABLE(iq3_xxs_codes, 132, 0, 140, 0, 148, 0, 156, 0, 164, 0, 172, 0, 180, 0, 190, 0, 124, 0,
           116, 0, 108, 0, 100, 0, 92, 0, 84, 0, 76, 0, 66);
CODE_TABLE(iq3_s_codes, 129, 0, 131, 0, 133, 0, 135, 0, 137, 0, 139, 0, 141, 0, 143, 0, 127, 0, 125,
           0, 123, 0, 121, 0, 119, 0, 117, 0, 115, 0, 113);
CODE_TABLE(iq2_codes, 136, 0, 153, 0, 171, 0, 128, 0, 120, 0, 103, 0, 85, 0, 128);
CODE_TABLE(iq1_codes, 121, 0, 129, 0, 137, 0, 128, 0, 119, 0, 127, 0, 135, 0, 128);
HVX_INLINE void look_up(const uint8_t* table_at, HVX_Vector codes[8]) {
    const HVX_Vector table = hvx_load(table_at);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) codes[i] = Q6_Vb_vlut32_VbVbR(codes[i], table, 0);
}
HVX_INLINE void unpack_nibble_table(const uint8_t* at, const uint8_t* table, HVX_Vector codes[8]) {
    unpack_nibbles(at, codes);
    look_up(table, codes);
}
HVX_INLINE void unpack_iq4(const uint8_t* at, HVX_Vector codes[8]) {
    unpack_nibble_table(at, iq4_codes, codes);
}
// Bits [at, at + count) of each lane.
HVX_INLINE HVX_Vector bit_field(HVX_Vector v, int at, int count) {
    return Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(v, at), Q6_V_vsplat_R((1 << count) - 1));
}

struct groups {
    const uint8_t* at;
    uint32_t n, first, inputs;
    const struct panel_rows* rows;
    float* acc;
};

#define BEGIN(n)                          \
    HVX_Vector acc[HTP_MICROKERNEL_ROWS]; \
    const uint8_t* at = g->at;            \
    ROWS(i) acc[i] = hvx_load(g->acc + 32 * i)
#define END(n) ROWS(i) hvx_store(g->acc + 32 * i, acc[i])

// A format says what one group does, name_group(at, x, n, acc, blocks), x being the rows' first
// blocks of the group. Where a group is two blocks the last may have only one.
#define QUANT_KERNEL(name, dtype)                                                        \
    HVX_INLINE void name##_n(const struct groups* g, unsigned n) {                       \
        enum { BLOCKS = GROUP_BLOCKS };                                                  \
        BEGIN(n);                                                                        \
        const struct htp_act_block* x[HTP_MICROKERNEL_ROWS];                             \
        ROWS(i) x[i] = (const struct htp_act_block*)g->rows->act[i] + BLOCKS * g->first; \
        const uint32_t whole = g->inputs / (32 * BLOCKS) - g->first,                     \
                       count = g->n < whole ? g->n : whole;                              \
        for (uint32_t k = 0; k < count; k++, at += htp_group_bytes(dtype)) {             \
            name##_group(at, x, n, acc, BLOCKS);                                         \
            ROWS(i) x[i] += BLOCKS;                                                      \
        }                                                                                \
        if (BLOCKS == 2 && count < g->n) name##_group(at, x, n, acc, 1);                 \
        END(n);                                                                          \
    }
// Two inputs to a vector, the last vector may have only one.
#define FLOAT_KERNEL(name, per, step, last)                                                     \
    HVX_INLINE void name##_n(const struct groups* g, unsigned n) {                              \
        BEGIN(n);                                                                               \
        const float* x[HTP_MICROKERNEL_ROWS];                                                   \
        ROWS(i) x[i] = g->rows->x[i] + per * g->first;                                          \
        const uint32_t whole = g->inputs / per - g->first, count = g->n < whole ? g->n : whole; \
        for (uint32_t k = 0; k < count; k++, at += HTP_VECTOR) {                                \
            step;                                                                               \
            ROWS(i) x[i] += per;                                                                \
        }                                                                                       \
        if (per == 2 && count < g->n) last;                                                     \
        END(n);                                                                                 \
    }
#if HTP_F32_LANES
// Under emulation 1, 2 and 4 rows at a time are enough to see that counts work, and compile in a
// sixth of the time.
#define COUNTS(name)                                                                 \
    void name##_panel(const struct groups* g) {                                      \
        struct panel_rows part = *g->rows;                                           \
        struct groups rest = *g;                                                     \
        rest.rows = &part;                                                           \
        for (unsigned i = 0; i < g->rows->n; rest.acc += 32 * part.n, i += part.n) { \
            const unsigned left = g->rows->n - i;                                    \
            part.n = left >= 4 ? 4 : left >= 2 ? 2 : 1;                              \
            for (unsigned k = 0; k < part.n; k++)                                    \
                part.act[k] = g->rows->act[i + k], part.x[k] = g->rows->x[i + k];    \
            if (part.n == 4) name##_n(&rest, 4);                                     \
            else if (part.n == 2) name##_n(&rest, 2);                                \
            else name##_n(&rest, 1);                                                 \
        }                                                                            \
    }
#else
// A function each: its registers are its own, and a report can name it.
#define COUNT(name, n) \
    static __attribute__((noinline)) void name##_rows##n(const struct groups* g) { name##_n(g, n); }
#define COUNTS(name)                                                                         \
    COUNT(name, 1)                                                                           \
    COUNT(name, 2)                                                                           \
    COUNT(name, 3)                                                                           \
    COUNT(name, 4)                                                                           \
    COUNT(name, 5)                                                                           \
    COUNT(name, 6)                                                                           \
    COUNT(name, 7) COUNT(name, 8) COUNT(name, 9) void name##_panel(const struct groups* g) { \
        switch (g->rows->n) {                                                                \
            case 1: name##_rows1(g); break;                                                  \
            case 2: name##_rows2(g); break;                                                  \
            case 3: name##_rows3(g); break;                                                  \
            case 4: name##_rows4(g); break;                                                  \
            case 5: name##_rows5(g); break;                                                  \
            case 6: name##_rows6(g); break;                                                  \
            case 7: name##_rows7(g); break;                                                  \
            case 8: name##_rows8(g); break;                                                  \
            default: name##_rows9(g); break;                                                 \
        }                                                                                    \
    }
#endif

#define QUANT(name, dtype) QUANT_KERNEL(name, dtype) COUNTS(name)
#define FLOAT(name, per, step, last) FLOAT_KERNEL(name, per, step, last) COUNTS(name)

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
void mxfp4_x_panel(const struct groups* g);
void nvfp4_x_panel(const struct groups* g);
void iq3_xxs_x_panel(const struct groups* g);
void iq3_s_x_panel(const struct groups* g);
void iq2_x_panel(const struct groups* g);
void iq1_x_panel(const struct groups* g);
void tq2_0_panel(const struct groups* g);
void f32_panel(const struct groups* g);
void f16_panel(const struct groups* g);
void bf16_panel(const struct groups* g);

#endif
