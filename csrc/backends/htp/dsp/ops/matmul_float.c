// Float weights: one multiply-add per input.
#include "backends/htp/dsp/ops/matmul_kernels.h"

HVX_INLINE void first_input(HVX_Vector w, const float* const* x, unsigned n, HVX_Vector* acc) {
    ROWS(i) acc[i] = f32_scale_add(acc[i], w, x[i][0]);
}
HVX_INLINE void two_inputs(HVX_VectorPair w, const float* const* x, unsigned n, HVX_Vector* acc) {
    ROWS(i)
    acc[i] = f32_chain_end(
        f32_chain_add(f32_chain_begin(acc[i], Q6_V_lo_W(w), x[i][0]), Q6_V_hi_W(w), x[i][1]));
}

FLOAT(f32, 1, first_input(hvx_load(at), x, n, acc), (void)0)
FLOAT(f16, 2, two_inputs(f32_from_f16(hvx_load(at)), x, n, acc),
      first_input(Q6_V_lo_W(f32_from_f16(hvx_load(at))), x, n, acc))
FLOAT(bf16, 2, two_inputs(f32_from_bf16(hvx_load(at)), x, n, acc),
      first_input(Q6_V_lo_W(f32_from_bf16(hvx_load(at))), x, n, acc))
