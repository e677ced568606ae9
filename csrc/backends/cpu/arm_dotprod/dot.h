// Integer operations of the matmuls for Armv8.2 with the dot product extension, beside the float
// operations of simd.h. Codes of up to 6 bits are small enough to be read as signed. 8-bit codes go
// back to signed weights, so the zero point needs no correction.
#pragma once
#include "simd.h"

static inline uint8x16_t bytes(Ints v) { return vreinterpretq_u8_s32(v); }
static inline Ints of_bytes(uint8x16_t v) { return vreinterpretq_s32_u8(v); }

// Does nothing here: Arm instructions have no memory operands.
static inline Ints hold_in_register(Ints v) { return v; }
// Prefetches into the second cache. Volatile like fetch_ahead.
static inline void fetch_far(const uint8_t* p) { asm volatile("prfm pldl2keep, %0" ::"Q"(*p)); }
// Prefetches a line to write it.
static inline void fetch_to_write(const float* p) { asm volatile("prfm pstl1keep, %0" ::"Q"(*p)); }

// Moves the field of `Width` bits at bit `From` of every byte to bit `To`. The second form adds the
// bits of `other`.
template <int From, int To, int Width>
static inline Ints field(Ints v) {
    constexpr int kRight = From > To ? From - To : 0, kLeft = From < To ? To - From : 0;
    const uint8x16_t moved = kRight  ? vshrq_n_u8(bytes(v), kRight ? kRight : 1)
                             : kLeft ? vshlq_n_u8(bytes(v), kLeft)
                                     : bytes(v);
    // The shift has pushed all other bits out.
    constexpr bool kAlone = kRight && From + Width == 8 && To == 0;
    return of_bytes(kAlone ? moved
                           : vandq_u8(moved, vdupq_n_u8(uint8_t(((1 << Width) - 1) << To))));
}
template <int From, int To, int Width>
static inline Ints join_field(Ints other, Ints v) {
    return bit_or(other, field<From, To, Width>(v));
}
static inline Ints load_u16(const uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))));
}
static inline Ints load_u8(const uint8_t* p) {
    uint32_t four;
    __builtin_memcpy(&four, p, 4);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}

// arm_i8mm/dot.h has its own versions of these.
#ifndef PILLION_I8MM
// Whether Dot<8> multiplies value + 128, so that its sum starts with what the 128 add.
constexpr bool kUnsignedCodes = false;
// 8-bit codes (value + 128) and table indices in the form that Dot<8> multiplies: here signed
// values.
static inline Ints eight_bits(Ints codes) {
    return of_bytes(veorq_u8(bytes(codes), vdupq_n_u8(128)));
}
template <Table T>
static inline Ints look_up(Ints nibbles) {
    return vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(table_of(T)), bytes(nibbles)));
}
#endif

struct Act {  // 32 activations of one column
    int8x16_t low, high;
    Act() = default;
    explicit Act(const ActBlock* b) : low(vld1q_s8(b->q)), high(vld1q_s8(b->q + 16)) {}
};
#ifndef PILLION_I8MM
// Sums the products of code planes and 4 activations per lane. Starts at `init`, the share of the
// zero point. J: plane; N: number of planes before it.
template <int Bits>
struct Dot {
    Ints sum;
    static inline Dot start(Ints init) { return {Bits == 8 ? zero_ints() : init}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        sum = vdotq_laneq_s32(sum, vreinterpretq_s8_s32(codes), J < 4 ? a.low : a.high, J % 4);
    }
    inline Ints finish(Ints) const { return sum; }
};
#endif

static inline int32_t max_of(Ints v) { return vmaxvq_s32(v); }
static inline int32_t sum_of(Ints v) { return vaddvq_s32(v); }
// Stores 32 lanes, each in -128..127, as bytes.
static inline void store_i8(int8_t* p, const Ints (&v)[8]) {
    for (int i = 0; i < 8; i += 4) {
        const int16x8_t a = vcombine_s16(vmovn_s32(v[i]), vmovn_s32(v[i + 1])),
                        b = vcombine_s16(vmovn_s32(v[i + 2]), vmovn_s32(v[i + 3]));
        vst1q_s8(p + 4 * i, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
    }
}

// Registers of rows and columns per pass: 32 registers; eight of them hold all rows of a panel, and
// a column's activations take two.
static constexpr int matvec_regs(int columns) { return columns == 1 ? 4 : columns <= 5 ? 2 : 1; }
static constexpr int matvec_float_regs(int columns) {
    return columns == 1 ? 8 : columns <= 6 ? 4 : 2;
}
#ifndef PILLION_I8MM
constexpr int kTileRegs = 1, kMatmulColumns = 4;
#endif
constexpr int kFloatTileRegs = 4, kFloatTileColumns = 6;
// The matmul kernel takes more columns than `matvec_most`.
static constexpr MatvecGroup matvec_group(int /*bits*/, bool /*plain*/) { return {0, 0}; }
