// The norm and the rotation of a head's vector. They are one kernel, since the vector is in a
// register or the first cache then.
//
//   norm       rms_norm (norm.inl)
//   rotation   a' = fma(-b, sin, a * cos),  b' = fma(a, sin, b * cos)

static void head_norm_rope(const HeadArgs& h) {
    if (h.normalize) rms_norm(h.x, h.weight, h.x, h.head_dim, h.eps);
    if (!h.cos) return;
    const int half = h.rope_dims / 2;
    if (h.interleaved) {
        for (int i = 0; i < half; i++) {
            const float a = h.x[2 * i], b = h.x[2 * i + 1];
            h.x[2 * i] = __builtin_fmaf(-b, h.sin[i], a * h.cos[i]);
            h.x[2 * i + 1] = __builtin_fmaf(a, h.sin[i], b * h.cos[i]);
        }
        return;
    }
    float *first = h.x, *second = h.x + half;
    int i = 0;
    for (; i + kLanes <= half; i += kLanes) {
        const Floats a = load(first + i), b = load(second + i), c = load(h.cos + i),
                     s = load(h.sin + i);
        store(first + i, fma_minus(b, s, mul(a, c)));
        store(second + i, fma(a, s, mul(b, c)));
    }
    for (; i < half; i++) {
        const float a = first[i], b = second[i];
        first[i] = __builtin_fmaf(-b, h.sin[i], a * h.cos[i]);
        second[i] = __builtin_fmaf(a, h.sin[i], b * h.cos[i]);
    }
}
