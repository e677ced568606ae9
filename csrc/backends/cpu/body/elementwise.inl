// Ops with one value in and one value out. Each element is a fixed sequence of operations
// (math.inl), at any place in the row.

static void add(const float* a, const float* b, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, add(load(a + i), load(b + i)));
    if (i < n) store_first(y + i, add(load_first(a + i, n - i), load_first(b + i, n - i)), n - i);
}
static void scale(const float* x, float s, float* y, int n) {
    const Floats by = splat(s);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, mul(load(x + i), by));
    if (i < n) store_first(y + i, mul(load_first(x + i, n - i), by), n - i);
}
static void multiply_add(const float* x, float s, float* y, int n) {
    const Floats by = splat(s);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, fma(load(x + i), by, load(y + i)));
    if (i < n)
        store_first(y + i, fma(load_first(x + i, n - i), by, load_first(y + i, n - i)), n - i);
}

static void bound(const float* x, const float* bias, float low, float high, float* y, int n) {
    const Floats lo = splat(low), hi = splat(high);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const Floats v = bias ? add(load(x + i), load(bias + i)) : load(x + i);
        store(y + i, max(lo, min(hi, v)));
    }
    if (i == n) return;
    Floats v = load_first(x + i, n - i);
    if (bias) v = add(v, load_first(bias + i, n - i));
    store_first(y + i, max(lo, min(hi, v)), n - i);
}

static void pool(const float* const* rows, int n_rows, float factor, const float* bias,
                 const float* scale, float* y, int n) {
    const Floats by = splat(factor);
    for (int i = 0; i < n; i += kLanes) {
        const int left = n - i < kLanes ? n - i : kLanes;
        Floats sum = load_first(rows[0] + i, left);
        for (int r = 1; r < n_rows; r++) sum = add(sum, load_first(rows[r] + i, left));
        sum = mul(sum, by);
        if (bias) sum = subtract(sum, load_first(bias + i, left));
        if (scale) sum = mul(sum, load_first(scale + i, left));
        store_first(y + i, sum, left);
    }
}

template <Activation kActivation>
PILLION_INLINE Floats activation(Floats x) {
    return kActivation == Activation::silu      ? silu(x)
           : kActivation == Activation::sigmoid ? sigmoid(x)
                                                : gelu_tanh(x);
}
template <Activation kActivation>
PILLION_INLINE void glu_row(const float* gate, const float* up, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const Floats v = activation<kActivation>(load(gate + i));
        store(y + i, up ? mul(v, load(up + i)) : v);
    }
    if (i < n) {
        const Floats v = activation<kActivation>(load_first(gate + i, n - i));
        store_first(y + i, up ? mul(v, load_first(up + i, n - i)) : v, n - i);
    }
}
static void glu(const float* gate, const float* up, float* y, int n, Activation activation) {
    if (activation == Activation::silu) glu_row<Activation::silu>(gate, up, y, n);
    else if (activation == Activation::sigmoid) glu_row<Activation::sigmoid>(gate, up, y, n);
    else glu_row<Activation::gelu_tanh>(gate, up, y, n);
}

PILLION_INLINE Floats capped(Floats x, Floats cap) { return mul(cap, tanh(divide(x, cap))); }
static void softcap(float* x, int n, float cap) {
    const Floats c = splat(cap);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(x + i, capped(load(x + i), c));
    if (i < n) store_first(x + i, capped(load_first(x + i, n - i), c), n - i);
}
