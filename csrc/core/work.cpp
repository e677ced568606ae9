#include "core/work.h"

#include <math.h>

#include <algorithm>

namespace pillion {
namespace {

double matrix_bytes(const Tensor& t) {
    return double(row_bytes(t.dtype, t.width)) * double(t.rows);
}

// Bytes of one position of one layer: its keys and values.
double position_bytes(const KvSpec& s) {
    const double values = 2.0 * s.n_kv_heads * s.head_dim;
    return s.type == KvType::q8_0 ? values * 34 / 32 : values * 2;
}

}  // namespace

Work work_of(const Graph& graph, int rows, int out_rows, int pos) {
    Work w;
    for (const Node& n : graph.nodes()) {
        const int count = n.rows == Rows::out ? out_rows : rows;
        if (count == 0) continue;
        if (n.op == Op::matmul) {
            const Tensor& t = graph.value(n.in[0]).tensor;
            w.multiply_adds += double(count) * double(t.width) * double(t.rows);
            w.weight_bytes += matrix_bytes(t);
        } else if (n.op == Op::moe_matmul) {
            const Tensor& t = graph.value(n.in[0]).tensor;
            const MoeParams& p = n.params.moe;
            w.multiply_adds += double(count) * p.n_used * double(t.width) * double(t.rows);
            w.weight_bytes += matrix_bytes(t) * p.n_experts *
                              (1 - pow(1 - double(p.n_used) / p.n_experts, count));
        } else if (n.op == Op::centroid_head) {
            const Tensor& t = graph.value(n.in[2]).tensor;
            const double share =
                double(n.params.centroid_head.n_active) / n.params.centroid_head.n_centroids;
            w.multiply_adds += double(count) * double(t.width) * double(t.rows) * share;
            w.weight_bytes += matrix_bytes(t) * share;
        } else if (n.op == Op::attend) {
            const AttendParams& p = n.params.attend;
            // The rows of a run look at about the same positions, so the run reads each position
            // once.
            const int length = pos + rows;
            w.kv_bytes += position_bytes(graph.value(n.in[0]).kv.spec) *
                          (p.window > 0 ? std::min(length, p.window + rows) : length);
        }
    }
    return w;
}

}  // namespace pillion
