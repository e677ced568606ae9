// Formats with blocks of 256 inputs. A group is one block.
#include "backends/htp/dsp/ops/matmul_kernels.h"

#define GROUP_BLOCKS 8

// Field i of three vectors of six-bit fields.
HVX_INLINE HVX_Vector six_bit_field(const uint8_t* at, int i) {
    if (i < 15)
        return Q6_V_vand_VV(Q6_Vuw_vlsr_VuwR(hvx_load(at + i / 5 * HTP_VECTOR), 6 * (i % 5)),
                            Q6_V_vsplat_R(63));
    const HVX_Vector v0 = Q6_Vuw_vlsr_VuwR(hvx_load(at), 30),
                     v1 = Q6_Vuw_vlsr_VuwR(hvx_load(at + HTP_VECTOR), 30);
    const HVX_Vector v2 = Q6_Vuw_vlsr_VuwR(hvx_load(at + 2 * HTP_VECTOR), 30);
    return Q6_V_vor_VV(v0, Q6_V_vor_VV(Q6_Vw_vasl_VwR(v1, 2), Q6_Vw_vasl_VwR(v2, 4)));
}
enum { FEW_OVERLAP = 2 };
#define EIGHT(s) HVX_UNROLL(8) for (int s = 0; s < 8; s++)
// Two blocks side by side for a few rows, else one. The fence between them makes the compiler load
// shared data again instead of keeping it in registers.
#define BETWEEN(s) \
    if (s % 2 == 0 || n > FEW_OVERLAP) HVX_FENCE()
#define GROUP(name)                                                                      \
    HVX_INLINE void name##_group(const uint8_t* g, const struct htp_act_block* const* x, \
                                 unsigned n, HVX_Vector* acc, unsigned blocks)

HVX_INLINE void minima_group(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                             HVX_Vector* acc, int bits) {
    const int split = bits == 4 && n <= FEW_SPLIT;
    EIGHT(s) {
        BETWEEN(s);
        const HVX_VectorPair d = f32_from_f16(hvx_load(g));
        const HVX_Vector scale =
            f32_mul(Q6_V_lo_W(d), f32_from_small_i32(six_bit_field(g + HTP_VECTOR, s)));
        const HVX_Vector low =
            f32_mul(Q6_V_hi_W(d), f32_from_small_i32(six_bit_field(g + HTP_VECTOR, 8 + s)));
        HVX_Vector codes[8];
        if (split) split_nibbles(g + (4 + 4 * s) * HTP_VECTOR, codes);
        else if (bits == 4) unpack_nibbles(g + (4 + 4 * s) * HTP_VECTOR, codes);
        else unpack_five_bits(g + (4 + 5 * s) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i] + s;
            const HVX_Vector dot =
                split ? dot_halves(codes, b->q, 0) : dot_words(codes, b->q, 8, 0);
            acc[i] = f32_block_add(acc[i], dot, b->d, scale);
            acc[i] = f32_scale_add(acc[i], low, -b->d_sum);
        }
    }
}
GROUP(q4_k) {
    (void)blocks;
    minima_group(g, x, n, acc, 4);
}
GROUP(q5_k) {
    (void)blocks;
    minima_group(g, x, n, acc, 5);
}
// Byte `at` of each lane, sign-extended. At most one shift: a packet has room for one shift and for
// four other instructions.
HVX_INLINE HVX_Vector signed_byte(HVX_Vector v, int at) {
    if (at == 3) return Q6_Vw_vasr_VwR(v, 24);
    const HVX_Vector byte = Q6_V_vand_VV(at ? Q6_Vuw_vlsr_VuwR(v, 8 * at) : v, Q6_V_vsplat_R(255)),
                     sign = Q6_V_vsplat_R(128);
    return Q6_Vw_vsub_VwVw(Q6_V_vxor_VV(byte, sign), sign);
}

