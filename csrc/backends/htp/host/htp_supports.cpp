// What the DSP's kernels take, asked before a plan is compiled, in sentences that name the layer,
// the value and what would do. The DSP checks all of it again on the records it is given.
#include "backends/htp/host/htp_plan.h"
#include "backends/htp/wire/htp_sizes.h"
#include "core/expand.h"

namespace pillion::htp {
namespace {

constexpr int kHeadDimMax = 1024;
constexpr int64_t kWidthMax = 1 << 24;
constexpr int kSpanMax = 1 << 30;  // positions that a sequence's table names

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

Result<void> check_table(const Graph& graph, const Node& n) {
    const KvSpec& s = graph.value(n.in[0]).kv.spec;
    const KvTable& t = graph.value(n.in[0]).kv.table;
    if (t.buffer->kind() != BufferKind::state || !t.buffer->host() || t.offset % 4)
        return Failure(
            Status::unsupported_op,
            "layer %d: a page table in a buffer of kind %s at byte %zu, device htp reads "
            "tables in `state` buffers at multiples of 4",
            n.layer, kind_name(t.buffer->kind()), t.offset);
    if (t.entries < 1 || t.entries > kSpanMax / s.page_slots() || t.stride < t.entries)
        return Failure(Status::unsupported_op,
                       "layer %d: a page table of %d entries, %d apart, for pages of %d slots, "
                       "device htp supports 1 to %d entries side by side",
                       n.layer, t.entries, t.stride, s.page_slots(), kSpanMax / s.page_slots());
    if (sequences(t) < 1)
        return Failure(Status::unsupported_op,
                       "layer %d: %d entries of a page table from byte %zu of a buffer of %zu",
                       n.layer, t.entries, t.offset, t.buffer->size());
    return ok();
}

// One page is a cache of its own; more are found by a table.
Result<void> check_cache(const Graph& graph, const Node& n) {
    const KvStore& store = graph.value(n.in[0]).kv;
    const KvSpec& s = store.spec;
    if (s.page_slots() < 1 || s.page_slots() % kKvCapacityUnit || s.capacity % s.page_slots())
        return Failure(Status::unsupported_op,
                       "layer %d: a cache of %d slots in pages of %d, device htp supports pages of "
                       "a multiple of %d slots that divide it",
                       n.layer, s.capacity, s.page_slots(), kKvCapacityUnit);
    if (store.table.buffer) return check_table(graph, n);
    if (s.n_pages() == 1) return ok();
    return Failure(Status::unsupported_op,
                   "layer %d: a cache of %d pages without a page table, device htp needs one",
                   n.layer, s.n_pages());
}

}  // namespace

int64_t sequences(const KvTable& t) {
    const int64_t all = int64_t(t.buffer->size() / 4) - int64_t(t.offset / 4);
    return all < t.entries ? 0 : (all - t.entries) / t.stride + 1;
}

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
        case Op::glu:
            if (!is_of_encoders(n)) return ok();
            return Failure(Status::unsupported_op,
                           "layer %d: device htp has no kernel for op glu of a sigmoid, or without "
                           "up",
                           n.layer);
        case Op::kv_store: return check_cache(graph, n);
        case Op::attend: {
            const Result<void> cache = check_cache(graph, n);
            return cache ? check_attend(n) : cache;
        }
        default: return ok();
    }
}

}  // namespace pillion::htp
