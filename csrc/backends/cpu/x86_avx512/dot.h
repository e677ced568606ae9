// Integer operations of the matmuls for AVX-512 with VNNI, beside the float operations of simd.h.
// vpdpbusd takes unsigned codes and signed activations and adds four products to each 32-bit lane,
// without saturation.
#pragma once
#include "simd.h"

typedef int32_t __attribute__((may_alias)) Int32Alias;

// Keeps loads in their place: as memory operands of two instructions the compiler would read the
// line twice, and later.
static inline Ints hold_in_register(Ints v) {
    asm("" : "+v"(v));
    return v;
}
// Prefetches into the second cache. Volatile like fetch_ahead.
static inline void fetch_far(const uint8_t* p) { asm volatile("prefetcht1 %0" ::"m"(*p)); }
// Prefetches a line to write it.
static inline void fetch_to_write(const float* p) { asm volatile("prefetchw %0" ::"m"(*p)); }

// Moves the field of `Width` bits at bit `From` of every byte to bit `To`. The second form adds the
// bits of `other`.
template <int From, int To, int Width>
static inline Ints field(Ints v) {
    const Ints moved = From > To   ? _mm512_srli_epi16(v, From > To ? From - To : 0)
                       : From < To ? _mm512_slli_epi16(v, From < To ? To - From : 0)
                                   : v;
    return _mm512_and_si512(moved, _mm512_set1_epi8(char(((1 << Width) - 1) << To)));
}
template <int From, int To, int Width>
static inline Ints join_field(Ints other, Ints v) {
    const Ints moved = From > To   ? _mm512_srli_epi16(v, From > To ? From - To : 0)
                       : From < To ? _mm512_slli_epi16(v, From < To ? To - From : 0)
                                   : v;
    return _mm512_ternarylogic_epi32(moved, _mm512_set1_epi8(char(((1 << Width) - 1) << To)), other,
                                     0xEA);  // (a & b) | c
}
// Loads 16-bit entries of a plane, one per row, as 32-bit lanes.
static inline Ints load_u16(const uint8_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
}
static inline Ints load_u8(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
}

// Whether Dot<8> multiplies value + 128, so that its sum starts with what the 128 add.
constexpr bool kUnsignedCodes = true;
// 8-bit codes (value + 128) and table indices in the form that Dot<8> multiplies: here unsigned,
// value + 128.
static inline Ints eight_bits(Ints codes) { return codes; }
template <Table T>
static inline Ints look_up(Ints nibbles) {
    const __m128i table =
        _mm_xor_si128(_mm_loadu_si128((const __m128i*)table_of(T)), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles);
}

struct Act {  // 32 activations of one column
    const int8_t* q;
    Act() = default;
    explicit Act(const ActBlock* b) : q(b->q) {}
};
// Sums the products of code planes and 4 activations per lane. Starts at `init`, the share of the
// zero point. J: plane; N: number of planes before it.
template <int Bits>
struct Dot {
    Ints sum;
    static inline Dot start(Ints init) { return {init}; }
    template <int J, int N>
    inline void add(Ints codes, const Act& a) {
        sum = _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(*(const Int32Alias*)(a.q + 4 * J)));
    }
    inline Ints finish(Ints) const { return sum; }
};

static inline int32_t max_of(Ints v) { return _mm512_reduce_max_epi32(v); }
static inline int32_t sum_of(Ints v) { return _mm512_reduce_add_epi32(v); }
// Stores 32 lanes, each in -128..127, as bytes.
static inline void store_i8(int8_t* p, const Ints (&v)[2]) {
    _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(v[0]));
    _mm_storeu_si128((__m128i*)(p + 16), _mm512_cvtepi32_epi8(v[1]));
}

// Registers of rows and columns per pass: 32 registers; two of them hold all rows of a panel.
static constexpr int matvec_regs(int /*columns*/) { return 2; }
static constexpr int matvec_float_regs(int /*columns*/) { return 2; }
constexpr int kTileRegs = 2,
              kMatmulColumns = 6;  // 12 sums, 16 registers of codes, 2 of scales, 1 of activations
constexpr int kFloatTileRegs = 2, kFloatTileColumns = 8;
// The sums stay in registers. 4 and 5 columns of 8-bit codes are slow.
static constexpr MatvecGroup matvec_group(int bits, bool plain) {
    return {bits == 8 ? 8 : 6, plain ? kMatmulMax : 0};
}
