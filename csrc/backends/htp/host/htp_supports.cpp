// What the DSP's kernels take, asked before a plan is compiled, in sentences that name the layer,
// the value and what would do. The DSP checks all of it again on the records it is given.
#include "backends/htp/host/htp_plan.h"
#include "backends/htp/wire/htp_sizes.h"
#include "core/expand.h"

namespace pillion::htp {
namespace {

constexpr int kHeadDimMax = 1024;
constexpr int64_t kWidthMax = 1 << 24;

bool has_kernel(Op op) {
    switch (op) {
#define HTP_KERNEL(name) case Op::name:
#include "backends/htp/wire/htp_kernels.def"
#undef HTP_KERNEL
        return true;
        default: return false;
    }
}

Result<void> check_weight(const Graph& graph, const Node& n, Value v) {
    const Tensor& t = graph.value(v).tensor;
    if (!is_weight_type(t.dtype))
        return Failure(Status::unsupported_op,
                       "layer %d: op %s with %s weights, device htp supports %s", n.layer,
                       info(n.op).name, info(t.dtype).name, kWeightTypes);
    if (t.width < 1 || t.width > kWidthMax || t.rows < 1 || t.rows > INT32_MAX)
        return Failure(
            Status::unsupported_op,
            "layer %d: op %s on a weight of %ld x %ld, device htp supports widths up to %ld",
            n.layer, info(n.op).name, long(t.rows), long(t.width), long(kWidthMax));
    return ok();
}

Result<void> check_attend(const Node& n) {
    const AttendParams& p = n.params.attend;
    if (p.head_dim < 2 || p.head_dim > kHeadDimMax || p.head_dim % 2)
        return Failure(Status::unsupported_op,
                       "layer %d: head size %d, device htp supports even sizes from 2 to %d",
                       n.layer, p.head_dim, kHeadDimMax);
    if (p.n_kv_heads < 1 || p.n_heads < 1 || p.n_heads % p.n_kv_heads)
        return Failure(Status::unsupported_op,
                       "layer %d: %d query heads and %d KV heads, device htp supports multiples",
                       n.layer, p.n_heads, p.n_kv_heads);
    return ok();
}

}  // namespace

bool is_weight_type(DType dtype) { return htp_group_inputs(uint32_t(expanded(dtype))) != 0; }

Result<void> htp_supports(const Graph& graph, const Node& n) {
    if (!has_kernel(n.op))
        return Failure(Status::unsupported_op, "layer %d: device htp has no kernel for op %s",
                       n.layer, info(n.op).name);
    if (graph.rows_max(n.rows) > HTP_ROWS_MAX)
        return Failure(Status::unsupported_op,
                       "%d rows in a run, device htp supports %d: take a smaller n_batch",
                       graph.rows_max(n.rows), HTP_ROWS_MAX);
    switch (n.op) {
        case Op::embed:
        case Op::per_layer_embed:
        case Op::matmul:
        case Op::moe_matmul: return check_weight(graph, n, n.in[0]);
        case Op::centroid_head: return check_weight(graph, n, n.in[2]);
        case Op::attend: return check_attend(n);
        default: return ok();
    }
}

}  // namespace pillion::htp
