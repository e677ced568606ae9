// Finds the steps of an op in the files of this folder.
#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {
namespace {

// The file that knows the op makes its step; the others answer null.
std::unique_ptr<CpuStep> make_row_step(const StepArgs& a) {
    for (const auto make : {make_embed_step, make_rope_step, make_norm_step, make_elementwise_step,
                            make_kv_store_step, make_moe_step, make_head_step})
        if (auto step = make(a)) return step;
    return nullptr;
}

}  // namespace

bool add_node_steps(StepList& steps, const StepArgs& a) {
    switch (a.node.op) {
        case Op::attend: add_attend_steps(steps, a); return true;
        case Op::moe_matmul: add_moe_matmul_steps(steps, a); return true;
        case Op::centroid_head: add_centroid_head_steps(steps, a); return true;
        default: break;
    }
    std::unique_ptr<CpuStep> step = make_row_step(a);
    if (!step) return false;
    steps.push_back(std::move(step));
    return true;
}

size_t node_scratch(const Graph& graph, const Node& n, int n_threads) {
    const int rows = graph.rows_max(n.rows);
    const auto packed = [&](int k) { return packed_matrix(graph.value(n.in[k]).tensor); };
    switch (n.op) {
        case Op::attend:
            return attend_layout(n.params.attend, graph.value(n.in[0]).kv.spec, rows, n_threads)
                .bytes;
        case Op::centroid_head:
            return centroid_scratch(packed(2), n.params.centroid_head, rows, n_threads).bytes;
        case Op::moe_matmul: return moe_scratch(packed(0), n.params.moe, rows).bytes;
        case Op::per_layer_embed:
            return size_t(n.params.per_layer_embed.width) * 4 * size_t(n_threads);
        default: return 0;
    }
}

}  // namespace pillion::cpu
