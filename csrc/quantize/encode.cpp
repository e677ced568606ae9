#include "quantize/encode.h"

#include <math.h>
#include <string.h>

#include <algorithm>

#include "core/contract/blocks.h"
#include "core/error.h"

namespace pillion {
namespace {

constexpr int kBlock = 32, kSuperBlock = 256;

// All that encodes is drawn into encode_any and from there into the function for each instruction
// set.
#define PILLION_INLINE inline __attribute__((always_inline))

PILLION_INLINE int clamp_code(float v, int lo, int hi) {
    return v >= float(hi) ? hi : v > float(lo) ? int(v) : lo;
}  // NaN: lo
// To nearest, ties to even: adding 1.5 * 2^23 leaves no bits behind the point. Without SSE 4.1
// floorf would be a call. NaN: lo.
PILLION_INLINE float nearest(float v, float lo, float hi) {
    v = v < hi ? v : hi;
    v = v > lo ? v : lo;
    return (v + 12582912.0f) - 12582912.0f;
}

// Eight values at once, in the compiler's own vectors: one register of AVX2, two of SSE 2 or NEON.
// Sums run in these lanes and are folded in one order, so every machine finds the same scales.
typedef float V8 __attribute__((vector_size(32)));
PILLION_INLINE void load(const float* p, V8& v) { memcpy(&v, p, sizeof v); }
template <int N>
PILLION_INLINE void load_all(const float* p, V8 (&v)[N]) {
    for (int j = 0; j < N; j++) load(p + 8 * j, v[j]);
}
PILLION_INLINE void round(V8& v, float lo, float hi) {
    const V8 low = V8{} + lo, high = V8{} + hi, magic = V8{} + 12582912.0f;
    v = v < high ? v : high;
    v = v > low ? v : low;
    v = (v + magic) - magic;
}
PILLION_INLINE double fold(const V8& v) {
    return double(((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])));
}

// ---- scale searches ----

struct Fit {
    float scale = 0, low = 0;  // value = scale * code + low, low <= 0
};

// Codes 0..most. For some spreads around the one that covers all values: round, then solve for the
// best scale and minimum of these codes (weighted least squares, two unknowns). The minimum may not
// be positive, because the K formats store its negative unsigned.
PILLION_INLINE Fit fit_with_minimum(const float* values, const float* weights, int most) {
    constexpr int N = kBlock / 8;
    const float lo = std::min(0.0f, *std::min_element(values, values + kBlock)),
                hi = *std::max_element(values, values + kBlock);
    if (!(hi > lo)) return {0, lo};
    V8 x[N], w[N], wx[N], all_w = {}, all_x = {};
    load_all(values, x), load_all(weights, w);
    for (int j = 0; j < N; j++) wx[j] = w[j] * x[j], all_w += w[j], all_x += wx[j];
    const double sum_w = fold(all_w), sum_x = fold(all_x);
    Fit best;
    double best_error = INFINITY;
    for (int step = -10; step <= 10; step++) {
        const float inverse = (float(most) + 0.1f * float(step)) / (hi - lo);
        V8 l = {}, ll = {}, xl = {};
        for (int j = 0; j < N; j++) {
            V8 code = (x[j] - lo) * inverse;
            round(code, 0, float(most));
            const V8 weighted = w[j] * code;
            l += weighted, ll += weighted * code, xl += wx[j] * code;
        }
        const double sum_l = fold(l), sum_ll = fold(ll), sum_xl = fold(xl),
                     det = sum_w * sum_ll - sum_l * sum_l;
        Fit f = {float((sum_w * sum_xl - sum_x * sum_l) / det),
                 float((sum_ll * sum_x - sum_l * sum_xl) / det)};
        // All codes (nearly) the same: one unknown is enough.
        if (!(det > 1e-5 * sum_w * sum_ll) || f.low > 0)
            f = {float(sum_ll > 0 ? sum_xl / sum_ll : 0), 0};
        // The weighted squares of scale * l + low - x, but for those of x, which all candidates
        // share.
        const double k = double(f.scale), m = double(f.low);
        const double error =
            k * k * sum_ll + m * m * sum_w + 2 * (k * m * sum_l - k * sum_xl - m * sum_x);
        if (error < best_error) best_error = error, best = f;
    }
    return best;
}

// Codes -most..most-1, no minimum. The largest value becomes -most, as in the reference, or nearly.
template <int Inputs>
PILLION_INLINE float fit_symmetric(const float* values, const float* weights, int most) {
    constexpr int N = Inputs / 8;
    const float top = *std::max_element(values, values + Inputs,
                                        [](float a, float b) { return fabsf(a) < fabsf(b); });
    if (top == 0) return 0;
    V8 x[N], w[N];
    load_all(values, x), load_all(weights, w);
    double best = -1;
    float scale = 0;
    for (int step = -9; step <= 9; step++) {
        const float inverse = -(float(most) + 0.1f * float(step)) / top;
        V8 xl = {}, ll = {};
        for (int j = 0; j < N; j++) {
            V8 code = x[j] * inverse;
            round(code, -float(most), float(most - 1));
            const V8 weighted = w[j] * code;
            xl += weighted * x[j], ll += weighted * code;
        }
        const double sum_xl = fold(xl), sum_ll = fold(ll);
        if (sum_ll > 0 && sum_xl * sum_xl > best * sum_ll)
            best = sum_xl * sum_xl / sum_ll, scale = float(sum_xl / sum_ll);
    }
    return scale;
}

// Weighted squares of what codes lo..hi leave of x = scale * code - low.
template <int Inputs>
PILLION_INLINE double rounding_error(const float* values, const float* weights, float scale,
                                     float low, float lo, float hi) {
    const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
    V8 sum = {};
    for (int i = 0; i < Inputs; i += 8) {
        V8 x, w;
        load(values + i, x), load(weights + i, w);
        V8 code = (x + low) * inverse;
        round(code, lo, hi);
        const V8 e = scale * code - low - x;
        sum += w * e * e;
    }
    return fold(sum);
}

// ---- plain formats ----

// 1/d as the reference takes it.
PILLION_INLINE float inverse_of(float d) { return d == 0 ? 0.0f : 1.0f / d; }

struct Codes { uint8_t at[kBlock]; };
PILLION_INLINE void put_nibbles(uint8_t* q, const Codes& c) {
    for (int i = 0; i < 16; i++) q[i] = uint8_t((c.at[i] & 15) | (c.at[i + 16] & 15) << 4);
}
PILLION_INLINE void put_fifth_bits(uint8_t* high, const Codes& c) {
    memset(high, 0, 4);
    for (int i = 0; i < kBlock; i++) high[i / 8] |= uint8_t((c.at[i] >> 4) << (i % 8));
}

// value = d * (code - zero): the value of largest magnitude becomes code 0.
PILLION_INLINE float symmetric_codes(const float* x, const float* w, int zero, Codes& c) {
    float d;
    if (w) {
        d = fit_symmetric<kBlock>(x, w, zero);
        d = f16_to_f32(f32_to_f16(d));
    } else {
        float top = x[0];
        for (int i = 1; i < kBlock; i++)
            if (fabsf(x[i]) > fabsf(top)) top = x[i];
        d = top / -float(zero);
    }
    const float inverse = inverse_of(d);
    for (int i = 0; i < kBlock; i++)
        c.at[i] = uint8_t(clamp_code(x[i] * inverse + (float(zero) + 0.5f), 0, 2 * zero - 1));
    return d;
}
// value = d * code + m
PILLION_INLINE Fit affine_codes(const float* x, const float* w, int most, Codes& c) {
    Fit f;
    if (w) {
        float shifted[kBlock];  // the minimum may have either sign here
        const float lo = *std::min_element(x, x + kBlock);
        for (int i = 0; i < kBlock; i++) shifted[i] = x[i] - lo;
        f = fit_with_minimum(shifted, w, most);
        f = {f16_to_f32(f32_to_f16(f.scale)), f16_to_f32(f32_to_f16(f.low + lo))};
    } else {
        const float lo = *std::min_element(x, x + kBlock), hi = *std::max_element(x, x + kBlock);
        f = {(hi - lo) / float(most), lo};
    }
    const float inverse = inverse_of(f.scale);
    for (int i = 0; i < kBlock; i++)
        c.at[i] = uint8_t(clamp_code((x[i] - f.low) * inverse + 0.5f, 0, most));
    return f;
}

PILLION_INLINE void encode(BlockQ4_0& b, const float* x, const float* w) {
    Codes c;
    b.d = f32_to_f16(symmetric_codes(x, w, 8, c));
    put_nibbles(b.q, c);
}
PILLION_INLINE void encode(BlockQ5_0& b, const float* x, const float* w) {
    Codes c;
    b.d = f32_to_f16(symmetric_codes(x, w, 16, c));
    put_nibbles(b.q, c), put_fifth_bits(b.high, c);
}
PILLION_INLINE void encode(BlockQ4_1& b, const float* x, const float* w) {
    Codes c;
    const Fit f = affine_codes(x, w, 15, c);
    b.d = f32_to_f16(f.scale), b.m = f32_to_f16(f.low);
    put_nibbles(b.q, c);
}
PILLION_INLINE void encode(BlockQ5_1& b, const float* x, const float* w) {
    Codes c;
    const Fit f = affine_codes(x, w, 31, c);
    b.d = f32_to_f16(f.scale), b.m = f32_to_f16(f.low);
    put_nibbles(b.q, c), put_fifth_bits(b.high, c);
}
PILLION_INLINE void encode(BlockQ8_0& b, const float* x, const float*) {
    float tops[8] = {}, top = 0;
    for (int i = 0; i < kBlock; i += 8)
        for (int k = 0; k < 8; k++) tops[k] = fabsf(x[i + k]) > tops[k] ? fabsf(x[i + k]) : tops[k];
    for (const float t : tops) top = std::max(top, t);
    const float d = top / 127, inverse = inverse_of(d);
    b.d = f32_to_f16(d);
    int32_t codes[kBlock];
    for (int i = 0; i < kBlock; i++) {
        const float v = x[i] * inverse, a = fabsf(v) < 127 ? fabsf(v) : 127;
        const int32_t whole = int32_t(a),
                      q = whole + int32_t(2 * (a - float(whole)));  // halves away from zero
        codes[i] = v < 0 ? -q : q;
    }
    for (int i = 0; i < kBlock; i++) b.q[i] = int8_t(codes[i]);
}

// ---- K formats ----

// Weights of 256 inputs: those given, larger where a value is large, or by magnitude alone.
PILLION_INLINE void super_block_weights(const float* x, const float* given, float* w) {
    double squares = 0;
    for (int i = 0; i < kSuperBlock; i++) squares += double(x[i]) * double(x[i]);
    const float mean = float(squares / kSuperBlock);
    for (int i = 0; i < kSuperBlock; i++)
        w[i] = given ? given[i] * sqrtf(mean + x[i] * x[i]) : sqrtf(mean) + fabsf(x[i]);
}

// Scales and minima of 8 groups as six-bit numbers times d and dmin; then each group's pair is
// moved by one if that loses less. codes: [256]; v: scales, then minima.
PILLION_INLINE void affine_super_block(const float* x, const float* given, int most, uint16_t& d16,
                                       uint16_t& dmin16, uint8_t (&v)[16], uint8_t* codes) {
    float w[kSuperBlock], scales[8], lows[8];
    super_block_weights(x, given, w);
    for (int g = 0; g < 8; g++) {
        const Fit f = fit_with_minimum(x + g * kBlock, w + g * kBlock, most);
        scales[g] = std::max(f.scale, 0.0f), lows[g] = -f.low;
    }
    d16 = f32_to_f16(*std::max_element(scales, scales + 8) / 63),
    dmin16 = f32_to_f16(*std::max_element(lows, lows + 8) / 63);
    const float d = f16_to_f32(d16), dmin = f16_to_f32(dmin16);
    for (int g = 0; g < 8; g++) {
        const float *gx = x + g * kBlock, *gw = w + g * kBlock;
        const int s0 = int(nearest(scales[g] * inverse_of(d), 0, 63)),
                  m0 = int(nearest(lows[g] * inverse_of(dmin), 0, 63));
        double best = INFINITY;
        for (int s = std::max(0, s0 - 1); s <= std::min(63, s0 + 1); s++)
            for (int m = std::max(0, m0 - 1); m <= std::min(63, m0 + 1); m++) {
                const double e =
                    rounding_error<kBlock>(gx, gw, d * float(s), dmin * float(m), 0, float(most));
                if (e < best) best = e, v[g] = uint8_t(s), v[8 + g] = uint8_t(m);
            }
        const float inverse = inverse_of(d * float(v[g])), low = dmin * float(v[8 + g]);
        for (int i = 0; i < kBlock; i++)
            codes[g * kBlock + i] = uint8_t(nearest((gx[i] + low) * inverse, 0, float(most)));
    }
}

template <class B>
PILLION_INLINE void put_group_nibbles(B& b, const uint8_t* codes) {
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < 32; i++)
            b.q[32 * c + i] =
                uint8_t((codes[64 * c + i] & 15) | (codes[64 * c + 32 + i] & 15) << 4);
}
PILLION_INLINE void encode(BlockQ4_K& b, const float* x, const float* w) {
    uint8_t v[16], codes[kSuperBlock];
    affine_super_block(x, w, 15, b.d, b.dmin, v, codes);
    block_set_six_bits(b.scales, v);
    put_group_nibbles(b, codes);
}
PILLION_INLINE void encode(BlockQ5_K& b, const float* x, const float* w) {
    uint8_t v[16], codes[kSuperBlock];
    affine_super_block(x, w, 31, b.d, b.dmin, v, codes);
    block_set_six_bits(b.scales, v);
    put_group_nibbles(b, codes);
    memset(b.high, 0, sizeof b.high);
    for (int s = 0; s < 8; s++)
        for (int l = 0; l < 32; l++) b.high[l] |= uint8_t((codes[32 * s + l] >> 4) << s);
}

