// The input of matrix products.
#pragma once
#include <algorithm>
#include <vector>

#include "backends/cuda/cuda_steps.h"

namespace pillion::cuda {

// The input of a product, in the form that this weight's kernel wants at so many rows; made unless
// an earlier weight of the group made it. Outlives the graph: steps hold copies.
struct PreparedInput {
    const StepState* state;
    Rows rows;
    const float* x;
    int64_t width;
    int per_row;
    DType dtype;
    std::vector<DType> earlier;
    uint8_t* prepared[4];

    PreparedInput(const ProductArgs& p, const PackedWeight& w, int n)
        : state(p.step.state), rows(p.step.node.rows),
          x(reinterpret_cast<const float*>(p.step.in[1])), width(w.width), per_row(n),
          dtype(w.dtype), earlier(p.earlier) {
        std::copy(p.prepared, p.prepared + 4, prepared);
    }
    MatmulInput take(const Bounds& b, stream_t stream) const {
        const int bound = b.count(rows);
        const InputKind kind = input_kind(dtype, bound);
        const MatmulInput input = {kind, bound * per_row, width, x, prepared[int(kind)]};
        for (const DType before : earlier)
            if (input_kind(before, bound) == kind) return input;
        prepare_input(input, row_count(state, rows, b, per_row), stream);
        return input;
    }
};

}  // namespace pillion::cuda
