// Vector operations for Armv8.2 (AArch64) with f16 conversions, 4 lanes. Included inside the
// namespace of the instruction set; include <arm_neon.h> before, outside of it. Every instruction
// set has the same operations with the same results. dot.h adds the integer dot products of the
// matmuls.
//
// The comparison defines max and min, `a > b ? a : b` and `a < b ? a : b`: if either is a NaN, the
// result is b. (vmaxq_f32 would return the NaN.)
#pragma once
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

constexpr int kLanes = 4;
using Ints = int32x4_t;  // 4 x 32 bits, or 16 bytes
using Floats = float32x4_t;
using Mask = uint32x4_t;

// ---- ints ----
static inline Ints load_bytes(const uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void store_bytes(uint8_t* p, Ints v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline Ints broadcast(const int32_t* p) { return vld1q_dup_s32(p); }
static inline Ints splat_int(int32_t v) { return vdupq_n_s32(v); }
static inline Ints zero_ints() { return vdupq_n_s32(0); }
static inline Ints count_ints() {
    static const int32_t kCount[4] = {0, 1, 2, 3};
    return vld1q_s32(kCount);
}
static inline Ints add(Ints a, Ints b) { return vaddq_s32(a, b); }
static inline Ints subtract(Ints a, Ints b) { return vsubq_s32(a, b); }
static inline Ints max(Ints a, Ints b) { return vmaxq_s32(a, b); }
static inline Ints min(Ints a, Ints b) { return vminq_s32(a, b); }
static inline Ints bit_and(Ints a, Ints b) { return vandq_s32(a, b); }
static inline Ints bit_or(Ints a, Ints b) { return vorrq_s32(a, b); }
static inline Ints bit_xor(Ints a, Ints b) { return veorq_s32(a, b); }
static inline Ints and_constant(Ints v, int c) { return vandq_s32(v, vdupq_n_s32(c)); }
static inline Ints shift_left(Ints v, int n) { return vshlq_s32(v, vdupq_n_s32(n)); }
// Shifts zeros in.
static inline Ints shift_right(Ints v, int n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-n)));
}
template <int N>
static inline Ints shift_left(Ints v) {
    return vshlq_n_s32(v, N);
}
template <int N>
static inline Ints shift_right(Ints v) {
    return N ? vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(v), N ? N : 1)) : v;
}
template <int N>
static inline Ints shift_right_signed(Ints v) {
    return vshrq_n_s32(v, N);
}
static inline Mask greater(Ints a, Ints b) { return vcgtq_s32(a, b); }

// ---- floats ----
static inline Floats zero_floats() { return vdupq_n_f32(0); }
static inline Floats broadcast(const float* p) { return vld1q_dup_f32(p); }
static inline Floats splat(float v) { return vdupq_n_f32(v); }
static inline Floats load(const float* p) { return vld1q_f32(p); }
static inline void store(float* p, Floats v) { vst1q_f32(p, v); }
// The first n lanes, 0 <= n <= kLanes. The others load as +0 and are not stored.
static inline Floats load_first(const float* p, int n) {
    float lanes[4] = {};
    __builtin_memcpy(lanes, p, sizeof(float) * size_t(n));
    return load(lanes);
}
static inline void store_first(float* p, Floats v, int n) {
    float lanes[4];
    store(lanes, v);
    __builtin_memcpy(p, lanes, sizeof(float) * size_t(n));
}
static inline Floats load_f16(const uint8_t* p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline Floats load_f16_first(const uint8_t* p, int n) {
    uint8_t halves[8] = {};
    __builtin_memcpy(halves, p, 2 * size_t(n));
    return load_f16(halves);
}
static inline Floats splat_f16(const uint8_t* p) {
    uint16_t half;
    __builtin_memcpy(&half, p, 2);
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
}
// Rounds to nearest even; too large values become infinite.
static inline void store_f16(uint8_t* p, Floats v) {
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
}
static inline Floats load_bf16(const uint8_t* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline Floats to_float(Ints v) { return vcvtq_f32_s32(v); }
// Rounds to nearest even; only for values in the range of int32.
static inline Ints to_int(Floats v) { return vcvtnq_s32_f32(v); }
static inline Floats load_i8(const uint8_t* p) {
    uint32_t four;
    __builtin_memcpy(&four, p, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
}
static inline Ints bits_of(Floats v) { return vreinterpretq_s32_f32(v); }
static inline Floats of_bits(Ints v) { return vreinterpretq_f32_s32(v); }
static inline Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
static inline Floats subtract(Floats a, Floats b) { return vsubq_f32(a, b); }
static inline Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
static inline Floats divide(Floats a, Floats b) { return vdivq_f32(a, b); }
static inline Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }  // a * b + c
// c - a * b
static inline Floats fma_minus(Floats a, Floats b, Floats c) { return vfmsq_f32(c, a, b); }
static inline Mask greater(Floats a, Floats b) { return vcgtq_f32(a, b); }
static inline Floats select(Mask m, Floats yes, Floats no) { return vbslq_f32(m, yes, no); }
static inline Floats max(Floats a, Floats b) { return select(greater(a, b), a, b); }
static inline Floats min(Floats a, Floats b) { return select(greater(b, a), a, b); }

// Prefetches into the first cache. Volatile: gcc considers a function that only prefetches to be
// without effect and drops its calls.
static inline void fetch_ahead(const uint8_t* p) { asm volatile("prfm pldl1keep, %0" ::"Q"(*p)); }
