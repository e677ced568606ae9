// Formats with blocks of 256 inputs that core/expand.h makes of others. A group is one block.
#include "backends/htp/dsp/ops/matmul_kernels.h"

#define GROUP_BLOCKS 8
#define EIGHT(s) HVX_UNROLL(8) for (int s = 0; s < 8; s++)
enum { FEW_OVERLAP = 2 };
// Two blocks side by side for a few rows, else one. The fence between them makes the compiler load
// shared data again instead of keeping it in registers.
#define BETWEEN(s) \
    if (s % 2 == 0 || n > FEW_OVERLAP) HVX_FENCE()

// Nibble i of each lane of `fields`, which means 2 * s + 1, times d.
HVX_INLINE HVX_Vector odd_scale(HVX_Vector d, HVX_Vector fields, int i) {
    return f32_mul(d, f32_from_small_i32(Q6_V_vor_VV(Q6_Vw_vasl_VwR(bit_field(fields, 4 * i, 4), 1),
                                                     Q6_V_vsplat_R(1))));
}

HVX_INLINE void iq3_blocks(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                           HVX_Vector* acc, const uint8_t* table, float factor) {
    EIGHT(s) {
        BETWEEN(s);
        const HVX_Vector d = f32_scale(Q6_V_lo_W(f32_from_f16(hvx_load(g))), factor);
        const HVX_Vector scale = odd_scale(d, hvx_load(g + HTP_VECTOR), s);
        HVX_Vector codes[8];
        unpack_nibble_table(g + (2 + 4 * s) * HTP_VECTOR, table, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i] + s;
            acc[i] = f32_block_add(acc[i], dot_words(codes, b->q, 8, -128 * b->sum), b->d, scale);
        }
    }
}
HVX_INLINE void iq2_blocks(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                           HVX_Vector* acc, const uint8_t* table) {
    EIGHT(s) {
        BETWEEN(s);
        HVX_Vector codes[8];
        unpack_three_bits(g + (3 + 3 * s) * HTP_VECTOR, codes);
        look_up(table, codes);
        HVX_UNROLL(2)
        for (int half = 0; half < 2; half++) {
            // one scale at a time in a register
            if (half && n > 4) HVX_FENCE();
            const HVX_Vector d = f32_scale(Q6_V_lo_W(f32_from_f16(hvx_load(g))), 0.125f);
            const HVX_Vector fields = hvx_load(g + (1 + s / 4) * HTP_VECTOR);
            const HVX_Vector scale = odd_scale(d, fields, s % 4 * 2 + half);
            ROWS(i) {
                const struct htp_act_block* b = x[i] + s;
                const int32_t start = -128 * (half ? b->sum_high : b->sum - b->sum_high);
                const HVX_Vector dot = dot_words(codes + 4 * half, b->q + 16 * half, 4, start);
                acc[i] = f32_block_add(acc[i], dot, b->d, scale);
            }
        }
    }
}
HVX_INLINE void tq2_blocks(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                           HVX_Vector* acc) {
    EIGHT(s) {
        BETWEEN(s);
        const HVX_Vector scale = Q6_V_lo_W(f32_from_f16(hvx_load(g)));
        HVX_Vector codes[8];
        unpack_pairs(g + (1 + 2 * s) * HTP_VECTOR, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i] + s;
            acc[i] = f32_block_add(acc[i], dot_words(codes, b->q, 8, -b->sum), b->d, scale);
        }
    }
}

#define GROUP(name, call)                                                                \
    HVX_INLINE void name##_group(const uint8_t* g, const struct htp_act_block* const* x, \
                                 unsigned n, HVX_Vector* acc, unsigned blocks) {         \
        (void)blocks;                                                                    \
        call;                                                                            \
    }
GROUP(iq3_xxs_x, iq3_blocks(g, x, n, acc, iq3_xxs_codes, 0.25f))
GROUP(iq3_s_x, iq3_blocks(g, x, n, acc, iq3_s_codes, 1.0f))
GROUP(iq2_x, iq2_blocks(g, x, n, acc, iq2_codes))
GROUP(iq1_x, iq2_blocks(g, x, n, acc, iq1_codes))
GROUP(tq2_0, tq2_blocks(g, x, n, acc))

QUANT(iq3_xxs_x, DType_iq3_xxs_x)
QUANT(iq3_s_x, DType_iq3_s_x)
QUANT(iq2_x, DType_iq2_x)
QUANT(iq1_x, DType_iq1_x)
QUANT(tq2_0, DType_tq2_0)
