// Routed experts: the choice, the products, the sum.
#include "backends/cuda/ops/prepared_input.h"
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {

Step make_moe_step(const StepArgs& a) {
    const MoeParams p = a.node.params.moe;
    if (a.node.op == Op::moe_route)
        return step_of(a, "moe_route",
                       [=, x = floats(a.in[0]), s = floats(a.in[1]), ids = ints(a.out[0]),
                        gates = floats(a.out[1])](RunRows rows, stream_t stream) {
                           moe_route(p, x, s, ids, gates, rows, stream);
                       });
    const int n = width_of(a, a.node.out[0]);
    return step_of(a, "moe_sum",
                   [=, x = floats(a.in[0]), gates = floats(a.in[1]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       moe_sum(p, x, gates, y, n, rows, stream);
                   });
}

Step make_moe_matmul_step(const ProductArgs& p) {
    const PackedWeight w =
        packed_weight(p.step.graph.value(p.step.node.in[0]).tensor, p.step.in[0]);
    const MoeShape shape = moe_shape(p.step.node.params.moe);
    const PreparedInput input(p, w, shape.per_row);
    const int32_t* ids = reinterpret_cast<const int32_t*>(p.step.in[2]);
    float* out = reinterpret_cast<float*>(p.step.out[0]);
    uint8_t* lists = p.lists;
    const bool makes_lists = p.makes_lists;
    Step step;
    step.kernel = info(w.dtype).name;
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(input.rows) == 0) return;
        const RowCount count = row_count(input.state, input.rows, b);
        if (makes_lists) moe_group(shape, ids, lists, count, stream);
        moe_matmul(w, shape, lists, input.take(b, stream), out, count, stream);
    };
    return step;
}

}  // namespace pillion::cuda
