// The one plain reading of each quantized block of core/contract/blocks.h, in plain C:
//
//   value of input i = NAME_scale(b, i) * NAME_number(NAME_code(b, i)) - NAME_minimum(b, i)
//
// each operation rounded to f32 in this order. `code` is the unsigned number that the bit fields
// hold, `number` what it stands for, `minimum` 0 where a format has none. NAME_group: how many
// inputs share a scale (and a minimum). NAME_values reads a whole block. NAME is a format of
// formats.def whose kind is SCALED; the EXPANDED ones become such at import (core/expand.h).
//
// Whoever needs a block faster (the packers of the CPU, the CUDA kernels) has a text of its own,
// which is tested against this one.
#pragma once
#include "core/contract/blocks.h"

#ifdef __cplusplus
namespace pillion {
#endif

// --- bit fields that formats share; q, high, scales: fields of blocks ---

// Input i of 32: nibbles; single bits.
static inline int block_nibble(const uint8_t* q, int i) { return q[i % 16] >> (i / 16 * 4) & 15; }
static inline int block_bit(const uint8_t* high, int i) { return high[i / 8] >> (i % 8) & 1; }
// Input i of 256: nibbles, a group's as in a short block; nibbles, 64 inputs in 32 bytes; pairs,
// 128 inputs in 32 bytes; single bits, 256 inputs in 32 bytes.
static inline int block_nibble_xs(const uint8_t* q, int i) {
    return block_nibble(q + i / 32 * 16, i % 32);
}
static inline int block_nibble_k(const uint8_t* q, int i) {
    return q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}
static inline int block_pair_k(const uint8_t* q, int i) {
    return q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}
static inline int block_bit_k(const uint8_t* high, int i) { return high[i % 32] >> (i / 32) & 1; }
// Of group g: the six-bit scale and minimum of Q4_K and Q5_K, the scale of Q3_K and of IQ4_XS, the
// four-bit scale that stands for 2 * s + 1.
static inline int block_six_scale(const uint8_t* s, int g) {
    return g < 4 ? s[g] & 63 : (s[4 + g] & 15) | (s[g - 4] >> 6) << 4;
}
static inline int block_six_minimum(const uint8_t* s, int g) {
    return g < 4 ? s[4 + g] & 63 : (s[4 + g] >> 4) | (s[g] >> 6) << 4;
}
static inline int block_q3_scale(const uint8_t* s, int g) {
    return (s[g % 8] >> (g / 8 * 4) & 15) | (s[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
}
static inline int block_xs_scale(const BlockIQ4_XS* b, int g) {
    return (b->scales_low[g / 2] >> (g % 2 * 4) & 15) | (b->scales_high >> (2 * g) & 3) << 4;
}
static inline int block_odd_scale(const uint8_t* s, int g) {
    return 2 * (s[g / 2] >> (g % 2 * 4) & 15) + 1;
}

// --- formats ---

enum {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) name##_inputs = inputs,
#include "core/contract/formats.def"
#undef PILLION_FORMAT
};

#define PILLION_READING(name, Block, group, code, number, scale, minimum)                       \
    enum { name##_group = group };                                                              \
    static inline int name##_code(const Block* b, int i) { return code; }                       \
    static inline int name##_number(int c) { return number; }                                   \
    static inline float name##_scale(const Block* b, int i) { return (void)i, (float)(scale); } \
    static inline float name##_minimum(const Block* b, int i) {                                 \
        return (void)b, (void)i, (float)(minimum);                                              \
    }                                                                                           \
    static inline void name##_values(const Block* b, float* values) {                           \
        for (int g = 0; g < (int)name##_inputs; g += group) {                                   \
            const float s = name##_scale(b, g), low = name##_minimum(b, g);                     \
            for (int i = g; i < g + group; i++) {                                               \
                const float product = s * (float)name##_number(name##_code(b, i));              \
                values[i] = product - low;                                                      \
            }                                                                                   \
        }                                                                                       \
    }

// clang-format off
PILLION_READING(q4_0, BlockQ4_0, 32, block_nibble(b->q, i), c - 8, f16_to_f32(b->d), 0)
PILLION_READING(q4_1, BlockQ4_1, 32, block_nibble(b->q, i), c, f16_to_f32(b->d), -f16_to_f32(b->m))
PILLION_READING(q5_0, BlockQ5_0, 32, block_nibble(b->q, i) | block_bit(b->high, i) << 4, c - 16,
                f16_to_f32(b->d), 0)
PILLION_READING(q5_1, BlockQ5_1, 32, block_nibble(b->q, i) | block_bit(b->high, i) << 4, c,
                f16_to_f32(b->d), -f16_to_f32(b->m))
PILLION_READING(q8_0, BlockQ8_0, 32, b->q[i] + 128, c - 128, f16_to_f32(b->d), 0)
PILLION_READING(q2_k, BlockQ2_K, 16, block_pair_k(b->q, i), c,
                f16_to_f32(b->d) * (float)(b->scales[i / 16] & 15),
                f16_to_f32(b->dmin) * (float)(b->scales[i / 16] >> 4))
PILLION_READING(q3_k, BlockQ3_K, 16, block_pair_k(b->q, i) | block_bit_k(b->high, i) << 2, c - 4,
                f16_to_f32(b->d) * (float)(block_q3_scale(b->scales, i / 16) - 32), 0)
PILLION_READING(q4_k, BlockQ4_K, 32, block_nibble_k(b->q, i), c,
                f16_to_f32(b->d) * (float)block_six_scale(b->scales, i / 32),
                f16_to_f32(b->dmin) * (float)block_six_minimum(b->scales, i / 32))
PILLION_READING(q5_k, BlockQ5_K, 32, block_nibble_k(b->q, i) | block_bit_k(b->high, i) << 4, c,
                f16_to_f32(b->d) * (float)block_six_scale(b->scales, i / 32),
                f16_to_f32(b->dmin) * (float)block_six_minimum(b->scales, i / 32))
PILLION_READING(q6_k, BlockQ6_K, 16,
                (b->low[i / 128 * 64 + i / 32 % 2 * 32 + i % 32] >> (i / 64 % 2 * 4) & 15) |
                    block_pair_k(b->high, i) << 4,
                c - 32, f16_to_f32(b->d) * (float)b->scales[i / 16], 0)
PILLION_READING(iq4_nl, BlockIQ4_NL, 32, block_nibble(b->q, i), kIq4Values[c], f16_to_f32(b->d), 0)
PILLION_READING(iq4_xs, BlockIQ4_XS, 32, block_nibble_xs(b->q, i), kIq4Values[c],
                f16_to_f32(b->d) * (float)(block_xs_scale(b, i / 32) - 32), 0)
PILLION_READING(tq2_0, BlockTQ2_0, 32, block_pair_k(b->q, i), c - 1, f16_to_f32(b->d), 0)
PILLION_READING(mxfp4_x, BlockMXFP4_X, 32, block_nibble(b->q, i), kE2m1Values[c],
                bf16_to_f32(b->d), 0)
PILLION_READING(nvfp4_x, BlockNVFP4_X, 16, block_nibble(b->q, i), kE2m1Values[c],
                f16_to_f32(b->d[i / 16]), 0)
PILLION_READING(iq3_xxs_x, BlockIQ3_X, 32, block_nibble_xs(b->q, i), kIq3XxsValues[c],
                f16_to_f32(b->d) / 4 * (float)block_odd_scale(b->scales, i / 32), 0)
PILLION_READING(iq3_s_x, BlockIQ3_X, 32, block_nibble_xs(b->q, i), kIq3SValues[c],
                f16_to_f32(b->d) * (float)block_odd_scale(b->scales, i / 32), 0)
PILLION_READING(iq2_x, BlockIQ2_X, 16, block_pair_k(b->q, i) | block_bit_k(b->high, i) << 2,
                kIq2Values[c], f16_to_f32(b->d) / 8 * (float)block_odd_scale(b->scales, i / 16), 0)
PILLION_READING(iq1_x, BlockIQ2_X, 16, block_pair_k(b->q, i) | block_bit_k(b->high, i) << 2,
                kIq1Values[c], f16_to_f32(b->d) / 8 * (float)block_odd_scale(b->scales, i / 16), 0)
// clang-format on
#undef PILLION_READING

#ifdef __cplusplus
}  // namespace pillion
#endif
