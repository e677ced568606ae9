// RMS norms and the layer norm.
//
//   sum of squares   acc[i % 16] = fma(x, x, acc), folded
//   inverse          1 / sqrt(sum / n + eps)
//   rms_norm         (x * inverse) * w
//   rms_norm_add     (x + (a * inverse) * w) * scale
//   layer_norm       mean: acc[i % 16] += x, folded, / n; then the same of d = x - mean: acc =
//                    fma(d, d, acc); ((x - mean) * inverse) * w + b

PILLION_INLINE float inverse_rms(const float* x, int n, float eps) {
    Lanes16 sum = splat16(0.0f);
    int i = 0;
    for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            const Floats v = load(x + i + p * kLanes);
            sum.part[p] = fma(v, v, sum.part[p]);
        }
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            const Floats v = load_left(x + i, n - i, p);
            sum.part[p] = fma(v, v, sum.part[p]);
        }
    }
    return 1.0f / __builtin_sqrtf(fold_add(sum) / float(n) + eps);
}

static void rms_norm(const float* x, const float* w, float* y, int n, float eps) {
    const Floats inverse = splat(inverse_rms(x, n, eps));
    int i = 0;
    if (w) {
        for (; i + kLanes <= n; i += kLanes)
            store(y + i, mul(mul(load(x + i), inverse), load(w + i)));
        if (i < n)
            store_first(y + i,
                        mul(mul(load_first(x + i, n - i), inverse), load_first(w + i, n - i)),
                        n - i);
    } else {
        for (; i + kLanes <= n; i += kLanes) store(y + i, mul(load(x + i), inverse));
        if (i < n) store_first(y + i, mul(load_first(x + i, n - i), inverse), n - i);
    }
}

static void rms_norm_add(const float* a, const float* w, const float* x, float scale, float* y,
                         int n, float eps) {
    const Floats inverse = splat(inverse_rms(a, n, eps)), by = splat(scale);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        Floats v = mul(load(a + i), inverse);
        if (w) v = mul(v, load(w + i));
        store(y + i, mul(add(load(x + i), v), by));
    }
    if (i < n) {
        Floats v = mul(load_first(a + i, n - i), inverse);
        if (w) v = mul(v, load_first(w + i, n - i));
        store_first(y + i, mul(add(load_first(x + i, n - i), v), by), n - i);
    }
}

PILLION_INLINE float mean_of(const float* x, int n) {
    Lanes16 sum = splat16(0.0f);
    for (int i = 0; i < n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) sum.part[p] = add(sum.part[p], load_left(x + i, n - i, p));
    }
    return fold_add(sum) / float(n);
}
// Lanes past the end hold x = mean, so that their distance is +0.
PILLION_INLINE float variance_of(const float* x, int n, float mean) {
    Lanes16 sum = splat16(0.0f);
    const Floats m = splat(mean);
    for (int i = 0; i < n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            const Floats d = existing(subtract(load_left(x + i, n - i, p), m), 0.0f, n - i, p);
            sum.part[p] = fma(d, d, sum.part[p]);
        }
    }
    return fold_add(sum) / float(n);
}

static void layer_norm(const float* x, const float* w, const float* b, float* y, int n, float eps) {
    const float mean = mean_of(x, n),
                inverse = 1.0f / __builtin_sqrtf(variance_of(x, n, mean) + eps);
    const Floats m = splat(mean), by = splat(inverse);
    for (int i = 0; i < n; i += kLanes) {
        const int left = n - i < kLanes ? n - i : kLanes;
        Floats v = mul(mul(subtract(load_first(x + i, left), m), by), load_first(w + i, left));
        if (b) v = add(v, load_first(b + i, left));
        store_first(y + i, v, left);
    }
}
