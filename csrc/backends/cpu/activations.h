// Activations in the form that the quantized matmul kernels read: blocks of 32 inputs as int8 with
// one f32 scale, and the sums that correct for unsigned weight codes and for the minima of
// asymmetric formats.
//
// How quantize makes a block; every step is one IEEE operation, so all tables give the same bytes.
// top = max |x|:
//     top finite, top >= 2^-110    inverse = 127 / top; q = round to nearest even of x * inverse;
//                                  d = top / 127
//     top < 2^-110                 q = 0, d = 0 (so that the inverse stays finite)
//     an infinity or a NaN         q = 0, d = d_sum = the quiet NaN 0x7FC00000: the whole output
//                                  row of that column becomes NaN, visibly, in every table
#pragma once
#include <stdint.h>

namespace pillion::cpu {

struct ActBlock {  // one column, 32 inputs
    int8_t q[32];  // -127..127
    float d;       // value = d * q
    // d * sum(q): the factor of minima in formats that have one per 32 inputs
    float d_sum;
    // -8 * sum(q): the start of a block's dot product, so that code - 8 needs no instruction
    int32_t zero8;
    // the same over inputs 16..31 only, for formats with a scale or a minimum per 16
    int32_t zero8_high;
};
static_assert(sizeof(ActBlock) == 48, "kernels use constant offsets");

constexpr int32_t kActTopMin = 0x08800000;  // bits of 2^-110
constexpr int32_t kActTopMax = 0x7F7FFFFF;  // bits of the largest finite float

// The factor of a block, from the bits of its largest magnitude; 0 for the two kinds of block whose
// q are 0.
static inline float act_inverse(int32_t top_bits) {
    float top;
    __builtin_memcpy(&top, &top_bits, 4);
    return top_bits >= kActTopMin && top_bits <= kActTopMax ? 127.0f / top : 0.0f;
}

// Fills in the rest of a block whose q are set. low, high: the sums of the two halves of q.
static inline void act_finish(ActBlock& b, int32_t top_bits, int32_t low, int32_t high) {
    const int32_t bits = top_bits > kActTopMax ? 0x7FC00000 : top_bits < kActTopMin ? 0 : top_bits;
    float top;
    __builtin_memcpy(&top, &bits, 4);
    b.d = top / 127.0f;
    b.d_sum = b.d * float(low + high);
    b.zero8 = -8 * (low + high);
    b.zero8_high = -8 * high;
}

}  // namespace pillion::cpu
