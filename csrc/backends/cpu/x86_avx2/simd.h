// Vector operations for AVX2 with FMA and F16C, 8 lanes. Included inside the namespace of the
// instruction set; include <immintrin.h> before, outside of it. Every instruction set has the same
// operations with the same results. dot.h adds the integer dot products of the matmuls.
//
// The comparison defines max and min, `a > b ? a : b` and `a < b ? a : b`: if either is a NaN, the
// result is b.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

constexpr int kLanes = 8;
using Ints = __m256i;  // 8 x 32 bits, or 32 bytes
using Floats = __m256;
using Mask = __m256;  // true: all bits of a lane are set

// ---- ints ----
static inline Ints load_bytes(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
static inline void store_bytes(uint8_t* p, Ints v) { _mm256_storeu_si256((__m256i*)p, v); }
static inline Ints broadcast(const int32_t* p) { return _mm256_set1_epi32(*p); }
static inline Ints splat_int(int32_t v) { return _mm256_set1_epi32(v); }
static inline Ints zero_ints() { return _mm256_setzero_si256(); }
static inline Ints count_ints() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
static inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
static inline Ints subtract(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
static inline Ints max(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
static inline Ints min(Ints a, Ints b) { return _mm256_min_epi32(a, b); }
static inline Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
static inline Ints bit_or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
static inline Ints bit_xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
static inline Ints and_constant(Ints v, int c) { return _mm256_and_si256(v, _mm256_set1_epi32(c)); }
static inline Ints shift_left(Ints v, int n) { return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n)); }
// Shifts zeros in.
static inline Ints shift_right(Ints v, int n) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(n)); }
template <int N>
static inline Ints shift_left(Ints v) {
    return N ? _mm256_slli_epi32(v, N) : v;
}
template <int N>
static inline Ints shift_right(Ints v) {
    return N ? _mm256_srli_epi32(v, N) : v;
}
template <int N>
static inline Ints shift_right_signed(Ints v) {
    return _mm256_srai_epi32(v, N);
}
static inline Mask greater(Ints a, Ints b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)); }

// ---- floats ----
static inline Floats zero_floats() { return _mm256_setzero_ps(); }
static inline Floats broadcast(const float* p) { return _mm256_broadcast_ss(p); }
static inline Floats splat(float v) { return _mm256_set1_ps(v); }
static inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
// The first n lanes, 0 <= n <= kLanes. The others load as +0 and are not stored.
static inline Ints first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), count_ints());
}
static inline Floats load_first(const float* p, int n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}
static inline void store_first(float* p, Floats v, int n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}
static inline Floats load_f16(const uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
static inline Floats load_f16_first(const uint8_t* p, int n) {
    uint8_t halves[16] = {};
    __builtin_memcpy(halves, p, 2 * size_t(n));
    return load_f16(halves);
}
static inline Floats splat_f16(const uint8_t* p) {
    uint16_t half;
    __builtin_memcpy(&half, p, 2);
    return _mm256_cvtph_ps(_mm_set1_epi16(short(half)));
}
// Rounds to nearest even; too large values become infinite.
static inline void store_f16(uint8_t* p, Floats v) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline Floats load_bf16(const uint8_t* p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
static inline Floats to_float(Ints v) { return _mm256_cvtepi32_ps(v); }
// Rounds to nearest even; only for values in the range of int32.
static inline Ints to_int(Floats v) { return _mm256_cvtps_epi32(v); }
static inline Floats load_i8(const uint8_t* p) {
    return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
static inline Ints bits_of(Floats v) { return _mm256_castps_si256(v); }
static inline Floats of_bits(Ints v) { return _mm256_castsi256_ps(v); }
static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
static inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
static inline Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
// a * b + c
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
// c - a * b
static inline Floats fma_minus(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
static inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
static inline Mask greater(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
static inline Floats select(Mask m, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, m); }

// Prefetches into the first cache. Volatile: gcc considers a function that only prefetches to be
// without effect and drops its calls.
static inline void fetch_ahead(const uint8_t* p) { asm volatile("prefetcht0 %0" ::"m"(*p)); }