PILLION_INLINE void encode(BlockQ6_K& b, const float* x, const float* given) {
    constexpr int kGroup = 16, kMost = 32;
    float w[kSuperBlock], scales[16];
    // Plain squares: weighting by magnitude, as the other K formats gain from, doubled the
    // divergence of Gemma 3 270M here.
    std::fill(w, w + kSuperBlock, 1.0f);
    if (given) super_block_weights(x, given, w);
    float top = 0;
    for (int g = 0; g < 16; g++) {
        scales[g] = fit_symmetric<kGroup>(x + g * kGroup, w + g * kGroup, kMost);
        if (fabsf(scales[g]) > fabsf(top)) top = scales[g];
    }
    b.d = f32_to_f16(top / -128);
    const float d = f16_to_f32(b.d);
    uint8_t codes[kSuperBlock];
    for (int g = 0; g < 16; g++) {
        const float *gx = x + g * kGroup, *gw = w + g * kGroup;
        const int s0 = int(nearest(scales[g] * inverse_of(d), -128, 127));
        double best = INFINITY;
        for (int s = std::max(-128, s0 - 1); s <= std::min(127, s0 + 1); s++) {
            const double error = rounding_error<kGroup>(gx, gw, d * float(s), 0, -kMost, kMost - 1);
            if (error < best) best = error, b.scales[g] = int8_t(s);
        }
        const float inverse = inverse_of(d * float(b.scales[g]));
        for (int i = 0; i < kGroup; i++)
            codes[g * kGroup + i] =
                uint8_t(nearest(gx[i] * inverse, -kMost, kMost - 1) + float(kMost));
    }
    memset(b.low, 0, sizeof b.low), memset(b.high, 0, sizeof b.high);
    for (int half = 0; half < 2; half++)
        for (int s = 0; s < 4; s++)
            for (int l = 0; l < 32; l++) {
                const uint8_t code = codes[128 * half + 32 * s + l];
                b.low[64 * half + 32 * (s % 2) + l] |= uint8_t((code & 15) << (4 * (s / 2)));
                b.high[32 * half + l] |= uint8_t((code >> 4) << (2 * s));
            }
}

