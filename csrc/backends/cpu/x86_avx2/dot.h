// Integer operations of the matmuls for AVX2, beside the float operations of simd.h. vpmaddubsw
// takes unsigned codes and signed activations, adds two products and *saturates at 16 bits*. The
// comment of each Dot shows why its sums fit.
#pragma once
#include "simd.h"

typedef int32_t __attribute__((may_alias)) Int32Alias;

// Does nothing here: registers are scarce, and the compiler may load again.
static inline Ints hold_in_register(Ints v) { return v; }
// Prefetches into the second cache. Volatile like fetch_ahead.
static inline void fetch_far(const uint8_t* p) { asm volatile("prefetcht1 %0" ::"m"(*p)); }
// Prefetches a line to write it.
static inline void fetch_to_write(const float* p) { asm volatile("prefetchw %0" ::"m"(*p)); }

// Moves the field of `Width` bits at bit `From` of every byte to bit `To`. The second form adds the
// bits of `other`.
template <int From, int To, int Width>
static inline Ints field(Ints v) {
    const Ints moved = From > To   ? _mm256_srli_epi16(v, From > To ? From - To : 0)
                       : From < To ? _mm256_slli_epi16(v, From < To ? To - From : 0)
                                   : v;
    return _mm256_and_si256(moved, _mm256_set1_epi8(char(((1 << Width) - 1) << To)));
}
template <int From, int To, int Width>
static inline Ints join_field(Ints other, Ints v) {
    return _mm256_or_si256(other, field<From, To, Width>(v));
}
static inline Ints load_u16(const uint8_t* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
}
static inline Ints load_u8(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
}

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

struct Act {  // 32 activations of one column
    const int8_t* q;
    Act() = default;
    explicit Act(const ActBlock* b) : q(b->q) {}
};
template <int J>
static inline Ints act_plane(const Act& a) {
    return _mm256_set1_epi32(*(const Int32Alias*)(a.q + 4 * J));
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

static inline int32_t max_of(Ints v) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
static inline int32_t sum_of(Ints v) {
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
// Stores 32 lanes, each in -128..127, as bytes.
static inline void store_i8(int8_t* p, const Ints (&v)[4]) {
    const Ints packed =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    _mm256_storeu_si256((__m256i*)p,
                        _mm256_permutevar8x32_epi32(packed,
                                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

// Registers of rows and columns per pass: 16 registers; four of them hold all rows of a panel.
static constexpr int matvec_regs(int columns) { return columns <= 4 ? 2 : 1; }
static constexpr int matvec_float_regs(int columns) {
    return columns <= 2 ? 4 : columns <= 6 ? 2 : 1;
}
constexpr int kTileRegs = 1, kMatmulColumns = 4;
constexpr int kFloatTileRegs = 2, kFloatTileColumns = 4;
// The matmul kernel takes more columns than `matvec_most`.
static constexpr int matvec_group(int /*bits*/) { return 0; }
