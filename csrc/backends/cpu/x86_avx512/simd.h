// Vector operations for AVX-512 (F, BW, VL, DQ), 16 lanes. Included inside the namespace of the
// instruction set; include <immintrin.h> before, outside of it. Every instruction set has the same
// operations with the same results. dot.h adds the integer dot products of the matmuls.
//
// The comparison defines max and min, `a > b ? a : b` and `a < b ? a : b`: if either is a NaN, the
// result is b.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

constexpr int kLanes = 16;
using Ints = __m512i;  // 16 x 32 bits, or 64 bytes
using Floats = __m512;
using Mask = __mmask16;

// ---- ints ----
static inline Ints load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
static inline void store_bytes(uint8_t* p, Ints v) { _mm512_storeu_si512(p, v); }
static inline Ints broadcast(const int32_t* p) { return _mm512_set1_epi32(*p); }
static inline Ints splat_int(int32_t v) { return _mm512_set1_epi32(v); }
static inline Ints zero_ints() { return _mm512_setzero_si512(); }
static inline Ints count_ints() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
static inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
static inline Ints subtract(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
static inline Ints max(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
static inline Ints min(Ints a, Ints b) { return _mm512_min_epi32(a, b); }
static inline Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
static inline Ints bit_or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
static inline Ints bit_xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
static inline Ints and_constant(Ints v, int c) { return _mm512_and_si512(v, _mm512_set1_epi32(c)); }
static inline Ints shift_left(Ints v, int n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
// Shifts zeros in.
static inline Ints shift_right(Ints v, int n) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n)); }
template <int N>
static inline Ints shift_left(Ints v) {
    return N ? _mm512_slli_epi32(v, N) : v;
}
template <int N>
static inline Ints shift_right(Ints v) {
    return N ? _mm512_srli_epi32(v, N) : v;
}
template <int N>
static inline Ints shift_right_signed(Ints v) {
    return _mm512_srai_epi32(v, N);
}
static inline Mask greater(Ints a, Ints b) { return _mm512_cmpgt_epi32_mask(a, b); }

// ---- floats ----
static inline Floats zero_floats() { return _mm512_setzero_ps(); }
static inline Floats broadcast(const float* p) { return _mm512_set1_ps(*p); }
static inline Floats splat(float v) { return _mm512_set1_ps(v); }
static inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
// The first n lanes, 0 <= n <= kLanes. The others load as +0 and are not stored.
static inline Floats load_first(const float* p, int n) {
    return _mm512_maskz_loadu_ps(Mask((1u << n) - 1), p);
}
static inline void store_first(float* p, Floats v, int n) {
    _mm512_mask_storeu_ps(p, Mask((1u << n) - 1), v);
}
static inline Floats load_f16(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
static inline Floats load_f16_first(const uint8_t* p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask((1u << n) - 1), p));
}
static inline Floats splat_f16(const uint8_t* p) {
    uint16_t half;
    __builtin_memcpy(&half, p, 2);
    return _mm512_cvtph_ps(_mm256_set1_epi16(short(half)));
}
// Rounds to nearest even; too large values become infinite.
static inline void store_f16(uint8_t* p, Floats v) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline Floats load_bf16(const uint8_t* p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
static inline Floats to_float(Ints v) { return _mm512_cvtepi32_ps(v); }
// Rounds to nearest even; only for values in the range of int32.
static inline Ints to_int(Floats v) { return _mm512_cvtps_epi32(v); }
static inline Floats load_i8(const uint8_t* p) {
    return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
static inline Ints bits_of(Floats v) { return _mm512_castps_si512(v); }
static inline Floats of_bits(Ints v) { return _mm512_castsi512_ps(v); }
static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
static inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
static inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
// a * b + c
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
// c - a * b
static inline Floats fma_minus(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
// a * 2^n with one rounding; n is a whole number.
#define PILLION_TIMES_POWER 1
static inline Floats times_power(Floats a, Floats n) { return _mm512_scalef_ps(a, n); }
static inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
static inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
static inline Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline Floats select(Mask m, Floats yes, Floats no) {
    return _mm512_mask_blend_ps(m, no, yes);
}

// Prefetches into the first cache. Volatile: gcc considers a function that only prefetches to be
// without effect and drops its calls.
static inline void fetch_ahead(const uint8_t* p) { asm volatile("prefetcht0 %0" ::"m"(*p)); }
