// Integer operations of the matmuls for Armv8.6 with int8 matrix products: those of Armv8.2, with
// unsigned 8-bit codes where the instructions allow them (usdot, usmmla), and products of 2 x 8 by
// 8 x 2 for the matmul kernel.
#pragma once
// arm_dotprod/dot.h leaves out the operations of this file.
#define PILLION_I8MM 1
#include "backends/cpu/arm_dotprod/dot.h"

// Whether Dot<8> multiplies value + 128, so that its sum starts with what the 128 add.
constexpr bool kUnsignedCodes = true;
// 8-bit codes (value + 128) and table indices in the form that Dot<8> multiplies: here unsigned,
// value + 128.
static inline Ints eight_bits(Ints codes) { return codes; }
template <Table T>
static inline Ints look_up(Ints nibbles) {
    const uint8x16_t table = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(table_of(T))), vdupq_n_u8(128));
    return of_bytes(vqtbl1q_u8(table, bytes(nibbles)));
}

// Sums the products of code planes and 4 activations per lane. Starts at `init`, the share of the
// zero point. J: plane; N: number of planes before it.
template <int Bits>
struct Dot {
    Ints sum;
    static inline Dot start(Ints init) { return {init}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        sum = vusdotq_laneq_s32(sum, bytes(codes), J < 4 ? a.low : a.high, J % 4);
    }
    inline Ints finish(Ints) const { return sum; }
};

// The operations of the matmul kernel. A matrix product adds [row 0 x column 0, row 0 x column 1,
// row 1 x column 0, row 1 x column 1].
#define PILLION_MATRIX_PRODUCTS 1
static inline Ints zip_low(Ints a, Ints b) { return vzip1q_s32(a, b); }
static inline Ints zip_high(Ints a, Ints b) { return vzip2q_s32(a, b); }
static inline Ints even_lanes(Ints a, Ints b) { return vuzp1q_s32(a, b); }
static inline Ints odd_lanes(Ints a, Ints b) { return vuzp2q_s32(a, b); }
static inline Ints join_eights(const int8_t* a, const int8_t* b) {
    return vreinterpretq_s32_s8(vcombine_s8(vld1_s8(a), vld1_s8(b)));
}
template <int Bits>
static inline Ints matrix_product(Ints sum, Ints codes, Ints x) {
    return vusmmlaq_s32(sum, bytes(codes), vreinterpretq_s8_s32(x));
}

// Registers of rows and columns per pass of the matmul kernel: 16 of codes, 8 sums of two columns
// each.
constexpr int kTileRegs = 2, kMatmulColumns = 4;
