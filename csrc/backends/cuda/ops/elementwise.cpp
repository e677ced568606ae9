// Scale, add, gate; rows gathered, put side by side and copied out.
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {
namespace {

Step glu_step(const StepArgs& a) {
    const GluParams p = a.node.params.glu;
    const int width_up = a.node.in[1] == kNone ? 0 : width_of(a, a.node.in[1]),
              width = width_of(a, a.node.out[0]);
    return step_of(a, "glu",
                   [=, gate = floats(a.in[0]), up = floats(a.in[1]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       glu(p, gate, up, width_up, y, width, rows, stream);
                   });
}

Step simple_step(const StepArgs& a) {
    const auto *x = floats(a.in[0]), *z = floats(a.in[1]);
    float* y = floats(a.out[0]);
    const int n = width_of(a, a.node.in[0]);
    switch (a.node.op) {
        case Op::scale:
            return step_of(a, "scale",
                           [=, s = a.node.params.scale.scale](RunRows rows, stream_t stream) {
                               scale(x, s, y, n, rows, stream);
                           });
        case Op::add:
            return step_of(a, "add",
                           [=](RunRows rows, stream_t stream) { add(x, z, y, n, rows, stream); });
        case Op::gather_rows:
            return step_of(a, "gather_rows", [=](RunRows rows, stream_t stream) {
                gather_rows(x, y, n, rows, stream);
            });
        default:  // concat
            return step_of(a, "concat",
                           [=, m = width_of(a, a.node.in[1])](RunRows rows, stream_t stream) {
                               concat(x, n, z, m, y, rows, stream);
                           });
    }
}

}  // namespace

Step make_elementwise_step(const StepArgs& a) {
    return a.node.op == Op::glu ? glu_step(a) : simple_step(a);
}

Step make_copy_step(const StepState* state, const ValueInfo& value, const uint8_t* from,
                    uint8_t* to) {
    const Rows kind = value.rows;
    const int width = int(value.width);
    Step step;
    step.kernel = "copy_out";
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(kind) > 0)
            copy_rows(floats(from), floats(to), width, run_rows(state, kind, b), stream);
    };
    return step;
}

}  // namespace pillion::cuda
