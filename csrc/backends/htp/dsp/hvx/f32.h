// Float vectors: 32 floats per HVX_Vector, IEEE binary32 in memory and between functions.
//
// Three implementations of the same functions; the compiler's target chooses one:
//   lanes  HVX before v68 has no float: each lane goes through the scalar unit (emulator), or
//          through the PC's. Here the functions are exactly the CPU backend's arithmetic, bit for
//          bit: fused where it fuses, sums in its 16 virtual lanes.
//   qf32   v68 and later, every Snapdragon since 2021. The default on a device.
//   ieee   v68 and later parts that have it; opt in with HTP_F32_IEEE (and the compiler's switch
//          for IEEE float).
// qf32 never leaves this file: every function converts its result back to IEEE, and a chain (below)
// does so at its end. The two formats share registers but not bits, and neither compiler nor
// debugger can tell them apart.
#ifndef PILLION_HVX_F32_H
#define PILLION_HVX_F32_H

#include "backends/htp/dsp/hvx/hvx.h"

#define F32_MAGIC                                                                   \
    12582912.0f /* 1.5 * 2^23: adding it leaves the rounded integer in the low bits \
                 */
#define F32_NONE (-__builtin_inff())

HVX_INLINE HVX_Vector f32_splat(float x) { return Q6_V_vsplat_R((int32_t)bits_of(x)); }

#if __HVX_ARCH__ < 68 && !defined(HTP_F32_PLACEHOLDER)
// ---- lanes ----
#define HTP_F32_LANES 1

#ifdef __hexagon__
// In the emulator a vector store costs as much as a hundred other instructions, and a vector load
// or an extract costs next to nothing. Lanes therefore leave by vextract and come back through
// memory. Two pieces of assembly keep the compiler from doing the opposite.
HVX_INLINE int32_t lane_bits(HVX_Vector v, int i) {
    int32_t x;
    __asm__("%0 = vextract(%1,%2)" : "=r"(x) : "v"(v), "r"(4 * i));
    return x;
}
#define F32_EACH(expr)                                                                  \
    do {                                                                                \
        float r[32] __attribute__((aligned(128)));                                      \
        _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 32; i++) r[i] = expr; \
        __asm__("" : : "r"(r) : "memory");                                              \
        return *(const HVX_Vector*)r;                                                   \
    } while (0)
#else
HVX_INLINE int32_t lane_bits(HVX_Vector v, int i) { return v.w[i]; }
#define F32_EACH(expr)                              \
    do {                                            \
        HVX_Vector r;                               \
        for (int i = 0; i < 32; i++) r.f[i] = expr; \
        return r;                                   \
    } while (0)
#endif
#define F32_AT(v) float_of((uint32_t)lane_bits(v, i))

HVX_INLINE HVX_Vector f32_add(HVX_Vector a, HVX_Vector b) { F32_EACH(F32_AT(a) + F32_AT(b)); }
HVX_INLINE HVX_Vector f32_sub(HVX_Vector a, HVX_Vector b) { F32_EACH(F32_AT(a) - F32_AT(b)); }
HVX_INLINE HVX_Vector f32_mul(HVX_Vector a, HVX_Vector b) { F32_EACH(F32_AT(a) * F32_AT(b)); }
HVX_INLINE HVX_Vector f32_scale(HVX_Vector a, float b) { F32_EACH(F32_AT(a) * b); }
HVX_INLINE HVX_Vector f32_from_small_i32(HVX_Vector x) { F32_EACH((float)lane_bits(x, i)); }

