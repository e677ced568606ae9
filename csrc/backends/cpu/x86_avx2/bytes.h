// Integer operations of the matmuls with 256-bit registers, beside the float operations of simd.h:
// all but the dot products, which AVX2 and AVX-VNNI make in their own way (dot.h of each).
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

struct Act {  // 32 activations of one column
    const int8_t* q;
    Act() = default;
    explicit Act(const ActBlock* b) : q(b->q) {}
};
template <int J>
static inline Ints act_plane(const Act& a) {
    return _mm256_set1_epi32(*(const Int32Alias*)(a.q + 4 * J));
}

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
