// Ops that reduce a row to one or two numbers. Sums and maxima run in the 16 virtual lanes.
//
//   dot             acc[i % 16] = fma(a, b, acc), folded
//   softmax_stats   max: acc[i % 16] = acc > x ? acc : x from -inf, folded
//                   sum: acc[i % 16] += exp(x - t), t = max, or 0 if max = -inf, folded
//                   (elements past the end are -inf for the maximum and +0 for the sum; a NaN ends
//                   up in the sum)

static float dot(const float* a, const float* b, int n) {
    Lanes16 sum = splat16(0.0f);
    int i = 0;
    for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            sum.part[p] = fma(load(a + i + p * kLanes), load(b + i + p * kLanes), sum.part[p]);
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            sum.part[p] = fma(load_left(a + i, n - i, p), load_left(b + i, n - i, p), sum.part[p]);
    }
    return fold_add(sum);
}

static void softmax_stats(const float* x, int n, float* top, float* sum) {
    const float kNone = -__builtin_inff();
    Lanes16 m = splat16(kNone);
    int i = 0;
    for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) m.part[p] = max(m.part[p], load(x + i + p * kLanes));
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            m.part[p] = max(m.part[p], existing(load_left(x + i, n - i, p), kNone, n - i, p));
    }
    *top = fold_max(m);
    // All elements are -inf: sum = 0, but a NaN still shows.
    const Floats t = splat(*top == kNone ? 0.0f : *top);
    Lanes16 l = splat16(0.0f);
    for (i = 0; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            l.part[p] = add(l.part[p], exp(subtract(load(x + i + p * kLanes), t)));
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            l.part[p] = add(l.part[p],
                            existing(exp(subtract(load_left(x + i, n - i, p), t)), 0.0f, n - i, p));
    }
    *sum = fold_add(l);
}

// As softmax_stats, but x * scale is what the soft-max is of, and its weights are kept.
static void softmax_weights(float* x, int n, float scale, float* top, float* sum) {
    const float kNone = -__builtin_inff();
    const Floats by = splat(scale);
    Lanes16 m = splat16(kNone);
    int i = 0;
    for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            m.part[p] = max(m.part[p], mul(load(x + i + p * kLanes), by));
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++)
            m.part[p] =
                max(m.part[p], existing(mul(load_left(x + i, n - i, p), by), kNone, n - i, p));
    }
    *top = fold_max(m);
    const Floats t = splat(*top == kNone ? 0.0f : *top);
    Lanes16 l = splat16(0.0f);
    for (i = 0; i + kVirtualLanes <= n; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            float* at = x + i + p * kLanes;
            const Floats w = exp(subtract(mul(load(at), by), t));
            l.part[p] = add(l.part[p], w);
            store(at, w);
        }
    }
    if (i < n) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            const int left = lanes_left(n - i, p);
            if (left == 0) continue;
            float* at = x + i + p * kLanes;
            const Floats w = exp(subtract(mul(load_first(at, left), by), t));
            l.part[p] = add(l.part[p], existing(w, 0.0f, n - i, p));
            store_first(at, w, left);
        }
    }
    *sum = fold_add(l);
}

// Finds the largest value of each run of 1024 first, then its place in the first run that has it,
// so that the row is read once.
static int argmax(const float* x, int n) {
    const int kRun = 1024;
    const float kNone = -__builtin_inff();
    float best = kNone;
    int from = 0, to = n;  // range that contains it
    for (int begin = 0; begin < n; begin += kRun) {
        const int end = n - begin < kRun ? n : begin + kRun;
        Lanes16 m = splat16(kNone);
        int i = begin;
        for (; i + kVirtualLanes <= end; i += kVirtualLanes) {
            PILLION_UNROLL
            for (int p = 0; p < kParts; p++) m.part[p] = max(load(x + i + p * kLanes), m.part[p]);
        }  // NaN keeps m
        float top = fold_max(m);
        for (; i < end; i++) top = x[i] > top ? x[i] : top;
        if (top > best) best = top, from = begin, to = end;
    }
    for (int i = from; i < to; i++)
        if (x[i] == best) return i;
    return 0;  // all elements are NaN
}