// acc + a * b, acc - a * b, acc + a * s: fused here
HVX_INLINE HVX_Vector f32_mul_add(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    F32_EACH(__builtin_fmaf(F32_AT(a), F32_AT(b), F32_AT(acc)));
}
HVX_INLINE HVX_Vector f32_mul_sub(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    F32_EACH(__builtin_fmaf(-F32_AT(a), F32_AT(b), F32_AT(acc)));
}
HVX_INLINE HVX_Vector f32_scale_add(HVX_Vector acc, HVX_Vector a, float s) {
    F32_EACH(__builtin_fmaf(F32_AT(a), s, F32_AT(acc)));
}
// acc + (dot * d) * scale, the end of a block of a matrix product. The dot product started at
// F32_DOT_BIAS.
#define F32_DOT_BIAS 0
HVX_INLINE HVX_Vector f32_block_add(HVX_Vector acc, HVX_Vector dot, float d, HVX_Vector scale) {
    F32_EACH(__builtin_fmaf((float)lane_bits(dot, i) * d, F32_AT(scale), F32_AT(acc)));
}
// Chains of acc + a * s. A chain starts from an ordinary acc alone or with a first term, continues,
// and ends, without other operations in between (see qf32).
HVX_INLINE HVX_Vector f32_chain(HVX_Vector acc) { return acc; }
HVX_INLINE HVX_Vector f32_chain_begin(HVX_Vector acc, HVX_Vector a, float s) {
    return f32_scale_add(acc, a, s);
}
HVX_INLINE HVX_Vector f32_chain_add(HVX_Vector chain, HVX_Vector a, float s) {
    return f32_scale_add(chain, a, s);
}
HVX_INLINE HVX_Vector f32_chain_end(HVX_Vector chain) { return chain; }
HVX_INLINE HVX_Vector f32_scaled_plus_magic(HVX_Vector x, float s) {
    F32_EACH(F32_AT(x) * s + F32_MAGIC);
}
// Nearest integer of x * s, ties to even, |x * s| < 2^22.
HVX_INLINE HVX_Vector f32_scale_to_small_i32(HVX_Vector x, float s) {
    const HVX_Vector magic = f32_splat(F32_MAGIC);
    const HVX_Vector t = f32_scaled_plus_magic(x, s);
    return Q6_Vw_vsub_VwVw(t, magic);
}
// The larger value; b if either is NaN.
HVX_INLINE HVX_Vector f32_max(HVX_Vector a, HVX_Vector b) {
    F32_EACH(F32_AT(a) > F32_AT(b) ? F32_AT(a) : F32_AT(b));
}
HVX_INLINE HVX_Vector f32_div(HVX_Vector a, HVX_Vector b) { F32_EACH(F32_AT(a) / F32_AT(b)); }

// --- sums of a row: 16 running sums, element i in sum i % 16, then 8 + 8, 4 + 4, 2 + 2, 1 + 1 ---
#ifdef __hexagon__
#define F32_EACH16(first, second)                                      \
    do {                                                               \
        float r[32] __attribute__((aligned(128)));                     \
        for (int i = 0; i < 16; i++) r[i] = first;                     \
        for (int i = 16; i < 32; i++) r[i - 16] = second, r[i] = 0.0f; \
        __asm__("" : : "r"(r) : "memory");                             \
        return *(const HVX_Vector*)r;                                  \
    } while (0)
#else
#define F32_EACH16(first, second)                                      \
    do {                                                               \
        HVX_Vector rv;                                                 \
        float* r = rv.f;                                               \
        for (int i = 0; i < 16; i++) r[i] = first;                     \
        for (int i = 16; i < 32; i++) r[i - 16] = second, r[i] = 0.0f; \
        return rv;                                                     \
    } while (0)
#endif
HVX_INLINE HVX_Vector f32_dot_add(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    F32_EACH16(__builtin_fmaf(F32_AT(a), F32_AT(b), F32_AT(acc)),
               __builtin_fmaf(F32_AT(a), F32_AT(b), r[i - 16]));
}
HVX_INLINE HVX_Vector f32_sum_add(HVX_Vector acc, HVX_Vector a) {
    F32_EACH16(F32_AT(acc) + F32_AT(a), r[i - 16] + F32_AT(a));
}
HVX_INLINE float f32_sum(HVX_Vector acc) {
    float s[16];
    for (int i = 0; i < 16; i++) s[i] = F32_AT(acc);
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++) s[i] = s[i] + s[i + step];
    return s[0];
}
HVX_INLINE float f32_largest(HVX_Vector v) {
    float m = F32_NONE;
    for (int i = 0; i < 32; i++) m = F32_AT(v) > m ? F32_AT(v) : m;
    return m;
}

