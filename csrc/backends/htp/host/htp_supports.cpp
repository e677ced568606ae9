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

bool weight_ok(const Graph& graph, const Node& n, Value v, Reason& reason) {
    const Tensor& t = graph.value(v).tensor;
    if (!is_weight_type(t.dtype)) {
        reason.set("layer %d: op %s with %s weights, device htp supports %s", n.layer,
                   info(n.op).name, info(t.dtype).name, kWeightTypes);
        return false;
    }
    if (t.width < 1 || t.width > kWidthMax || t.rows < 1 || t.rows > INT32_MAX) {
        reason.set("layer %d: op %s on a weight of %ld x %ld, device htp supports widths up to %ld",
                   n.layer, info(n.op).name, long(t.rows), long(t.width), long(kWidthMax));
        return false;
    }
    return true;
}

bool attend_ok(const Node& n, Reason& reason) {
    const AttendParams& p = n.params.attend;
    if (p.head_dim < 2 || p.head_dim > kHeadDimMax || p.head_dim % 2) {
        reason.set("layer %d: head size %d, device htp supports even sizes from 2 to %d", n.layer,
                   p.head_dim, kHeadDimMax);
        return false;
    }
    if (p.n_kv_heads < 1 || p.n_heads < 1 || p.n_heads % p.n_kv_heads) {
        reason.set("layer %d: %d query heads and %d KV heads, device htp supports multiples",
                   n.layer, p.n_heads, p.n_kv_heads);
        return false;
    }
    return true;
}

}  // namespace

bool is_weight_type(DType dtype) { return htp_group_inputs(uint32_t(expanded(dtype))) != 0; }

bool htp_supports(const Graph& graph, const Node& n, Reason& reason) {
    if (!has_kernel(n.op)) {
        reason.set("layer %d: device htp has no kernel for op %s", n.layer, info(n.op).name);
        return false;
    }
    if (graph.rows_max(n.rows) > HTP_ROWS_MAX) {
        reason.set("%d rows in a run, device htp supports %d: take a smaller n_batch",
                   graph.rows_max(n.rows), HTP_ROWS_MAX);
        return false;
    }
    switch (n.op) {
        case Op::embed:
        case Op::per_layer_embed:
        case Op::matmul:
        case Op::moe_matmul: return weight_ok(graph, n, n.in[0], reason);
        case Op::centroid_head: return weight_ok(graph, n, n.in[2], reason);
        case Op::attend: return attend_ok(n, reason);
        default: return true;
    }
}

}  // namespace pillion::htp
