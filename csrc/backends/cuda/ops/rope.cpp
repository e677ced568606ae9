// Rotation: the table of a run, and the heads that it turns (with their norms).
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {

Step make_rope_table_step(const StepArgs& a, const float* frequencies) {
    const int half = a.node.params.rope_table.dims / 2;
    return step_of(a, "rope_table", [=, out = floats(a.out[0])](RunRows rows, stream_t stream) {
        rope_table(frequencies, half, out, rows, stream);
    });
}

Step make_qkv_step(const StepArgs& a) {
    QkvArgs q = {floats(a.in[0]), floats(a.in[1]), floats(a.in[2]), floats(a.in[3]),
                 floats(a.in[4]), floats(a.in[5]), false,           a.node.params.qkv};
    q.rope_is_run = a.graph.value(a.node.in[5]).rows == Rows::run;
    return step_of(a, "qkv_norm_rope",
                   [=](RunRows rows, stream_t stream) { qkv_norm_rope(q, rows, stream); });
}

}  // namespace pillion::cuda