// The low half of each lane as an f16. Integer only, exact for every input. A subnormal is built
// from its integer value, which is below 2^10.
#ifdef __hexagon__
HVX_INLINE HVX_Vector f32_from_f16_words(HVX_Vector h) {
    const HVX_Vector mag = Q6_V_vand_VV(h, Q6_V_vsplat_R(0x7fff));
    const HVX_Vector sign = Q6_Vw_vasl_VwR(Q6_V_vand_VV(h, Q6_V_vsplat_R(0x8000)), 16);
    HVX_Vector normal = Q6_Vw_vadd_VwVw(Q6_Vw_vasl_VwR(mag, 13), Q6_V_vsplat_R(0x38000000));
    normal = Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(mag, Q6_V_vsplat_R(0x7bff)),
                           Q6_Vw_vadd_VwVw(normal, Q6_V_vsplat_R(0x38000000)), normal);
    const HVX_VectorPred is_sub = Q6_Q_vcmp_gt_VwVw(Q6_V_vsplat_R(0x400), mag);
    // m * 2^-24: shifts the leading one out; the count of zeros before it gives the exponent
    const HVX_Vector lz = Q6_Vuw_vcl0_Vuw(mag);
    const HVX_Vector frac =
        Q6_V_vand_VV(Q6_Vw_vasl_VwVw(mag, Q6_Vw_vsub_VwVw(lz, Q6_V_vsplat_R(8))),
                     Q6_V_vsplat_R(0x7fffff));
    const HVX_Vector expo = Q6_Vw_vasl_VwR(Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(127 - 24 + 31), lz), 23);
    const HVX_Vector small =
        Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(mag, Q6_V_vzero()), Q6_V_vor_VV(expo, frac), Q6_V_vzero());
    return Q6_V_vor_VV(sign, Q6_V_vmux_QVV(is_sub, small, normal));
}
// Even and odd halves of 64 f16, as lo and hi vector.
HVX_INLINE HVX_VectorPair f32_from_f16(HVX_Vector h) {
    return Q6_W_vcombine_VV(f32_from_f16_words(Q6_Vuw_vlsr_VuwR(h, 16)),
                            f32_from_f16_words(Q6_V_vand_VV(h, Q6_V_vsplat_R(0xffff))));
}
#else
HVX_INLINE HVX_VectorPair f32_from_f16(HVX_Vector h) {
    HVX_VectorPair p;
    for (int i = 0; i < 32; i++)
        p.v[0].f[i] = hvx_host_half(h.uh[2 * i]), p.v[1].f[i] = hvx_host_half(h.uh[2 * i + 1]);
    return p;
}
#endif

#else
// ---- qf32 and ieee ----
#define HTP_F32_LANES 0

#ifdef HTP_F32_IEEE
HVX_INLINE HVX_Vector f32_add(HVX_Vector a, HVX_Vector b) { return Q6_Vsf_vadd_VsfVsf(a, b); }
HVX_INLINE HVX_Vector f32_sub(HVX_Vector a, HVX_Vector b) { return Q6_Vsf_vsub_VsfVsf(a, b); }
HVX_INLINE HVX_Vector f32_mul(HVX_Vector a, HVX_Vector b) { return Q6_Vsf_vmpy_VsfVsf(a, b); }
HVX_INLINE HVX_Vector f32_mul_add(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    return f32_add(f32_mul(a, b), acc);
}
HVX_INLINE HVX_Vector f32_chain(HVX_Vector acc) { return acc; }
HVX_INLINE HVX_Vector f32_chain_begin(HVX_Vector acc, HVX_Vector a, float s) {
    return f32_mul_add(acc, a, f32_splat(s));
}
HVX_INLINE HVX_Vector f32_chain_add(HVX_Vector chain, HVX_Vector a, float s) {
    return f32_mul_add(chain, a, f32_splat(s));
}
HVX_INLINE HVX_Vector f32_chain_end(HVX_Vector chain) { return chain; }
#else
HVX_INLINE HVX_Vector f32_add(HVX_Vector a, HVX_Vector b) {
    return Q6_Vsf_equals_Vqf32(Q6_Vqf32_vadd_VsfVsf(a, b));
}
HVX_INLINE HVX_Vector f32_sub(HVX_Vector a, HVX_Vector b) {
    return Q6_Vsf_equals_Vqf32(Q6_Vqf32_vsub_VsfVsf(a, b));
}
HVX_INLINE HVX_Vector f32_mul(HVX_Vector a, HVX_Vector b) {
    return Q6_Vsf_equals_Vqf32(Q6_Vqf32_vmpy_VsfVsf(a, b));
}
HVX_INLINE HVX_Vector f32_mul_add(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    return Q6_Vsf_equals_Vqf32(Q6_Vqf32_vadd_Vqf32Vsf(Q6_Vqf32_vmpy_VsfVsf(a, b), acc));
}
// A chain stays qf32 from term to term: one conversion at its end instead of one per term. All
// terms of a chain belong to one row and do not depend on the rows beside it, so no other row
// changes this rounding.
HVX_INLINE HVX_Vector f32_chain(HVX_Vector acc) { return Q6_Vqf32_vadd_VsfVsf(acc, Q6_V_vzero()); }
HVX_INLINE HVX_Vector f32_chain_begin(HVX_Vector acc, HVX_Vector a, float s) {
    return Q6_Vqf32_vadd_Vqf32Vsf(Q6_Vqf32_vmpy_VsfVsf(a, f32_splat(s)), acc);
}
HVX_INLINE HVX_Vector f32_chain_add(HVX_Vector chain, HVX_Vector a, float s) {
    return Q6_Vqf32_vadd_Vqf32Vqf32(chain, Q6_Vqf32_vmpy_VsfVsf(a, f32_splat(s)));
}
HVX_INLINE HVX_Vector f32_chain_end(HVX_Vector chain) { return Q6_Vsf_equals_Vqf32(chain); }
#endif

