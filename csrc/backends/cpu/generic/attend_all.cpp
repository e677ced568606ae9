// The reference kernel of attention with int8 products: the definition at the head of
// body/attend_all.inl in plain loops, one query after the other.
#include <math.h>

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::generic {

static float power(float x) {
    if (x != x) return x;
    x = -125.0f > x ? -125.0f : x;
    const float n = (x + 12582912.0f) - 12582912.0f, r = x - n;
    float p = fmaf(0.055008933f, r, 0.24221097f);
    p = fmaf(p, r, 0.6932829f);
    return fmaf(p, r, 1.0f) * float_of_bits(uint32_t(int(n) + 127) << 23);
}

static int code_of(const AttendAllArgs& a, int query, int input) {
    return int(a.q[input / 4 * kPlaneBytes + 4 * query + input % 4]) - 128;
}

static float score(const AttendAllArgs& a, const ActBlock* key, int query) {
    int32_t dot = 0;
    for (int i = 0; i < a.dims; i++) dot += code_of(a, query, i) * key[i / 32].q[i % 32];
    return float(dot) * key->d;
}

struct State { float m, l; };

static void add_block(const AttendAllArgs& a, int query, int first, State& state) {
    const int count = a.n - first < 32 ? a.n - first : 32;
    const float scale = a.q_scale[query];
    float s[32], top = -INFINITY, sum = 0.0f;
    for (int p = 0; p < count; p++) {
        s[p] = score(a, a.keys + ptrdiff_t(first + p) * (a.dims / 32), query);
        top = top > s[p] ? top : s[p];
    }
    const float t = top * scale, both = state.m > t ? state.m : t;
    int32_t code[32];
    for (int p = 0; p < count; p++) {
        const float e = power(fmaf(s[p], scale, -t));
        sum += e;
        code[p] = e == e ? int32_t(rintf(e * 255.0f)) : 0;
    }
    const float old = power(state.m - both), now = power(t - both);
    state.m = both;
    state.l = fmaf(sum, now, state.l * old);
    const float weight = now * (1.0f / 255.0f);
    const ActBlock* values = a.values + ptrdiff_t(first / 32) * a.head_dim;
    for (int d = 0; d < a.head_dim; d++) {
        int32_t dot = 0;
        for (int p = 0; p < count; p++) dot += code[p] * values[d].q[p];
        float& o = a.o[d * kPanel + query];
        o = fmaf(float(dot), weight * values[d].d, o * old);
    }
}

static void attend_all(const AttendAllArgs& a) {
    for (int query = 0; query < kPanel; query++) {
        State state = {-INFINITY, 0.0f};
        for (int d = 0; d < a.head_dim; d++) a.o[d * kPanel + query] = 0.0f;
        for (int p = 0; p < a.n; p += 32) add_block(a, query, p, state);
        for (int d = 0; d < a.head_dim; d++) a.o[d * kPanel + query] *= 1.0f / state.l;
    }
}

static void quantize_row(const float* x, int inputs, ActBlock* act) {
    int32_t top = 0;
    for (int i = 0; i < inputs; i++) {
        const int32_t magnitude = int32_t(float_bits(x[i]) & 0x7FFFFFFF);
        top = magnitude > top ? magnitude : top;
    }
    const float inverse = act_inverse(top);
    for (int b = 0; b < inputs / 32; b++) {
        int32_t sum[2] = {};
        for (int i = 0; i < 32; i++) {
            const float scaled = x[32 * b + i] * inverse;
            act[b].q[i] = inverse == 0.0f ? int8_t(0) : int8_t(rintf(scaled));
            sum[i / 16] += act[b].q[i];
        }
        act_finish(act[b], top, sum[0], sum[1]);
        if (b > 0) act[0].zero8 += act[b].zero8;
    }
}

void fill_attend_all(KernelTable& t) {
    t.attend_all = attend_all;
    t.quantize_row = quantize_row;
}

}  // namespace pillion::cpu::generic