template <class B, int N>
PILLION_INLINE void encode_blocks(const float* x, const float* w, int64_t n, uint8_t* out) {
    for (int64_t i = 0; i < n; i += N, out += sizeof(B)) {
        B b;
        encode(b, x + i, w ? w + i : nullptr);
        memcpy(out, &b, sizeof b);
    }
}
#define PILLION_ENCODED(DO) \
    DO(q4_0, BlockQ4_0, 32) \
    DO(q4_1, BlockQ4_1, 32) \
    DO(q5_0, BlockQ5_0, 32) \
    DO(q5_1, BlockQ5_1, 32) \
    DO(q8_0, BlockQ8_0, 32) \
    DO(q4_k, BlockQ4_K, 256) DO(q5_k, BlockQ5_K, 256) DO(q6_k, BlockQ6_K, 256)

}  // namespace

bool can_encode(DType dtype) {
    switch (dtype) {
#define PILLION_CASE(TYPE, BLOCK, N) case DType::TYPE:
        PILLION_ENCODED(PILLION_CASE)
#undef PILLION_CASE
        case DType::f32:
        case DType::f16:
        case DType::bf16: return true;
        default: return false;
    }
}

namespace {

PILLION_INLINE void encode_any(DType dtype, const float* x, const float* weights, int64_t n,
                               uint8_t* out) {
    switch (dtype) {
#define PILLION_CASE(TYPE, BLOCK, N) \
    case DType::TYPE: return encode_blocks<BLOCK, N>(x, weights, n, out);
        PILLION_ENCODED(PILLION_CASE)
#undef PILLION_CASE
        case DType::f32: memcpy(out, x, size_t(n) * 4); return;
        case DType::f16:
        case DType::bf16:
            for (int64_t i = 0; i < n; i++) {
                const uint16_t h = dtype == DType::f16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
                memcpy(out + 2 * i, &h, 2);
            }
            return;
        default: fail(Status::internal, "type %s has no encoder", info(dtype).name);
    }
}

#if defined(__x86_64__)
// The same text for vectors of 32 bytes. Without FMA the operations are the same, and so are the
// bytes.
__attribute__((target("avx2"))) void encode_avx2(DType dtype, const float* x, const float* weights,
                                                 int64_t n, uint8_t* out) {
    encode_any(dtype, x, weights, n, out);
}
#endif

}  // namespace

void encode_row(DType dtype, const float* x, const float* weights, int64_t n, uint8_t* out) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return encode_avx2(dtype, x, weights, n, out);
#endif
    encode_any(dtype, x, weights, n, out);
}

}  // namespace pillion