HVX_INLINE HVX_Vector f32_scale(HVX_Vector a, float b) { return f32_mul(a, f32_splat(b)); }
HVX_INLINE HVX_Vector f32_negate(HVX_Vector a) { return Q6_V_vxor_VV(a, Q6_V_vsplat_R(INT32_MIN)); }
HVX_INLINE HVX_Vector f32_mul_sub(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    return f32_mul_add(acc, f32_negate(a), b);
}
HVX_INLINE HVX_Vector f32_scale_add(HVX_Vector acc, HVX_Vector a, float s) {
    return f32_mul_add(acc, a, f32_splat(s));
}

// Exact for |x| < 2^22. Before v73 HVX cannot convert int32 to float. There a dot product starts at
// the bits of F32_MAGIC, which saves an addition.
#if __HVX_ARCH__ >= 73
#define F32_DOT_BIAS 0
HVX_INLINE HVX_Vector f32_from_small_i32(HVX_Vector x) { return Q6_Vsf_equals_Vw(x); }
HVX_INLINE HVX_Vector f32_from_dot(HVX_Vector dot) { return f32_from_small_i32(dot); }
#else
#define F32_DOT_BIAS 0x4B400000
HVX_INLINE HVX_Vector f32_from_dot(HVX_Vector dot) { return f32_sub(dot, f32_splat(F32_MAGIC)); }
HVX_INLINE HVX_Vector f32_from_small_i32(HVX_Vector x) {
    return f32_from_dot(Q6_Vw_vadd_VwVw(x, Q6_V_vsplat_R(F32_DOT_BIAS)));
}
#endif
HVX_INLINE HVX_Vector f32_block_add(HVX_Vector acc, HVX_Vector dot, float d, HVX_Vector scale) {
    return f32_mul_add(acc, f32_scale(f32_from_dot(dot), d), scale);
}
HVX_INLINE HVX_Vector f32_scale_to_small_i32(HVX_Vector x, float s) {
    const HVX_Vector magic = f32_splat(F32_MAGIC);
    return Q6_Vw_vsub_VwVw(f32_add(f32_scale(x, s), magic), magic);
}

// Maps floats to integers of the same order by flipping a negative one's other bits, without a
// float unit. The map is its own inverse.
HVX_INLINE HVX_Vector f32_order(HVX_Vector v) {
    return Q6_V_vxor_VV(v, Q6_V_vand_VV(Q6_Vw_vasr_VwR(v, 31), Q6_V_vsplat_R(0x7fffffff)));
}
HVX_INLINE HVX_Vector f32_max(HVX_Vector a, HVX_Vector b) {
    return f32_order(Q6_Vw_vmax_VwVw(f32_order(a), f32_order(b)));
}

// HVX has no division. 1/b takes three Newton steps from an estimate that is right to 12 % (the
// exponent negated, the mantissa reflected). For positive or negative normal b with 2^-126 < |b| <
// 2^126.
HVX_INLINE HVX_Vector f32_div(HVX_Vector a, HVX_Vector b) {
    const HVX_Vector two = f32_splat(2.0f);
    HVX_Vector r =
        Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(0x7EF311C3), Q6_V_vand_VV(b, Q6_V_vsplat_R(0x7fffffff)));
    r = Q6_V_vor_VV(r, Q6_V_vand_VV(b, Q6_V_vsplat_R(INT32_MIN)));
    for (int i = 0; i < 3; i++) r = f32_mul(r, f32_mul_sub(two, b, r));
    return f32_mul(a, r);
}

