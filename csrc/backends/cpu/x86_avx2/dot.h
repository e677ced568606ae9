// Integer operations of the matmuls for AVX2, beside the float operations of simd.h. vpmaddubsw
// takes unsigned codes and signed activations, adds two products and *saturates at 16 bits*. The
// comment of each Dot shows why its sums fit.
#pragma once
#include "bytes.h"

// Whether Dot<8> multiplies value + 128, so that its sum starts with what the 128 add.
constexpr bool kUnsignedCodes = false;
// 8-bit codes (value + 128) and table indices in the form that Dot<8> multiplies: here signed
// values.
static inline Ints eight_bits(Ints codes) {
    return _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
}
template <Table T>
static inline Ints look_up(Ints nibbles) {
    return _mm256_shuffle_epi8(
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table_of(T))), nibbles);
}

static inline Ints widen(Ints pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Keeps additions in the written order. The compiler may regroup integer sums, and gcc 12 does: it
// forms all products of a block first and spills them (4 columns of Q4_0 took twice the time).
static inline Ints in_order(Ints v) {
    asm("" : "+x"(v));
    return v;
}

// Sums the products of code planes and 4 activations per lane. `init`: the share of the zero point.
// J: plane; N: number of planes before it.
//
// Codes of up to 4 bits: a pair is at most 2 * 15 * 127 = 3810, so all 8 planes (30480) fit in 16
// bits and are widened once per block.
template <int Bits>
struct Dot {
    static_assert(Bits <= 4, "the larger have their own");
    Ints sum;
    static inline Dot start(Ints) { return {zero_ints()}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        const Ints pairs = _mm256_maddubs_epi16(codes, act_plane<J>(a));
        sum = in_order(N == 0 ? pairs : _mm256_add_epi16(sum, pairs));
    }
    inline Ints finish(Ints init) const { return _mm256_add_epi32(init, widen(sum)); }
};
// 5 bits: a pair is at most 2 * 31 * 127 = 7874; four planes (31496) fit. 6 bits: 2 * 63 * 127 =
// 16002; two planes fit.
template <int Together>
struct WideDot {
    Ints sum, pairs;
    static inline WideDot start(Ints init) { return {init, zero_ints()}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        const Ints p = _mm256_maddubs_epi16(codes, act_plane<J>(a));
        pairs = in_order(N % Together == 0 ? p : _mm256_add_epi16(pairs, p));
        if (N % Together == Together - 1) sum = in_order(_mm256_add_epi32(sum, widen(pairs)));
    }
    inline Ints finish(Ints) const { return sum; }
};
template <>
struct Dot<5> : WideDot<4> {
    static inline Dot start(Ints init) { return {{init, zero_ints()}}; }
};
template <>
struct Dot<6> : WideDot<2> {
    static inline Dot start(Ints init) { return {{init, zero_ints()}}; }
};
// 8 bits: |w| * (sign(w) * a). A pair is at most 2 * 128 * 127 = 32512, which just fits. The
// weights are signed, so the zero point needs no correction.
template <>
struct Dot<8> {
    Ints sum;
    static inline Dot start(Ints) { return {zero_ints()}; }
    template <int J, int N>
    inline void add(Ints w, const Act& a) {
        const Ints p =
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(act_plane<J>(a), w));
        sum = in_order(N == 0 ? widen(p) : _mm256_add_epi32(sum, widen(p)));
    }
    inline Ints finish(Ints) const { return sum; }
};

// The matmul kernel takes more columns than `matvec_most`.
static constexpr MatvecGroup matvec_group(int /*bits*/, bool /*plain*/) { return {0, 0}; }
