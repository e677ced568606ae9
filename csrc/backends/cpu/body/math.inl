// Functions that all op kernels share: 16 virtual lanes with their fold, exp, tanh, gelu and silu.
// Included inside the namespace of an instruction set, after its simd.h. generic/ops.cpp has the
// same sequences in scalar code; change both together.
//
//   exp(x)     x = min(89, x), x = max(-104, x)     (both propagate NaN; the ends give inf and +0)
//              t = fma(x, log2(e), 1.5 * 2^23)
//              n = t - 1.5 * 2^23                   the nearest integer of x / ln 2
//              r = fma(n, -ln2, x), r = fma(n, -ln2_low, r)
//              p = 1 + r + r^2 * (c2 + ... + c6 r^4) by Horner, one fma each
//              p * 2^(n >> 1) * 2^(n - (n >> 1))    relative error < 1.2e-7, subnormal results
//                                                   included
//   tanh(x)    a = |x|; a < 0.625: a + a * (a^2 * P(a^2)); else 1 - 2 / (exp(2a) + 1); then the
//              sign of x
//   silu(x)    x = max(-128, x);  x / (1 + exp(-x))
//   sigmoid(x) 1 / (1 + exp(-x))
//   gelu(x)    x = max(-64, x);   x / (1 + exp(-2u)),
//              2u = x * fma(x * x, 2 * 0.044715 * sqrt(2/pi), 2 * sqrt(2/pi))
//
// At the lower ends of silu and gelu the value already is -0. The ends prevent -inf / inf.

#define PILLION_INLINE static inline __attribute__((always_inline))
#define PILLION_UNROLL _Pragma("GCC unroll 32")

constexpr int kParts = kVirtualLanes / kLanes;  // registers that form the 16 virtual lanes
static_assert(kLanes * kParts == kVirtualLanes, "");

struct Lanes16 { Floats part[kParts]; };

// Number of lanes of part p that exist if `left` elements are left.
PILLION_INLINE int lanes_left(int left, int p) {
    const int n = left - p * kLanes;
    return n < 0 ? 0 : n > kLanes ? kLanes : n;
}
PILLION_INLINE Floats load_left(const float* x, int left, int p) {
    const int n = lanes_left(left, p);
    return n == 0 ? zero_floats() : load_first(x + p * kLanes, n);
}
// `v` in lanes that exist, `other` in the rest.
PILLION_INLINE Floats existing(Floats v, float other, int left, int p) {
    return select(greater(splat_int(left - p * kLanes), count_ints()), v, splat(other));
}
PILLION_INLINE Lanes16 splat16(float v) {
    Lanes16 r;
    PILLION_UNROLL
    for (int p = 0; p < kParts; p++) r.part[p] = splat(v);
    return r;
}
PILLION_INLINE void store16(float* to, const Lanes16& v) {
    PILLION_UNROLL
    for (int p = 0; p < kParts; p++) store(to + p * kLanes, v.part[p]);
}
static inline float fold_add(const Lanes16& v) {
    float a[kVirtualLanes];
    store16(a, v);
    for (int step = kVirtualLanes / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++) a[i] = a[i] + a[i + step];
    return a[0];
}
static inline float fold_max(const Lanes16& v) {
    float a[kVirtualLanes];
    store16(a, v);
    for (int step = kVirtualLanes / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++) a[i] = a[i] > a[i + step] ? a[i] : a[i + step];
    return a[0];
}

PILLION_INLINE Floats exp(Floats x) {
    const float kShift = 12582912.0f;  // 1.5 * 2^23: the integer lands in the low bits
    x = max(splat(-104.0f), min(splat(89.0f), x));
    const Floats t = fma(x, splat(1.44269502f), splat(kShift));
    const Floats n = subtract(t, splat(kShift));
    Floats r = fma_minus(n, splat(0.693147182f), x);
    r = fma_minus(n, splat(-1.90465421e-9f), r);
    Floats p = splat(0.00138145394f);
    p = fma(p, r, splat(0.00836874545f));
    p = fma(p, r, splat(0.041668389f));
    p = fma(p, r, splat(0.166665211f));
    p = fma(p, r, splat(0.49999994f));
    p = fma(p, r, splat(1.0f));
    p = fma(p, r, splat(1.0f));
#ifdef PILLION_TIMES_POWER
    return times_power(p, n);  // the same: of the two products below only the last can round
#else
    const Ints whole = subtract(bits_of(t), splat_int(0x4B400000));  // n as an integer
    const Ints half = shift_right_signed<1>(whole);
    const Floats a = of_bits(shift_left<23>(add(half, splat_int(127))));
    const Floats b = of_bits(shift_left<23>(add(subtract(whole, half), splat_int(127))));
    return mul(mul(p, a), b);
#endif
}
PILLION_INLINE Floats negate(Floats x) {
    return of_bits(bit_xor(bits_of(x), splat_int(INT32_MIN)));
}

PILLION_INLINE Floats tanh(Floats x) {
    const Ints sign = and_constant(bits_of(x), INT32_MIN);
    const Floats a = of_bits(bit_xor(bits_of(x), sign));
    const Floats z = mul(a, a);
    Floats p = splat(-0.00570498407f);
    p = fma(p, z, splat(0.0206390843f));
    p = fma(p, z, splat(-0.0537397154f));
    p = fma(p, z, splat(0.133314416f));
    p = fma(p, z, splat(-0.333332807f));
    const Floats near = fma(a, mul(z, p), a);
    const Floats far = subtract(splat(1.0f), divide(splat(2.0f), add(exp(add(a, a)), splat(1.0f))));
    return of_bits(bit_or(bits_of(select(greater(splat(0.625f), a), near, far)), sign));
}
PILLION_INLINE Floats silu(Floats x) {
    x = max(splat(-128.0f), x);
    return divide(x, add(splat(1.0f), exp(negate(x))));
}
PILLION_INLINE Floats sigmoid(Floats x) {
    return divide(splat(1.0f), add(splat(1.0f), exp(negate(x))));
}
PILLION_INLINE Floats gelu_tanh(Floats x) {
    x = max(splat(-64.0f), x);
    const Floats u2 = mul(x, fma(mul(x, x), splat(0.0713548139f), splat(1.59576917f)));
    return divide(x, add(splat(1.0f), exp(negate(u2))));
}
