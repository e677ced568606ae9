// Formats with blocks of 256 inputs; a group is one block.
#include "backends/htp/dsp/ops/panels_kernels.h"

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
// Byte `at` of each lane, with its sign.
HVX_INLINE HVX_Vector signed_byte(HVX_Vector v, int at) { return Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(v, 24 - 8 * at), 24); }
// Bits [at, at + count) of each lane.
HVX_INLINE HVX_Vector bit_field(HVX_Vector v, int at, int count) {
    return Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(v, at), Q6_V_vsplat_R((1 << count) - 1));
}

// Two scales per 32 inputs, no minima: Q3_K and Q6_K. acc += both halves.
HVX_INLINE void two_scales(const HVX_Vector codes[8], HVX_Vector first, HVX_Vector second, uint32_t block, int zero, const struct act* x, unsigned n,
                           HVX_Vector* acc) {
    ROWS(i) {
        const struct htp_act_block* b = x[i].b + block;
        acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 4, -zero * (b->sum - b->sum_high)), b->d, first);
        acc[i] = f32_block_add(acc[i], dot_words(codes + 4, x[i].q + 8 * block + 4, 4, -zero * b->sum_high), b->d, second);
    }
}
HVX_INLINE void q6_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    for (int s = 0; s < 8; s++) {
        const HVX_Vector d = Q6_V_lo_W(f32_from_f16(hvx_load(g))), bytes = hvx_load(g + (1 + s / 2) * HTP_VECTOR);
        const HVX_Vector first = f32_mul(d, f32_from_small_i32(signed_byte(bytes, s % 2 * 2)));
        const HVX_Vector second = f32_mul(d, f32_from_small_i32(signed_byte(bytes, s % 2 * 2 + 1)));
        HVX_Vector codes[8];
        unpack_six_bits(g + (5 + 6 * s) * HTP_VECTOR, codes);
        two_scales(codes, first, second, 8 * group + (uint32_t)s, 32, x, n, acc);
    }
}
HVX_INLINE void q3_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    const HVX_Vector middle = Q6_V_vsplat_R(32);
    (void)inputs;
    for (int s = 0; s < 8; s++) {
        const HVX_Vector d = Q6_V_lo_W(f32_from_f16(hvx_load(g)));
        const HVX_Vector first = f32_mul(d, f32_from_small_i32(Q6_Vw_vsub_VwVw(six_bit_field(g + HTP_VECTOR, 2 * s), middle)));
        const HVX_Vector second = f32_mul(d, f32_from_small_i32(Q6_Vw_vsub_VwVw(six_bit_field(g + HTP_VECTOR, 2 * s + 1), middle)));
        HVX_Vector codes[8];
        unpack_three_bits(g + (4 + 3 * s) * HTP_VECTOR, codes);
        two_scales(codes, first, second, 8 * group + (uint32_t)s, 4, x, n, acc);
    }
}

// A scale and a minimum per 16 inputs.
HVX_INLINE void q2_k_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    for (int k = 0; k < 16; k++) {
        const HVX_VectorPair d = f32_from_f16(hvx_load(g));
        const HVX_Vector bytes = hvx_load(g + (1 + k / 4) * HTP_VECTOR);
        const HVX_Vector scale = f32_mul(Q6_V_lo_W(d), f32_from_small_i32(bit_field(bytes, k % 4 * 8, 4)));
        const HVX_Vector low = f32_scale(f32_mul(Q6_V_hi_W(d), f32_from_small_i32(bit_field(bytes, k % 4 * 8 + 4, 4))), 0.125f);
        const uint32_t block = 8 * group + (uint32_t)k / 2;
        HVX_Vector codes[8];
        unpack_pairs(g + (5 + k / 2 * 2) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i].b + block;
            const int32_t sum = k % 2 ? b->sum_high : b->sum - b->sum_high;
            acc[i] = f32_block_add(acc[i], dot_words(codes + k % 2 * 4, x[i].q + 8 * block + (uint32_t)(k % 2) * 4, 4, 0), b->d, scale);
            acc[i] = f32_scale_add(acc[i], low, (float)(-8 * sum) * b->d);
        }
    }
}

HVX_INLINE void iq4_xs_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) {
    (void)inputs;
    for (int s = 0; s < 8; s++) {
        const HVX_Vector head = hvx_load(g), d = Q6_V_lo_W(f32_from_f16(head));
        const HVX_Vector six = Q6_V_vor_VV(bit_field(hvx_load(g + HTP_VECTOR), 4 * s, 4), Q6_Vw_vasl_VwR(bit_field(head, 16 + 2 * s, 2), 4));
        const HVX_Vector scale = f32_mul(d, f32_from_small_i32(Q6_Vw_vsub_VwVw(six, Q6_V_vsplat_R(32))));
        const uint32_t block = 8 * group + (uint32_t)s;
        HVX_Vector codes[8];
        unpack_iq4(g + (2 + 4 * s) * HTP_VECTOR, codes);
        ROWS(i) acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 8, -128 * x[i].b[block].sum), x[i].b[block].d, scale);
    }
}

QUANT(q2_k, HTP_Q2_K)
QUANT(q3_k, HTP_Q3_K)
QUANT(q4_k, HTP_Q4_K)
QUANT(q5_k, HTP_Q5_K)
QUANT(q6_k, HTP_Q6_K)
QUANT(iq4_xs, HTP_IQ4_XS)