HVX_INLINE HVX_Vector f32_dot_add(HVX_Vector acc, HVX_Vector a, HVX_Vector b) {
    return f32_mul_add(acc, a, b);
}
HVX_INLINE HVX_Vector f32_sum_add(HVX_Vector acc, HVX_Vector a) { return f32_add(acc, a); }
HVX_INLINE float f32_sum(HVX_Vector v) {
    for (int n = 64; n >= 4; n >>= 1) v = f32_add(v, Q6_V_vror_VR(v, n));
    return float_of((uint32_t)Q6_R_vextract_VR(v, 0));
}
HVX_INLINE float f32_largest(HVX_Vector v) {
    for (int n = 64; n >= 4; n >>= 1) v = f32_max(v, Q6_V_vror_VR(v, n));
    return float_of((uint32_t)Q6_R_vextract_VR(v, 0));
}

// Multiplying f16 by 1.0 widens it; even elements arrive in lo, odd ones in hi.
HVX_INLINE HVX_VectorPair f32_from_f16(HVX_Vector h) {
    const HVX_VectorPair p = Q6_Wqf32_vmpy_VhfVhf(h, Q6_V_vsplat_R(0x3c003c00));
    return Q6_W_vcombine_VV(Q6_Vsf_equals_Vqf32(Q6_V_hi_W(p)), Q6_Vsf_equals_Vqf32(Q6_V_lo_W(p)));
}

#endif
// ---- every implementation ----

// Even and odd bf16 of each lane, as lo and hi vector.
HVX_INLINE HVX_VectorPair f32_from_bf16(HVX_Vector h) {
    return Q6_W_vcombine_VV(Q6_V_vand_VV(h, Q6_V_vsplat_R((int32_t)0xffff0000u)),
                            Q6_Vw_vasl_VwR(h, 16));
}

// Turns NaN into -inf, which never wins.
HVX_INLINE HVX_Vector f32_without_nan(HVX_Vector v) {
    const HVX_Vector magnitude = Q6_V_vand_VV(v, Q6_V_vsplat_R(0x7fffffff));
    return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(magnitude, Q6_V_vsplat_R(0x7f800000)),
                         f32_splat(F32_NONE), v);
}

// --- rows in memory, 4-byte aligned; a load may read 124 bytes past the end (HTP_SLACK), a store
// never writes past it ---

HVX_INLINE HVX_Vector f32_load(const float* at) { return hvx_load_u(at); }
// The first n of 32 elements, +0 in the rest.
HVX_INLINE HVX_Vector f32_load_first(const float* at, uint32_t n) {
    return hvx_keep_lanes(hvx_load_u(at), Q6_V_vzero(), 0, (int32_t)n);
}
HVX_INLINE void f32_store(float* at, HVX_Vector v) { hvx_store_u(at, v); }
HVX_INLINE void f32_store_first(float* at, HVX_Vector v, uint32_t n) {
    if (n >= 32) hvx_store_u(at, v);
    else hvx_store_bytes(at, v, 4 * n);
}

// y[0, n) = v, where v is an expression in `at`, the index of its first element. Two vectors at a
// time, since v is often one long chain. No call inside the loops, since a call loses all vectors.
// v may read y at the same index.
#define F32_ROW(y, n, at, v)                        \
    do {                                            \
        uint32_t row_i = 0;                         \
        for (; row_i + 64 <= (n); row_i += 64) {    \
            HVX_Vector row_a, row_b;                \
            {                                       \
                const uint32_t at = row_i;          \
                row_a = v;                          \
            }                                       \
            {                                       \
                const uint32_t at = row_i + 32;     \
                row_b = v;                          \
            }                                       \
            f32_store((y) + row_i, row_a);          \
            f32_store((y) + row_i + 32, row_b);     \
        }                                           \
        for (; row_i < (n); row_i += 32) {          \
            const uint32_t at = row_i;              \
            f32_store_first((y) + at, v, (n) - at); \
        }                                           \
    } while (0)

#endif
