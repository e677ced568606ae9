// Formats with blocks of 32 inputs. A group is two blocks.
#include "backends/htp/dsp/ops/matmul_kernels.h"

// Rows for which two blocks side by side stay in registers; with minima.
enum { FEW_OVERLAP = 6, FEW_OVERLAP_M = 2 };
enum bits { NIBBLES, FIVE_BITS, BYTES, IQ4, E2M1 };

HVX_INLINE uint32_t code_vectors(enum bits bits) {
    return bits == BYTES ? 8 : bits == FIVE_BITS ? 5 : 4;
}
HVX_INLINE void unpack(const uint8_t* at, HVX_Vector codes[8], enum bits bits) {
    if (bits == NIBBLES) unpack_nibbles(at, codes);
    else if (bits == FIVE_BITS) unpack_five_bits(at, codes);
    else if (bits == BYTES) load_bytes(at, codes);
    else unpack_nibble_table(at, bits == IQ4 ? iq4_codes : e2m1_codes, codes);
}

// value = scale * (code - zero), or scale * code + m
HVX_INLINE void one_block(const uint8_t* codes_at, HVX_Vector scale, HVX_Vector m, unsigned half,
                          const struct htp_act_block* const* x, unsigned n, HVX_Vector* acc,
                          enum bits bits, int zero, int has_m) {
    const int split = bits == NIBBLES && n <= FEW_SPLIT;
    HVX_Vector codes[8];
    if (split) split_nibbles(codes_at, codes);
    else unpack(codes_at, codes, bits);
    ROWS(i) {
        const struct htp_act_block* b = x[i] + half;
        const HVX_Vector dot = split ? dot_halves(codes, b->q, -zero * b->sum)
                                     : dot_words(codes, b->q, 8, -zero * b->sum);
        acc[i] = f32_block_add(acc[i], dot, b->d, scale);
        if (has_m) acc[i] = f32_scale_add(acc[i], m, b->d_sum);
    }
}
HVX_INLINE void two_blocks(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                           HVX_Vector* acc, unsigned blocks, enum bits bits, int zero, int has_m) {
    const HVX_VectorPair scales = f32_from_f16(hvx_load(g)),
                         ms = f32_from_f16(hvx_load(g + (has_m ? HTP_VECTOR : 0)));
    const uint8_t* codes = g + (1 + has_m) * HTP_VECTOR;
    one_block(codes, Q6_V_lo_W(scales), Q6_V_lo_W(ms), 0, x, n, acc, bits, zero, has_m);
    if (n > (has_m ? FEW_OVERLAP_M : FEW_OVERLAP)) HVX_FENCE();
    if (blocks == 2)
        one_block(codes + code_vectors(bits) * HTP_VECTOR, Q6_V_hi_W(scales), Q6_V_hi_W(ms), 1, x,
                  n, acc, bits, zero, has_m);
}

#define GROUP_BLOCKS 2
#define BLOCKS(name, bits, zero, has_m)                                                  \
    HVX_INLINE void name##_group(const uint8_t* g, const struct htp_act_block* const* x, \
                                 unsigned n, HVX_Vector* acc, unsigned blocks) {         \
        two_blocks(g, x, n, acc, blocks, bits, zero, has_m);                             \
    }
BLOCKS(q4_0, NIBBLES, 8, 0)
BLOCKS(q4_1, NIBBLES, 0, 1)
BLOCKS(q5_0, FIVE_BITS, 16, 0)
BLOCKS(q5_1, FIVE_BITS, 0, 1)
BLOCKS(q8_0, BYTES, 128, 0)
BLOCKS(iq4_nl, IQ4, 128, 0)

// Scales are bf16.
HVX_INLINE void mxfp4_x_group(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                              HVX_Vector* acc, unsigned blocks) {
    const HVX_VectorPair scales = f32_from_bf16(hvx_load(g));
    one_block(g + HTP_VECTOR, Q6_V_lo_W(scales), Q6_V_vzero(), 0, x, n, acc, E2M1, 128, 0);
    if (n > FEW_OVERLAP) HVX_FENCE();
    if (blocks == 2)
        one_block(g + 5 * HTP_VECTOR, Q6_V_hi_W(scales), Q6_V_vzero(), 1, x, n, acc, E2M1, 128, 0);
}
// One scale per 16 inputs.
HVX_INLINE void nvfp4_x_group(const uint8_t* g, const struct htp_act_block* const* x, unsigned n,
                              HVX_Vector* acc, unsigned blocks) {
    HVX_UNROLL(2)
    for (unsigned half = 0; half < 2; half++) {
        if (half >= blocks) break;
        if (half) HVX_FENCE();
        const HVX_VectorPair scales = f32_from_f16(hvx_load(g + half * HTP_VECTOR));
        HVX_Vector codes[8];
        unpack_nibble_table(g + (2 + 4 * half) * HTP_VECTOR, e2m1_codes, codes);
        ROWS(i) {
            const struct htp_act_block* b = x[i] + half;
            acc[i] = f32_block_add(acc[i], dot_words(codes, b->q, 4, -128 * (b->sum - b->sum_high)),
                                   b->d, Q6_V_lo_W(scales));
            acc[i] = f32_block_add(acc[i], dot_words(codes + 4, b->q + 16, 4, -128 * b->sum_high),
                                   b->d, Q6_V_hi_W(scales));
        }
    }
}

QUANT(q4_0, DType_q4_0)
QUANT(q4_1, DType_q4_1)
QUANT(q5_0, DType_q5_0)
QUANT(q5_1, DType_q5_1)
QUANT(q8_0, DType_q8_0)
QUANT(iq4_nl, DType_iq4_nl)
QUANT(mxfp4_x, DType_mxfp4_x)
QUANT(nvfp4_x, DType_nvfp4_x)