// Two scales per 32 inputs, without minima: Q3_K and Q6_K. acc += both halves of block s.
HVX_INLINE void two_scales(const HVX_Vector codes[8], HVX_Vector first, HVX_Vector second, int s,
                           int zero, const struct htp_act_block* const* x, unsigned n,
                           HVX_Vector* acc) {
    ROWS(i) {
        const struct htp_act_block* b = x[i] + s;
        acc[i] = f32_block_add(acc[i], dot_words(codes, b->q, 4, -zero * (b->sum - b->sum_high)),
                               b->d, first);
        acc[i] = f32_block_add(acc[i], dot_words(codes + 4, b->q + 16, 4, -zero * b->sum_high),
                               b->d, second);
    }
}
GROUP(q6_k) {
    (void)blocks;
    EIGHT(s) {
        BETWEEN(s);
        const HVX_Vector d = Q6_V_lo_W(f32_from_f16(hvx_load(g)));
        const HVX_Vector bytes = hvx_load(g + (1 + s / 2) * HTP_VECTOR);
        const HVX_Vector first = f32_mul(d, f32_from_small_i32(signed_byte(bytes, s % 2 * 2)));
        const HVX_Vector second = f32_mul(d, f32_from_small_i32(signed_byte(bytes, s % 2 * 2 + 1)));
        HVX_Vector codes[8];
        unpack_six_bits(g + (5 + 6 * s) * HTP_VECTOR, codes);
        two_scales(codes, first, second, s, 32, x, n, acc);
    }
}
GROUP(q3_k) {
    const HVX_Vector middle = Q6_V_vsplat_R(32);
    (void)blocks;
    EIGHT(s) {
        BETWEEN(s);
        const HVX_Vector d = Q6_V_lo_W(f32_from_f16(hvx_load(g)));
        const HVX_Vector first = f32_mul(
            d, f32_from_small_i32(Q6_Vw_vsub_VwVw(six_bit_field(g + HTP_VECTOR, 2 * s), middle)));
        const HVX_Vector second =
            f32_mul(d, f32_from_small_i32(
                           Q6_Vw_vsub_VwVw(six_bit_field(g + HTP_VECTOR, 2 * s + 1), middle)));
        HVX_Vector codes[8];
        unpack_three_bits(g + (4 + 3 * s) * HTP_VECTOR, codes);
        two_scales(codes, first, second, s, 4, x, n, acc);
    }
}

// One scale and one minimum per 16 inputs.
GROUP(q2_k) {
    (void)blocks;
    EIGHT(s) {
        BETWEEN(s);
        const HVX_VectorPair d = f32_from_f16(hvx_load(g));
        const HVX_Vector bytes = hvx_load(g + (1 + s / 2) * HTP_VECTOR);
        HVX_Vector codes[8];
        unpack_pairs(g + (5 + s * 2) * HTP_VECTOR, codes);
        HVX_UNROLL(2)
        for (int half = 0; half < 2; half++) {
            if (half && n > 4) HVX_FENCE();
            const int at = (s % 2 * 2 + half) * 8;
            const HVX_Vector scale =
                f32_mul(Q6_V_lo_W(d), f32_from_small_i32(bit_field(bytes, at, 4)));
            const HVX_Vector low =
                f32_scale(f32_mul(Q6_V_hi_W(d), f32_from_small_i32(bit_field(bytes, at + 4, 4))),
                          0.125f);
            ROWS(i) {
                const struct htp_act_block* b = x[i] + s;
                acc[i] = f32_block_add(acc[i], dot_words(codes + half * 4, b->q + 16 * half, 4, 0),
                                       b->d, scale);
                acc[i] =
                    f32_scale_add(acc[i], low,
                                  (float)(-8 * (half ? b->sum_high : b->sum - b->sum_high)) * b->d);
            }
        }
    }
}

GROUP(iq4_xs) {
    (void)blocks;
    EIGHT(s) {
        BETWEEN(s);
        const HVX_Vector head = hvx_load(g), d = Q6_V_lo_W(f32_from_f16(head)),
                         fields = hvx_load(g + HTP_VECTOR);
        const HVX_Vector six = Q6_V_vor_VV(bit_field(fields, 4 * s, 4),
                                           Q6_Vw_vasl_VwR(bit_field(head, 16 + 2 * s, 2), 4));
        const HVX_Vector scale =
            f32_mul(d, f32_from_small_i32(Q6_Vw_vsub_VwVw(six, Q6_V_vsplat_R(32))));
        HVX_Vector codes[8];
        unpack_iq4(g + (2 + 4 * s) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i] + s;
            acc[i] = f32_block_add(acc[i], dot_words(codes, b->q, 8, -128 * b->sum), b->d, scale);
        }
    }
}

QUANT(q2_k, DType_q2_k)
QUANT(q3_k, DType_q3_k)
QUANT(q4_k, DType_q4_k)
QUANT(q5_k, DType_q5_k)
QUANT(q6_k, DType_q6_k)
QUANT(iq4_xs, DType_iq4_xs)
