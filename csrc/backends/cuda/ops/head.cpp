// Logits and what follows them: soft-cap, argmax, the centroid head.
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {
namespace {

Step argmax_step(const StepArgs& a) {
    ArgmaxArgs p = {floats(a.in[0]), ints(a.in[1]),    0,
                    ints(a.out[0]),  floats(a.out[1]), width_of(a, a.node.in[0])};
    if (a.in[1] && a.graph.value(a.node.in[1]).rows != Rows::fixed) p.ids_stride = p.width;
    return step_of(a, "argmax", [=](RunRows rows, stream_t stream) { argmax(p, rows, stream); });
}

Step softcap_step(const StepArgs& a) {
    const int n = width_of(a, a.node.in[0]);
    return step_of(a, "softcap",
                   [=, x = floats(a.in[0]), cap = a.node.params.softcap.cap](
                       RunRows rows, stream_t stream) { softcap(x, cap, n, rows, stream); });
}

Step centroid_step(const StepArgs& a) {
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

}  // namespace

CentroidLayout centroid_scratch(const CentroidHeadParams& p, const Tensor& table, int rows_max) {
    CentroidLayout l = {};
    l.prepared = (size_t(rows_max) * size_t(p.n_active) * 4 + 255) / 256 * 256;
    l.bytes = l.prepared + input_bytes(input_kind(table.dtype, kMatvecRows), rows_max, table.width);
    return l;
}

Step make_head_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::argmax: return argmax_step(a);
        case Op::softcap: return softcap_step(a);
        default: return centroid_step(a);
    }
}

}  // namespace pillion::cuda
