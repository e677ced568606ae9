// Integer dot products of the matmuls for AVX-VNNI, the 256-bit vpdpbusd of processors without
// AVX-512: it takes unsigned codes and signed activations and adds four products to each 32-bit
// lane, without saturation.
#pragma once
#include "backends/cpu/x86_avx2/bytes.h"

// Whether Dot<8> multiplies value + 128, so that its sum starts with what the 128 add.
constexpr bool kUnsignedCodes = true;
// 8-bit codes (value + 128) and table indices in the form that Dot<8> multiplies: here unsigned,
// value + 128.
static inline Ints eight_bits(Ints codes) { return codes; }
template <Table T>
static inline Ints look_up(Ints nibbles) {
    const __m128i table =
        _mm_xor_si128(_mm_loadu_si128((const __m128i*)table_of(T)), _mm_set1_epi8(-128));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

// Sums the products of code planes and 4 activations per lane. Starts at `init`, the share of the
// zero point. J: plane; N: number of planes before it.
template <int Bits>
struct Dot {
    Ints sum;
    static inline Dot start(Ints init) { return {init}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        sum = _mm256_dpbusd_avx_epi32(sum, codes, act_plane<J>(a));
    }
    inline Ints finish(Ints) const { return sum; }
};

// Four columns of two registers of rows keep their sums in registers. 8-bit codes wait for loads,
// and the matmul kernel loads less.
static constexpr MatvecGroup matvec_group(int bits, bool plain) {
    return {4, bits == 8 ? 0 : plain ? kMatmulMax : 11};
}
