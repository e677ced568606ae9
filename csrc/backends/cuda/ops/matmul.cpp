// Matrix products.
#include <stddef.h>

#include "backends/cuda/kernels/ops.h"
#include "backends/cuda/ops/prepared_input.h"

namespace pillion::cuda {

static_assert(kDecodeTokens == kMatvecRows,
              "rows that keep their bits: attention and products draw the line at the same count");

RowCount row_count(const StepState* state, Rows kind, const Bounds& b, int per_row) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(state);
    const size_t at = kind == Rows::out ? offsetof(StepState, out_rows) : offsetof(StepState, rows);
    return {reinterpret_cast<const int32_t*>(bytes + at), b.count(kind), per_row};
}

PackedWeight packed_weight(const Tensor& t, const uint8_t* data) {
    return {t.dtype, t.depth, t.rows, t.width, data};
}

Step make_matmul_step(const ProductArgs& p) {
    const PackedWeight w =
        packed_weight(p.step.graph.value(p.step.node.in[0]).tensor, p.step.in[0]);
    const PreparedInput input(p, w, /*n=*/1);
    float* out = reinterpret_cast<float*>(p.step.out[0]);
    Step step;
    step.kernel = info(w.dtype).name;
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(input.rows) > 0)
            matmul(w, input.take(b, stream), out, row_count(input.state, input.rows, b), stream);
    };
    return step;
}

}  // namespace pillion::cuda
