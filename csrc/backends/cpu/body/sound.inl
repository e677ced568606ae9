// The ops of the audio encoder: a convolution over rows, one over frames and bands, and attention
// to the last few positions. Their arithmetic is in kernel_table.h.

static void weigh_rows(const float* const* x, const float* w, int taps, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        Floats sum = zero_floats();
        for (int t = 0; t < taps; t++)
            sum = fma(load(w + ptrdiff_t(t) * n + i), load(x[t] + i), sum);
        store(y + i, sum);
    }
    if (i < n) {
        Floats sum = zero_floats();
        for (int t = 0; t < taps; t++)
            sum =
                fma(load_first(w + ptrdiff_t(t) * n + i, n - i), load_first(x[t] + i, n - i), sum);
        store_first(y + i, sum, n - i);
    }
}

// ---- convolution: lanes are channels; kConvBands bands x 2 registers of channels at a time ----

constexpr int kConvBands = kLanes == 8 ? 6 : 8;  // AVX2 has 16 registers, the others 32

// The sums of B bands from `band` on, channels [c, c + 2 kLanes) as far as they exist.
template <int B>
PILLION_INLINE void conv_tile(const ConvArgs& a, int band, int c) {
    const int left = a.out - c, step = 2 * a.in;
    const bool whole = left >= 2 * kLanes;
    Floats sum[B][2];
    PILLION_UNROLL
    for (int b = 0; b < B; b++) sum[b][0] = sum[b][1] = zero_floats();
    const float* w = a.weight + c;
    for (int frame = 0; frame < 3; frame++) {
        const float* x = a.x[frame] + ptrdiff_t(band) * step;
        for (int i = 0; i < 3 * a.in; i++, w += a.out) {
            const Floats w0 = whole ? load(w) : load_left(w, left, 0),
                         w1 = whole ? load(w + kLanes) : load_left(w, left, 1);
            PILLION_UNROLL
            for (int b = 0; b < B; b++) {
                const Floats v = broadcast(x + ptrdiff_t(b) * step + i);
                sum[b][0] = fma(v, w0, sum[b][0]);
                sum[b][1] = fma(v, w1, sum[b][1]);
            }
        }
    }
    PILLION_UNROLL
    for (int b = 0; b < B; b++) {
        float* y = a.y + ptrdiff_t(band + b) * a.out + c;
        store_first(y, sum[b][0], lanes_left(left, 0));
        if (left > kLanes) store_first(y + kLanes, sum[b][1], lanes_left(left, 1));
    }
}

// Layer norm and ReLU of n channels, in place.
static void normalize_channels(float* y, const float* norm, int n, float eps) {
    Lanes16 sum = splat16(0.0f);
    for (int i = 0; i < n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) sum.part[p] = add(sum.part[p], load_left(y + i, n - i, p));
    }
    const Floats mean = splat(fold_add(sum) / float(n));
    Lanes16 squares = splat16(0.0f);
    for (int i = 0; i < n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            const Floats d = existing(subtract(load_left(y + i, n - i, p), mean), 0.0f, n - i, p);
            squares.part[p] = fma(d, d, squares.part[p]);
        }
    }
    const Floats inverse = splat(1.0f / __builtin_sqrtf(fold_add(squares) / float(n) + eps));
    for (int i = 0; i < n; i += kLanes) {
        const int left = n - i < kLanes ? n - i : kLanes;
        const Floats d = subtract(load_first(y + i, left), mean);
        store_first(y + i, max(zero_floats(), mul(mul(d, inverse), load_first(norm + i, left))),
                    left);
    }
}

static void conv_row(const ConvArgs& a) {
    for (int c = 0; c < a.out; c += 2 * kLanes) {
        int band = 0;
        for (; band + kConvBands <= a.bands; band += kConvBands) conv_tile<kConvBands>(a, band, c);
        for (; band < a.bands; band++) conv_tile<1>(a, band, c);
    }
    for (int band = 0; band < a.bands; band++)
        normalize_channels(a.y + ptrdiff_t(band) * a.out, a.norm, a.out, a.eps);
}

// ---- attention ----

static void attend_local(const AttendLocalArgs& a) {
    const int n = a.head_dim;
    float s[kLocalWindowMax];
    int i = 0;
    for (; i + kLanes <= n; i += kLanes)  // `out` holds q' until the weights are known
        store(a.out + i, mul(load(a.q + i), load(a.q_scale + i)));
    if (i < n)
        store_first(a.out + i, mul(load_first(a.q + i, n - i), load_first(a.q_scale + i, n - i)),
                    n - i);
    for (int p = 0; p < a.n; p++) {
        const float *k = a.k + p * a.k_stride, *r = a.relative + (a.n - 1 - p) * a.relative_stride;
        Lanes16 sum = splat16(0.0f);
        for (i = 0; i + kVirtualLanes <= n; i += kVirtualLanes) {
            PILLION_UNROLL
            for (int part = 0; part < kParts; part++) {
                const int at = i + part * kLanes;
                sum.part[part] =
                    fma(load(a.out + at), add(load(k + at), load(r + at)), sum.part[part]);
            }
        }
        if (i < n) {
            PILLION_UNROLL
            for (int part = 0; part < kParts; part++)
                sum.part[part] =
                    fma(load_left(a.out + i, n - i, part),
                        add(load_left(k + i, n - i, part), load_left(r + i, n - i, part)),
                        sum.part[part]);
        }
        s[p] = fold_add(sum);
    }
    softcap(s, a.n, a.softcap);
    float m = -__builtin_inff(), l = 0.0f;
    for (int p = 0; p < a.n; p++) m = m > s[p] ? m : s[p];
    for (i = 0; i < a.n; i += kLanes) {
        const int left = a.n - i < kLanes ? a.n - i : kLanes;
        store_first(s + i, exp(subtract(load_first(s + i, left), splat(m))), left);
    }
    for (int p = 0; p < a.n; p++) l += s[p];
    const Floats by = splat(1.0f / l);
    for (i = 0; i < n; i += kLanes) {
        const int left = n - i < kLanes ? n - i : kLanes;
        Floats o = zero_floats();
        for (int p = 0; p < a.n; p++)
            o = fma(broadcast(s + p), load_first(a.v + p * a.v_stride + i, left), o);
        store_first(a.out + i, mul(o, by), left);
    }
}
