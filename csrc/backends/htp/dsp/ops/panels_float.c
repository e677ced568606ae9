// Weights that are floats: one multiply-add per input.
#include "backends/htp/dsp/ops/panels_kernels.h"

HVX_INLINE void f32_group(const uint8_t* g, uint32_t group, const float* const* x, unsigned n, HVX_Vector* acc) {
    const HVX_Vector w = hvx_load(g);
    ROWS(i) acc[i] = f32_scale_add(acc[i], w, x[i][group]);
}
HVX_INLINE void halves_group(HVX_VectorPair w, uint32_t group, uint32_t inputs, const float* const* x, unsigned n, HVX_Vector* acc) {
    ROWS(i) acc[i] = f32_scale_add(acc[i], Q6_V_lo_W(w), x[i][2 * group]);
    if (2 * group + 1 < inputs) ROWS(i) acc[i] = f32_scale_add(acc[i], Q6_V_hi_W(w), x[i][2 * group + 1]);
}

FLOAT(f32, f32_group(at, k, x, n, acc))
FLOAT(f16, halves_group(f32_from_f16(hvx_load(at)), k, g->inputs, x, n, acc))
FLOAT(bf16, halves_group(f32_from_bf16(hvx_load(at)), k, g->inputs, x, n, acc))
