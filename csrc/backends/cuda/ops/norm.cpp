// RMS norms.
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {

Step make_norm_step(const StepArgs& a) {
    const NormParams p = a.node.params.norm;
    const int n = width_of(a, a.node.out[0]);
    if (a.node.op == Op::norm)
        return step_of(a, "norm",
                       [=, x = floats(a.in[0]), w = floats(a.in[1]),
                        y = floats(a.out[0])](RunRows rows, stream_t stream) {
                           norm(x, w, y, n, p.eps, p.scale, rows, stream);
                       });
    return step_of(a, "norm_add",
                   [=, x = floats(a.in[0]), w = floats(a.in[1]), r = floats(a.in[2]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       norm_add(x, w, r, y, n, p.eps, p.scale, rows, stream);
                   });
}

}  // namespace pillion::cuda
