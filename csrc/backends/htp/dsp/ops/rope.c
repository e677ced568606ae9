// Cosines and sines of a run's positions, computed once per run, in double: an angle is up to 10^5
// radians, for which f32 is too coarse. Written out here so that all machines give the same bits
// with any libm.
#include "backends/htp/dsp/ops/segments.h"

// x = n pi/2 + r, |r| <= pi/4. pi/2 is split so that n times the first piece is exact for n < 2^20.
static double reduce(double x, int32_t* quadrant) {
    const double magic = 6755399441055744.0;  // 1.5 * 2^52
    const double n = (x * 0.63661977236758134308 + magic) - magic;
    *quadrant = 0;
    // A broken frequency gives NaN, as an infinite one does.
    if (!(n > -2147483648.0 && n < 2147483648.0)) return __builtin_nan("");
    *quadrant = (int32_t)n;
    double r = x - n * 1.57079632673412561417;  // the first 33 bits of pi/2
    r -= n * 6.07710050630396597660e-11;        // the next 33
    r -= n * 2.02226624879595063154e-21;        // the rest
    return r;
}
// Taylor series with enough terms that the rest is below 2^-53 on [-pi/4, pi/4].
static double sin_small(double x) {
    const double z = x * x;
    double p = -1.0 / 1307674368000.0;
    p = p * z + 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    return x + x * (z * p);
}
static double cos_small(double x) {
    const double z = x * x;
    double p = 1.0 / 20922789888000.0;
    p = p * z - 1.0 / 87178291200.0;
    p = p * z + 1.0 / 479001600.0;
    p = p * z - 1.0 / 3628800.0;
    p = p * z + 1.0 / 40320.0;
    p = p * z - 1.0 / 720.0;
    p = p * z + 1.0 / 24.0;
    p = p * z - 1.0 / 2.0;
    return 1.0 + z * p;
}

static void rope_row(struct op_run* r, int32_t row) {
    const int32_t half = r->op->params.rope_table.dims / 2;
    const float* frequency = (const float*)r->in[0];
    const double pos = row_of(r, row).position;
    float* out = out_row(r, 0, row);
    for (int32_t i = 0; i < half; i++) {
        int32_t quadrant;
        const double x = reduce(pos * (double)frequency[i], &quadrant), s = sin_small(x),
                     c = cos_small(x);
        const double sin = quadrant & 1 ? c : s, cos = quadrant & 1 ? s : c;
        out[i] = (float)((quadrant + 1) & 2 ? -cos : cos);
        out[half + i] = (float)(quadrant & 2 ? -sin : sin);
    }
}
void op_rope_table(struct op_run* r) { op_rows(r, rope_row); }
