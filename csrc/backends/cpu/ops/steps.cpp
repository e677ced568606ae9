// Finds the steps of an op in the files of this folder.
#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {
namespace {

using AddSteps = void (*)(StepList& steps, const StepArgs& args);

template <std::unique_ptr<CpuStep> (*make)(const StepArgs&)>
void add_step(StepList& steps, const StepArgs& args) {
    std::unique_ptr<CpuStep> step = make(args);
    PILLION_CHECK(step != nullptr);
    steps.push_back(std::move(step));
}

// Null: the op has no kernel, or is matmul or linear, whose steps serve several nodes
// (cpu_plan.cpp).
AddSteps steps_of(Op op) {
    switch (op) {
        case Op::embed:
        case Op::per_layer_embed: return add_step<make_embed_step>;
        case Op::rope_table:
        case Op::rope_grid:
        case Op::qkv_norm_rope: return add_step<make_rope_step>;
        case Op::norm:
        case Op::norm_add:
        case Op::layer_norm: return add_step<make_norm_step>;
        case Op::scale:
        case Op::add:
        case Op::glu:
        case Op::gather_rows:
        case Op::pool_rows:
        case Op::concat: return add_step<make_elementwise_step>;
        case Op::kv_store: return add_step<make_kv_store_step>;
        case Op::attend: return add_attend_steps;
        case Op::attend_all: return add_attend_all_steps;
        case Op::attend_local:
        case Op::conv_causal: return add_step<make_sound_step>;
        case Op::subsample: return add_subsample_steps;
        case Op::moe_route:
        case Op::moe_sum: return add_step<make_moe_step>;
        case Op::moe_matmul: return add_moe_matmul_steps;
        case Op::softcap:
        case Op::argmax: return add_step<make_head_step>;
        case Op::centroid_head: return add_centroid_head_steps;
        default: return nullptr;
    }
}

}  // namespace

bool has_kernel(Op op) { return op == Op::matmul || op == Op::linear || steps_of(op) != nullptr; }

void add_node_steps(StepList& steps, const StepArgs& args) {
    const AddSteps add = steps_of(args.node.op);
    if (!add) fail(Status::unsupported_op, "op %s has no cpu kernel", info(args.node.op).name);
    add(steps, args);
}

size_t node_scratch(const Graph& graph, const Node& n, int n_threads) {
    const int rows = graph.rows_max(n.rows);
    const auto packed = [&](int k) { return packed_matrix(graph.value(n.in[k]).tensor); };
    switch (n.op) {
        case Op::attend:
            return attend_layout(n.params.attend, graph.value(n.in[0]).kv, rows, n_threads).bytes;
        case Op::attend_all: return attend_all_bytes(n.params.attend_all, rows, n_threads);
        case Op::centroid_head:
            return centroid_scratch(packed(2), n.params.centroid_head, rows, n_threads).bytes;
        case Op::moe_matmul: return moe_scratch(packed(0), n.params.moe, rows).bytes;
        case Op::subsample:
            return subsample_scratch(n.params.subsample, graph.value(n.in[0]).width, n_threads)
                .bytes;
        case Op::per_layer_embed:
            return size_t(n.params.per_layer_embed.width) * 4 * size_t(n_threads);
        default: return 0;
    }
}

}  // namespace pillion::cpu
