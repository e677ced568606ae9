// Steps around matrix products: which form of its input each wants, and who makes it.
#include <stddef.h>

#include <algorithm>

#include "backends/cuda/cuda_steps.h"
#include "backends/cuda/kernels/ops.h"

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

namespace {

// The input of a product, in the form that this weight's kernel wants at so many rows; made unless
// an earlier weight of the group made it. Outlives the graph: steps hold copies.
struct Input {
    const StepState* state;
    Rows rows;
    const float* x;
    int64_t width;
    int per_row;
    DType dtype;
    std::vector<DType> earlier;
    uint8_t* prepared[4];

    Input(const ProductArgs& p, const PackedWeight& w, int n)
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

}  // namespace

Step make_matmul_step(const ProductArgs& p) {
    const PackedWeight w =
        packed_weight(p.step.graph.value(p.step.node.in[0]).tensor, p.step.in[0]);
    const Input input(p, w, /*n=*/1);
    float* out = reinterpret_cast<float*>(p.step.out[0]);
    Step step;
    step.kernel = info(w.dtype).name;
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(input.rows) > 0)
            matmul(w, input.take(b, stream), out, row_count(input.state, input.rows, b), stream);
    };
    return step;
}

Step make_moe_matmul_step(const ProductArgs& p) {
    const PackedWeight w =
        packed_weight(p.step.graph.value(p.step.node.in[0]).tensor, p.step.in[0]);
    const MoeShape shape = moe_shape(p.step.node.params.moe);
    const Input input(p, w, shape.per_row);
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

CentroidLayout centroid_scratch(const CentroidHeadParams& p, const Tensor& table, int rows_max) {
    CentroidLayout l = {};
    l.prepared = (size_t(rows_max) * size_t(p.n_active) * 4 + 255) / 256 * 256;
    l.bytes = l.prepared + input_bytes(input_kind(table.dtype, kMatvecRows), rows_max, table.width);
    return l;
}

Step make_centroid_step(const StepArgs& a) {
    const Tensor table = a.graph.value(a.node.in[2]).tensor;
    const CentroidHeadParams p = a.node.params.centroid_head;
    const CentroidLayout layout = centroid_scratch(p, table, a.graph.rows_max(a.node.rows));
    const PackedWeight w = packed_weight(table, a.in[2]);
    const Rows rows = a.node.rows;
    const StepState* state = a.state;
    const auto* scores = reinterpret_cast<const float*>(a.in[0]);
    const auto* x = reinterpret_cast<const float*>(a.in[1]);
    const auto* order = reinterpret_cast<const int32_t*>(a.in[3]);
    auto* logits = reinterpret_cast<float*>(a.out[0]);
    auto* ids = reinterpret_cast<int32_t*>(a.out[1]);
    auto* clusters = reinterpret_cast<int32_t*>(a.scratch + layout.clusters);
    uint8_t* prepared = a.scratch + layout.prepared;
    const int cluster_rows = int(table.rows / p.n_centroids);
    Step step;
    step.kernel = "centroid_head";
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        const int bound = b.count(rows);
        if (bound == 0) return;
        choose_clusters(p, scores, order, cluster_rows, clusters, ids, run_rows(state, rows, b),
                        stream);
        const MatmulInput input = {input_kind(w.dtype, kMatvecRows), bound, w.width, x, prepared};
        prepare_input(input, row_count(state, rows, b), stream);
        cluster_matmul(w, clusters, p.n_active, cluster_rows, input, logits,
                       row_count(state, rows, b), stream);
    };
    return step;
}

Step make_unpack_step(const StepArgs& a, float scale) {
    const PackedWeight w = packed_weight(a.graph.value(a.node.in[0]).tensor, a.in[0]);
    const auto* tokens = reinterpret_cast<const int32_t*>(a.in[1]);
    float* out = reinterpret_cast<float*>(a.out[0]);
    const Rows rows = a.node.rows;
    const StepState* state = a.state;
    Step step;
    step.kernel = "unpack_rows";
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(rows) > 0)
            unpack_rows(w, tokens, scale, out, row_count(state, rows, b), stream);
    };
    return step;
}

}  // namespace pillion::cuda
