// The reference kernel for every kernel but the matmuls: scalar loops written from the definitions
// in kernel_table.h and the heads of body/*.inl, one rounding per line of thought. Shares no text
// with the vector kernels, only f16 conversion with the rest of the program.
#include <math.h>
#include <string.h>

#include "backends/cpu/kernel_table.h"
#include "core/contract/blocks.h"

namespace pillion::cpu::generic {

// Not fmaxf: a NaN in either place gives b, as the vector instructions of x86 do.
static float larger(float a, float b) { return a > b ? a : b; }
static float smaller(float a, float b) { return a < b ? a : b; }

// ---- functions ----

static float power_of_two(int n) {
    return float_of_bits(uint32_t(n + 127) << 23);
}  // -126 <= n <= 127

static float exp(float x) {
    if (x != x) return x;
    x = larger(-104.0f, smaller(89.0f, x));
    const float n = fmaf(x, 1.44269502f, 12582912.0f) - 12582912.0f;
    float r = fmaf(-n, 0.693147182f, x);
    r = fmaf(-n, -1.90465421e-9f, r);
    const float c[7] = {1.0f,         1.0f,           0.49999994f,   0.166665211f,
                        0.041668389f, 0.00836874545f, 0.00138145394f};
    float p = c[6];
    for (int i = 5; i >= 0; i--) p = fmaf(p, r, c[i]);
    const int whole = int(n), half = int(floorf(n / 2.0f));
    return p * power_of_two(half) * power_of_two(whole - half);
}

static float tanh(float x) {
    const float a = fabsf(x), z = a * a;
    if (a < 0.625f) {
        const float c[5] = {-0.333332807f, 0.133314416f, -0.0537397154f, 0.0206390843f,
                            -0.00570498407f};
        float p = c[4];
        for (int i = 3; i >= 0; i--) p = fmaf(p, z, c[i]);
        return copysignf(fmaf(a, z * p, a), x);
    }
    return copysignf(1.0f - 2.0f / (exp(a + a) + 1.0f), x);
}

static float silu(float x) {
    x = larger(-128.0f, x);
    return x / (1.0f + exp(-x));
}

static float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

static float gelu_tanh(float x) {
    x = larger(-64.0f, x);
    const float u2 = x * fmaf(x * x, 0.0713548139f, 1.59576917f);
    return x / (1.0f + exp(-u2));
}

// ---- 16 lanes wide ----

struct Sum16 {
    float lane[kVirtualLanes] = {};
    float fold() {
        for (int step = 8; step >= 1; step /= 2)
            for (int i = 0; i < step; i++) lane[i] += lane[i + step];
        return lane[0];
    }
};
struct Max16 {
    float lane[kVirtualLanes];
    Max16() {
        for (float& x : lane) x = -INFINITY;
    }
    float fold() {
        for (int step = 8; step >= 1; step /= 2)
            for (int i = 0; i < step; i++) lane[i] = larger(lane[i], lane[i + step]);
        return lane[0];
    }
};
static int padded16(int n) { return (n + 15) / 16 * 16; }

static float dot(const float* a, const float* b, int n) {
    Sum16 sum;
    for (int i = 0; i < padded16(n); i++)
        sum.lane[i % 16] = fmaf(i < n ? a[i] : 0.0f, i < n ? b[i] : 0.0f, sum.lane[i % 16]);
    return sum.fold();
}

static void softmax_stats(const float* x, int n, float* top, float* total) {
    Max16 m;
    for (int i = 0; i < n; i++) m.lane[i % 16] = larger(m.lane[i % 16], x[i]);
    for (int i = n; i < padded16(n); i++) m.lane[i % 16] = larger(m.lane[i % 16], -INFINITY);
    *top = m.fold();
    Sum16 sum;
    for (int i = 0; i < n; i++) sum.lane[i % 16] += exp(x[i] - (*top == -INFINITY ? 0.0f : *top));
    *total = sum.fold();
}

static void softmax_weights(float* x, int n, float scale, float* top, float* total) {
    for (int i = 0; i < n; i++) x[i] *= scale;
    softmax_stats(x, n, top, total);
    for (int i = 0; i < n; i++) x[i] = exp(x[i] - (*top == -INFINITY ? 0.0f : *top));
}

static int argmax(const float* x, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (x[i] == x[i] && (best < 0 || x[i] > x[best])) best = i;
    return best < 0 ? 0 : best;
}

// ---- norms ----

static float inverse_rms(const float* x, int n, float eps) {
    return 1.0f / sqrtf(dot(x, x, n) / float(n) + eps);
}

static void rms_norm(const float* x, const float* w, float* y, int n, float eps) {
    const float inverse = inverse_rms(x, n, eps);
    for (int i = 0; i < n; i++) y[i] = w ? x[i] * inverse * w[i] : x[i] * inverse;
}

static void rms_norm_add(const float* a, const float* w, const float* x, float scale, float* y,
                         int n, float eps) {
    const float inverse = inverse_rms(a, n, eps);
    for (int i = 0; i < n; i++)
        y[i] = (x[i] + (w ? a[i] * inverse * w[i] : a[i] * inverse)) * scale;
}

static void layer_norm(const float* x, const float* w, const float* b, float* y, int n, float eps) {
    Sum16 sum, squares;
    for (int i = 0; i < n; i++) sum.lane[i % 16] += x[i];
    const float mean = sum.fold() / float(n);
    for (int i = 0; i < n; i++)
        squares.lane[i % 16] = fmaf(x[i] - mean, x[i] - mean, squares.lane[i % 16]);
    const float inverse = 1.0f / sqrtf(squares.fold() / float(n) + eps);
    for (int i = 0; i < n; i++) {
        const float v = (x[i] - mean) * inverse * w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static void head_norm_rope(const HeadArgs& h) {
    if (h.normalize) rms_norm(h.x, h.weight, h.x, h.head_dim, h.eps);
    if (!h.cos) return;
    for (int i = 0; i < h.rope_dims / 2; i++) {
        float& first = h.x[h.interleaved ? 2 * i : i];
        float& second = h.x[h.interleaved ? 2 * i + 1 : i + h.rope_dims / 2];
        const float a = first, b = second;
        first = fmaf(-b, h.sin[i], a * h.cos[i]);
        second = fmaf(a, h.sin[i], b * h.cos[i]);
    }
}

// ---- elementwise ----

static void add(const float* a, const float* b, float* y, int n) {
    for (int i = 0; i < n; i++) y[i] = a[i] + b[i];
}
static void scale(const float* x, float s, float* y, int n) {
    for (int i = 0; i < n; i++) y[i] = x[i] * s;
}
static void multiply_add(const float* x, float s, float* y, int n) {
    for (int i = 0; i < n; i++) y[i] = fmaf(x[i], s, y[i]);
}
static float activate(float x, Activation by) {
    return by == Activation::silu ? silu(x) : by == Activation::sigmoid ? sigmoid(x) : gelu_tanh(x);
}
static void glu(const float* gate, const float* up, float* y, int n, Activation by) {
    for (int i = 0; i < n; i++) y[i] = up ? activate(gate[i], by) * up[i] : activate(gate[i], by);
}
static void bound(const float* x, const float* bias, float low, float high, float* y, int n) {
    for (int i = 0; i < n; i++) y[i] = larger(low, smaller(high, bias ? x[i] + bias[i] : x[i]));
}
static void pool(const float* const* rows, int n_rows, float factor, const float* bias,
                 const float* scale, float* y, int n) {
    for (int i = 0; i < n; i++) {
        float sum = rows[0][i];
        for (int r = 1; r < n_rows; r++) sum += rows[r][i];
        sum *= factor;
        if (bias) sum -= bias[i];
        y[i] = scale ? sum * scale[i] : sum;
    }
}
static float capped(float x, float cap) { return cap * tanh(x / cap); }
static void softcap(float* x, int n, float cap) {
    for (int i = 0; i < n; i++) x[i] = capped(x[i], cap);
}

// ---- sound ----

static void weigh_rows(const float* const* x, const float* w, int taps, float* y, int n) {
    for (int i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int t = 0; t < taps; t++) sum = fmaf(w[int64_t(t) * n + i], x[t][i], sum);
        y[i] = sum;
    }
}

static void conv_row(const ConvArgs& a) {
    for (int b = 0; b < a.bands; b++) {
        float* y = a.y + int64_t(b) * a.out;
        for (int c = 0; c < a.out; c++) {
            y[c] = 0.0f;
            for (int k = 0; k < 9 * a.in; k++)  // frame, band, input
                y[c] = fmaf(a.x[k / (3 * a.in)][2 * b * a.in + k % (3 * a.in)],
                            a.weight[int64_t(k) * a.out + c], y[c]);
        }
        Sum16 sum, squares;
        for (int c = 0; c < a.out; c++) sum.lane[c % 16] += y[c];
        const float mean = sum.fold() / float(a.out);
        for (int c = 0; c < a.out; c++)
            squares.lane[c % 16] = fmaf(y[c] - mean, y[c] - mean, squares.lane[c % 16]);
        const float inverse = 1.0f / sqrtf(squares.fold() / float(a.out) + a.eps);
        for (int c = 0; c < a.out; c++) y[c] = larger(0.0f, (y[c] - mean) * inverse * a.norm[c]);
    }
}

static void attend_local(const AttendLocalArgs& a) {
    float s[kLocalWindowMax], m = -INFINITY, l = 0.0f;
    for (int p = 0; p < a.n; p++) {
        const float *k = a.k + p * a.k_stride, *r = a.relative + (a.n - 1 - p) * a.relative_stride;
        Sum16 sum;
        for (int d = 0; d < a.head_dim; d++)
            sum.lane[d % 16] = fmaf(a.q[d] * a.q_scale[d], k[d] + r[d], sum.lane[d % 16]);
        s[p] = capped(sum.fold(), a.softcap);
        m = larger(m, s[p]);
    }
    for (int p = 0; p < a.n; p++) s[p] = exp(s[p] - m), l += s[p];
    for (int d = 0; d < a.head_dim; d++) {
        float o = 0.0f;
        for (int p = 0; p < a.n; p++) o = fmaf(s[p], a.v[p * a.v_stride + d], o);
        a.out[d] = o * (1.0f / l);
    }
}

// ---- keys and values ----

static float saturated(float x) { return larger(-65504.0f, smaller(65504.0f, x)); }
static void put_half(uint8_t* at, float x) {
    const uint16_t h = f32_to_f16(saturated(x));
    memcpy(at, &h, 2);
}
static float get_half(const uint8_t* at) {
    uint16_t h;
    memcpy(&h, at, 2);
    return f16_to_f32(h);
}

// Where element d of a slot's key or value lies.
static uint8_t* k_half(const KvHead& kv, int slot, int d) {
    return kv.k + slot / 32 * kv_k_block_bytes(kv.type, kv.head_dim) +
           size_t(d * 32 + slot % 32) * 2;
}
static uint8_t* k_scale(const KvHead& kv, int slot, int d) {
    return kv.k + slot / 32 * kv_k_block_bytes(kv.type, kv.head_dim) +
           size_t(d / 32) * (64 + 1024) + size_t(slot % 32) * 2;
}
static uint8_t* k_code(const KvHead& kv, int slot, int d) {
    return kv.k + slot / 32 * kv_k_block_bytes(kv.type, kv.head_dim) +
           size_t(d / 32) * (64 + 1024) + 64 + size_t(d % 32 * 32 + slot % 32);
}
static uint8_t* v_row(const KvHead& kv, int slot) {
    return kv.v + size_t(slot) * kv_v_row_bytes(kv.type, kv.head_dim);
}
static uint8_t* v_half(const KvHead& kv, int slot, int d) { return v_row(kv, slot) + 2 * d; }
static uint8_t* v_code(const KvHead& kv, int slot, int d) { return v_row(kv, slot) + d; }
static uint8_t* v_scale(const KvHead& kv, int slot, int d) {
    return v_row(kv, slot) + kv_padded_dim(kv.head_dim) + d / 32 * 2;
}

static float key_at(const KvHead& kv, int slot, int d) {
    if (kv.type == KvType::f16) return get_half(k_half(kv, slot, d));
    return get_half(k_scale(kv, slot, d)) * float(int8_t(*k_code(kv, slot, d)));
}
static float value_at(const KvHead& kv, int slot, int d) {
    if (kv.type == KvType::f16) return get_half(v_half(kv, slot, d));
    return get_half(v_scale(kv, slot, d)) * float(int8_t(*v_code(kv, slot, d)));
}

static float largest_magnitude(const float* x, int n) {  // NaN if there is one
    uint32_t most = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t bits = float_bits(x[i]) & 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    return float_of_bits(most);
}
static int8_t code_of(float x, float top) {
    const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
    const float c = larger(-127.0f, smaller(127.0f, x * inverse));
    return c == c ? int8_t(rintf(c)) : int8_t(0);
}

static void kv_store(const KvHead& kv, int32_t slot, const float* k, const float* v) {
    const int n = kv.head_dim;
    if (kv.type == KvType::f16) {
        for (int d = 0; d < n; d++)
            put_half(k_half(kv, slot, d), k[d]), put_half(v_half(kv, slot, d), v[d]);
        return;
    }
    for (int first = 0; first < n; first += 32) {
        const int count = n - first < 32 ? n - first : 32;
        const float k_top = largest_magnitude(k + first, count),
                    v_top = largest_magnitude(v + first, count);
        put_half(k_scale(kv, slot, first), k_top / 127.0f);
        put_half(v_scale(kv, slot, first), v_top / 127.0f);
        for (int d = first; d < first + 32; d++) {
            *k_code(kv, slot, d) = uint8_t(d < n ? code_of(k[d], k_top) : 0);
            *v_code(kv, slot, d) = uint8_t(d < n ? code_of(v[d], v_top) : 0);
        }
    }
}

// ---- attention ----

static void attend_split(const AttendArgs& a) {
    const KvHead& kv = a.kv;
    for (int c = 0; c < a.n_q; c++) {
        const int first = a.first[c] > a.begin ? a.first[c] : a.begin,
                  last = a.last[c] < a.end - 1 ? a.last[c] : a.end - 1;
        float s[KV_SPLIT];
        Max16 m;
        for (int p = first; p <= last; p++) {
            float sum = 0.0f;
            for (int d = 0; d < kv.head_dim; d++)
                sum = fmaf(a.q[c][d], key_at(kv, p % kv.capacity, d), sum);
            sum *= a.scale;
            s[p - a.begin] = a.softcap > 0.0f ? capped(sum, a.softcap) : sum;
        }
        // Groups of 16 the query sees any of; the rest of such a group is -inf.
        for (int i = (first - a.begin) / 16 * 16; first <= last && i < padded16(last - a.begin + 1);
             i++) {
            const bool visible = i >= first - a.begin && i <= last - a.begin;
            // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): what is visible was computed
            // above
            m.lane[i % 16] = larger(m.lane[i % 16], visible ? s[i] : -INFINITY);
        }
        a.m[c] = m.fold();
        a.l[c] = 0.0f;
        for (int d = 0; d < kv.head_dim; d++) a.o[c][d] = 0.0f;
        const float t = a.m[c] == -INFINITY ? 0.0f : a.m[c];
        Sum16 l;
        for (int p = first; p <= last; p++) {
            const float w = exp(s[p - a.begin] - t);
            l.lane[(p - a.begin) % 16] += w;
            for (int d = 0; d < kv.head_dim; d++)
                a.o[c][d] = fmaf(w, value_at(kv, p % kv.capacity, d), a.o[c][d]);
        }
        a.l[c] = l.fold();
    }
}

static void attend_merge(float* m, float* l, float* o, float ms, float ls, const float* os,
                         int head_dim) {
    const float top = larger(*m, ms);
    const float old = *m == -INFINITY ? 0.0f : exp(*m - top),
                now = ms == -INFINITY ? 0.0f : exp(ms - top);
    *m = top;
    *l = *l * old + ls * now;
    for (int d = 0; d < head_dim; d++) o[d] = fmaf(os[d], now, o[d] * old);
}

void fill_ops(KernelTable& t) {
    t.lanes = 1;
    t.rms_norm = rms_norm;
    t.rms_norm_add = rms_norm_add;
    t.layer_norm = layer_norm;
    t.head_norm_rope = head_norm_rope;
    t.add = add;
    t.scale = scale;
    t.multiply_add = multiply_add;
    t.glu = glu;
    t.bound = bound;
    t.pool = pool;
    t.softcap = softcap;
    t.argmax = argmax;
    t.dot = dot;
    t.softmax_stats = softmax_stats;
    t.softmax_weights = softmax_weights;
    t.weigh_rows = weigh_rows;
    t.conv_row = conv_row;
    t.attend_local = attend_local;
    t.kv_store = kv_store;
    t.attend_split = attend_split;
    t.attend_merge = attend_merge;
}

}  // namespace pillion::cpu::generic
