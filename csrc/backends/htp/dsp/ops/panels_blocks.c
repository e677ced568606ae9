// Formats with blocks of 32 inputs; a group is two blocks.
#include "backends/htp/dsp/ops/panels_kernels.h"

enum bits { NIBBLES, FIVE_BITS, BYTES, IQ4 };

HVX_INLINE uint32_t code_vectors(enum bits bits) { return bits == BYTES ? 8 : bits == FIVE_BITS ? 5 : 4; }
HVX_INLINE void unpack(const uint8_t* at, HVX_Vector codes[8], enum bits bits) {
    if (bits == NIBBLES) unpack_nibbles(at, codes);
    else if (bits == FIVE_BITS) unpack_five_bits(at, codes);
    else if (bits == BYTES) load_bytes(at, codes);
    else unpack_iq4(at, codes);
}

// value = scale * (code - zero), or scale * code + m
HVX_INLINE void two_blocks(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc, enum bits bits,
                           int zero, int has_m) {
    const HVX_VectorPair scales = f32_from_f16(hvx_load(g)), ms = f32_from_f16(hvx_load(g + (has_m ? HTP_VECTOR : 0)));
    for (uint32_t half = 0; half < 2 && group * 64 + half * 32 < inputs; half++) {
        const uint32_t block = 2 * group + half;
        const HVX_Vector scale = half ? Q6_V_hi_W(scales) : Q6_V_lo_W(scales), m = half ? Q6_V_hi_W(ms) : Q6_V_lo_W(ms);
        HVX_Vector codes[8];
        unpack(g + (1 + (uint32_t)has_m + code_vectors(bits) * half) * HTP_VECTOR, codes, bits);
        ROWS(i) {
            const struct htp_act_block* b = x[i].b + block;
            acc[i] = f32_block_add(acc[i], dot_words(codes, x[i].q + 8 * block, 8, -zero * b->sum), b->d, scale);
            if (has_m) acc[i] = f32_scale_add(acc[i], m, b->d_sum);
        }
    }
}

#define BLOCKS(name, bits, zero, has_m) \
    HVX_INLINE void name##_group(const uint8_t* g, uint32_t group, uint32_t inputs, const struct act* x, unsigned n, HVX_Vector* acc) { \
        two_blocks(g, group, inputs, x, n, acc, bits, zero, has_m); \
    }
BLOCKS(q4_0, NIBBLES, 8, 0)
BLOCKS(q4_1, NIBBLES, 0, 1)
BLOCKS(q5_0, FIVE_BITS, 16, 0)
BLOCKS(q5_1, FIVE_BITS, 0, 1)
BLOCKS(q8_0, BYTES, 128, 0)
BLOCKS(iq4_nl, IQ4, 128, 0)

QUANT(q4_0, HTP_Q4_0)
QUANT(q4_1, HTP_Q4_1)
QUANT(q5_0, HTP_Q5_0)
QUANT(q5_1, HTP_Q5_1)
QUANT(q8_0, HTP_Q8_0)
QUANT(iq4_nl, HTP_IQ4_NL)
