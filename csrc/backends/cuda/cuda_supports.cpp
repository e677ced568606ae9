// What the kernels can do: asked of the same functions that choose them.
#include "backends/cuda/cuda_plan.h"
#include "backends/cuda/cuda_steps.h"

namespace pillion::cuda {
namespace {

constexpr int kMoeUsedMax = 64, kGridMax = 65535;

Result<void> check_attend(const Graph& graph, const Node& n, const DeviceInfo& device,
                          AttendKernels kernels) {
    const bool plain = kernels == AttendKernels::plain;
    const AttendParams& p = n.params.attend;
    const KvStore& store = graph.value(n.in[0]).kv;
    const int rows_max = graph.rows_max(n.rows);
    // Every kernel that runs of up to this many rows may take.
    for (const int rows : {1, 2, 4, 8, kDecodeTokens, kDecodeTokens + 1, 32, 64, rows_max}) {
        if (rows > rows_max) continue;
        const AttnShape shape = attn_shape(p, store, rows, plain, n.in[2] != kNone);
        const AttnPlan plan = attn_plan(shape, device.limits);
        if (plan.kernel == AttnKernel::none)
            return Failure(Status::unsupported_op,
                           "layer %d: head size %d, %d query heads and %d KV heads, backend cuda: "
                           "%s",
                           n.layer, p.head_dim, p.n_heads, p.n_kv_heads, plan.reason);
        if (!plain && plan.kernel == AttnKernel::plain)
            return Failure(Status::unsupported_op,
                           "layer %d: head size %d has no flash attention kernel in backend cuda",
                           n.layer, p.head_dim);
        if (!attn_probe(plan, shape))
            return Failure(
                Status::unsupported_op,
                "layer %d: %s does not run the attention kernel for head size %d and %d rows "
                "(compute capability %d.%d)",
                n.layer, device.name, p.head_dim, rows, device.major, device.minor);
    }
    return ok();
}

Result<void> check_cache(const Node& n, const KvStore& store) {
    if (store.table.buffer || store.spec.n_pages() == 1) return ok();
    return Failure(Status::unsupported_op,
                   "layer %d: a cache of %d pages without a table that says whose they are, "
                   "backend cuda has no kernel for it",
                   n.layer, store.spec.n_pages());
}

}  // namespace

Result<AttendKernels> choose_attend(const Graph& graph, const Node& n, const DeviceInfo& device,
                                    Flash flash) {
    if (flash != Flash::off) {
        const Result<void> tiled = check_attend(graph, n, device, AttendKernels::tiled);
        if (tiled) return AttendKernels::tiled;
        if (flash == Flash::on)
            return Failure(Status::unsupported_op, "%s, and flash_attn is on",
                           tiled.failure().sentence());
    }
    const Result<void> plain = check_attend(graph, n, device, AttendKernels::plain);
    if (!plain) return plain.failure();
    return AttendKernels::plain;
}

Result<void> cuda_supports(const Graph& graph, const Node& n, const DeviceInfo& device) {
    if (!has_kernel(n.op))
        return Failure(Status::unsupported_op, "layer %d: backend cuda has no kernel for op %s",
                       n.layer, info(n.op).name);
    if (n.op == Op::attend || n.op == Op::kv_store)
        if (const Result<void> cache = check_cache(n, graph.value(n.in[0]).kv); !cache)
            return cache.failure();
    if (n.op == Op::glu && is_of_encoders(n))
        return Failure(
            Status::unsupported_op,
            "layer %d: backend cuda has no kernel for op glu of a sigmoid, or without up", n.layer);
    if (n.op == Op::attend) {
        const Result<AttendKernels> kernels = choose_attend(graph, n, device, Flash::automatic);
        return kernels ? ok() : kernels.failure();
    }
    const int64_t rows =
        int64_t(graph.rows_max(n.rows)) * (n.op == Op::moe_matmul ? n.params.moe.per_row : 1);
    if ((n.op == Op::matmul || n.op == Op::moe_matmul) && rows > kGridMax)
        return Failure(
            Status::unsupported_op,
            "layer %d: a product of %lld rows, backend cuda runs at most %d at a time (n_batch)",
            n.layer, (long long)(rows), kGridMax);
    if (n.op == Op::moe_route || n.op == Op::moe_matmul) {
        const MoeParams& p = n.params.moe;
        if (p.n_experts > kExpertsMax || p.n_used > kMoeUsedMax)
            return Failure(Status::unsupported_op,
                           "layer %d: %d experts of which %d run, backend cuda supports %d and %d",
                           n.layer, p.n_experts, p.n_used, kExpertsMax, kMoeUsedMax);
    }
    if (n.op == Op::centroid_head && n.params.centroid_head.n_centroids > 10240)
        return Failure(Status::unsupported_op,
                       "a centroid head of %d clusters, backend cuda supports 10240",
                       n.params.centroid_head.n_centroids);
    return ok();
}

}  // namespace pillion::cuda
