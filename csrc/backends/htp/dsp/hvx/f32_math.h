// exp, tanh and the activations. The sequences are the CPU backend's (backends/cpu/body/math.inl):
// in lanes the same bits, in qf32 the same steps.
//
//   exp(x)     x = max(-104, min(89, x));  n = nearest integer of x / ln 2;  r = x - n ln 2 in two
//              steps;  polynomial of degree 6; times 2^(n >> 1) times 2^(n - (n >> 1))
//   tanh(x)    |x| < 0.625: odd polynomial; else 1 - 2 / (exp(2|x|) + 1); then the sign of x
//   silu(x)    x = max(-128, x);  x / (1 + exp(-x))
//   gelu(x)    x = max(-64, x);   x / (1 + exp(-2u)),
//              2u = x * fma(x * x, 2 * 0.044715 * sqrt(2/pi), 2 * sqrt(2/pi))
#ifndef PILLION_HVX_F32_MATH_H
#define PILLION_HVX_F32_MATH_H

#include "backends/htp/dsp/hvx/f32.h"

// --- one number, with exact IEEE steps on every machine ---

static inline float f32_exp1(float x) {
    if (x != x) return x;
    x = x < 89.0f ? x : 89.0f;
    x = x > -104.0f ? x : -104.0f;
    const float t = __builtin_fmaf(x, 1.44269502f, F32_MAGIC), n = t - F32_MAGIC;
    float r = __builtin_fmaf(-n, 0.693147182f, x);
    r = __builtin_fmaf(-n, -1.90465421e-9f, r);
    float p = 0.00138145394f;
    p = __builtin_fmaf(p, r, 0.00836874545f);
    p = __builtin_fmaf(p, r, 0.041668389f);
    p = __builtin_fmaf(p, r, 0.166665211f);
    p = __builtin_fmaf(p, r, 0.49999994f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    const int32_t whole = (int32_t)(bits_of(t) - 0x4B400000u), half = whole >> 1;
    return p * float_of((uint32_t)(half + 127) << 23) *
           float_of((uint32_t)(whole - half + 127) << 23);
}
static inline float f32_tanh1(float x) {
    const uint32_t sign = bits_of(x) & 0x80000000u;
    const float a = float_of(bits_of(x) & 0x7fffffffu), z = a * a;
    float y;
    if (a < 0.625f) {
        float p = -0.00570498407f;
        p = __builtin_fmaf(p, z, 0.0206390843f);
        p = __builtin_fmaf(p, z, -0.0537397154f);
        p = __builtin_fmaf(p, z, 0.133314416f);
        p = __builtin_fmaf(p, z, -0.333332807f);
        y = __builtin_fmaf(a, z * p, a);
    } else {
        y = 1.0f - 2.0f / (f32_exp1(a + a) + 1.0f);
    }
    return float_of(bits_of(y) | sign);
}
static inline float f32_silu1(float x) {
    x = -128.0f > x ? -128.0f : x;
    return x / (1.0f + f32_exp1(-x));
}
static inline float f32_gelu1(float x) {
    x = -64.0f > x ? -64.0f : x;
    const float u2 = x * __builtin_fmaf(x * x, 0.0713548139f, 1.59576917f);
    return x / (1.0f + f32_exp1(-u2));
}

// --- vectors ---

#if HTP_F32_LANES

HVX_INLINE HVX_Vector f32_exp(HVX_Vector x) { F32_EACH(f32_exp1(F32_AT(x))); }
HVX_INLINE HVX_Vector f32_tanh(HVX_Vector x) { F32_EACH(f32_tanh1(F32_AT(x))); }
HVX_INLINE HVX_Vector f32_silu(HVX_Vector x) { F32_EACH(f32_silu1(F32_AT(x))); }
HVX_INLINE HVX_Vector f32_gelu(HVX_Vector x) { F32_EACH(f32_gelu1(F32_AT(x))); }

#else

HVX_INLINE HVX_Vector f32_min(HVX_Vector a, HVX_Vector b) {
    return f32_order(Q6_Vw_vmin_VwVw(f32_order(a), f32_order(b)));
}

// Below e^-87 the result is 0, because qf32 has no subnormals.
HVX_INLINE HVX_Vector f32_exp(HVX_Vector x) {
    const HVX_Vector magic = f32_splat(F32_MAGIC);
    x = f32_max(f32_splat(-87.0f), f32_min(f32_splat(88.0f), x));
    const HVX_Vector t = f32_add(f32_scale(x, 1.44269502f), magic), n = f32_sub(t, magic);
    // Short constants: qf32 does not fuse, and n times this constant is exact.
    HVX_Vector r = f32_mul_sub(x, n, f32_splat(0.693359375f));
    r = f32_mul_sub(r, n, f32_splat(-2.12194440e-4f));
    HVX_Vector p = f32_splat(0.00138145394f);
    p = f32_mul_add(f32_splat(0.00836874545f), p, r);
    p = f32_mul_add(f32_splat(0.041668389f), p, r);
    p = f32_mul_add(f32_splat(0.166665211f), p, r);
    p = f32_mul_add(f32_splat(0.49999994f), p, r);
    p = f32_mul_add(f32_splat(1.0f), p, r);
    p = f32_mul_add(f32_splat(1.0f), p, r);
    // p is in (0.7, 1.42), so adding n to its exponent stays within the normal numbers
    p = Q6_Vw_vadd_VwVw(p, Q6_Vw_vasl_VwR(Q6_Vw_vsub_VwVw(t, magic), 23));
    return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(f32_order(x), f32_order(f32_splat(-87.0f))), p,
                         Q6_V_vzero());
}
HVX_INLINE HVX_Vector f32_tanh(HVX_Vector x) {
    const HVX_Vector sign = Q6_V_vand_VV(x, Q6_V_vsplat_R(INT32_MIN)), a = Q6_V_vxor_VV(x, sign),
                     z = f32_mul(a, a);
    HVX_Vector p = f32_splat(-0.00570498407f);
    p = f32_mul_add(f32_splat(0.0206390843f), p, z);
    p = f32_mul_add(f32_splat(-0.0537397154f), p, z);
    p = f32_mul_add(f32_splat(0.133314416f), p, z);
    p = f32_mul_add(f32_splat(-0.333332807f), p, z);
    const HVX_Vector near = f32_mul_add(a, a, f32_mul(z, p)), one = f32_splat(1.0f);
    const HVX_Vector far =
        f32_sub(one, f32_div(f32_splat(2.0f),
                             f32_add(f32_exp(f32_min(f32_add(a, a), f32_splat(40.0f))), one)));
    return Q6_V_vor_VV(Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(f32_splat(0.625f), a), near, far), sign);
}
// Below -80 the quotient rounds to 0, and 1 + exp stays in the range of f32_div.
HVX_INLINE HVX_Vector f32_sigmoid_times(HVX_Vector x, HVX_Vector u) {
    return f32_div(x, f32_add(f32_splat(1.0f), f32_exp(f32_min(f32_negate(u), f32_splat(80.0f)))));
}
HVX_INLINE HVX_Vector f32_silu(HVX_Vector x) { return f32_sigmoid_times(x, x); }
HVX_INLINE HVX_Vector f32_gelu(HVX_Vector x) {
    x = f32_max(f32_splat(-64.0f), x);
    return f32_sigmoid_times(x, f32_mul(x, f32_mul_add(f32_splat(1.59576917f), f32_mul(x, x),
                                                       f32_splat(0.0713548139f))));
}

#endif

// cap * tanh(x / cap)
HVX_INLINE HVX_Vector f32_capped(HVX_Vector x, float cap) {
    return f32_scale(f32_tanh(f32_div(x, f32_splat(cap))), cap);
}

#endif
