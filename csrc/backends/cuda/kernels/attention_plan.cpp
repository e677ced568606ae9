// Chooses the attention kernel and divides the positions over blocks.
#include <algorithm>

#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kv_layout.h"

namespace pillion::cuda {
namespace {

constexpr int kDims[] = {64, 80, 96, 128, 256, 512};
constexpr int kDimMax = 1024, kGridMax = 65535;

bool has_instance(int d) {
    return std::find(std::begin(kDims), std::end(kDims), d) != std::end(kDims);
}

const char* fault_of(const AttnShape& s) {
    if (s.d < 2 || s.d > kDimMax || s.d % 2)
        return "the head size is not even, or not within 2 to 1024";
    if (s.n_head_kv < 1 || s.n_head < 1 || s.n_head % s.n_head_kv)
        return "the query heads are no multiple of the KV heads";
    if (s.n_head_kv > kGridMax) return "more KV heads than a grid has rows";
    if (s.n_tokens < 1 || s.n_positions < 0) return "there are no rows";
    return nullptr;
}

// Chooses the widest tile that is not mostly empty and fits the device; else the kernel for a few
// rows, in many blocks.
void choose_tile(AttnPlan& p, const AttnShape& s, int64_t vectors, const DeviceLimits& limits) {
    for (int rows : {64, 32, 16}) {
        if (rows > 16 && vectors <= rows / 2) continue;
        const size_t shared = attn_tile_shared(s.d, rows);
        if (shared > limits.shared_optin) continue;
        p.kernel = AttnKernel::tile, p.rows = rows, p.shared_bytes = shared;
        return;
    }
    p.kernel = AttnKernel::decode, p.rows = 8, p.shared_bytes = attn_decode_shared(s.d, 8);
}

// The split size depends only on how much of a sequence the cache holds: a row must meet the same
// splits for every context length, wherever its pages lie and whatever rows are beside it.
int split_size(int span) {
    const int needed = (span + kSplitsMax - 1) / kSplitsMax;
    return std::max(kSplitMin, (needed + kSplitMin - 1) / kSplitMin * kSplitMin);
}

// Most splits that the positions of a segment touch.
int count_splits(const AttnShape& s, int split) {
    const int64_t all = (int64_t(s.n_positions) + split - 1) / split;
    if (s.window <= 0) return int(std::max<int64_t>(1, all));
    // of all rows of a segment together; they may begin and end inside a split
    const int64_t seen = int64_t(s.window) - 1 + s.longest();
    return int(std::max<int64_t>(1, std::min(all, (seen + split - 2) / split + 1)));
}

}  // namespace

AttnPlan attn_plan(const AttnShape& s, const DeviceLimits& limits) {
    AttnPlan p;
    if (const char* fault = fault_of(s)) return p.reason = fault, p;
    // of one KV head and segment
    const int gqa = s.n_head / s.n_head_kv;
    const int64_t vectors = int64_t(s.longest()) * gqa;
    const bool is_matvec = s.n_tokens <= kDecodeTokens && !s.sees_ahead;
    if (s.plain || !has_instance(s.d)) {
        p.kernel = AttnKernel::plain, p.rows = 1, p.shared_bytes = attn_plain_shared(s.d);
    } else if (is_matvec) {
        p.kernel = AttnKernel::decode;
        p.rows = vectors <= 1 ? 1 : vectors <= 2 ? 2 : vectors <= 4 ? 4 : 8;
        p.shared_bytes = attn_decode_shared(s.d, p.rows);
    } else {
        choose_tile(p, s, vectors, limits);
    }
    const int64_t blocks = attn_blocks(int64_t(s.n_tokens) * gqa, p.rows, s.n_segments);
    if (p.shared_bytes > limits.shared_optin || blocks > kGridMax) {
        AttnPlan none;
        none.reason = p.shared_bytes > limits.shared_optin
                          ? "the device has too little shared memory"
                          : "more blocks than a grid has rows";
        return none;
    }
    if (is_matvec) {
        p.split = split_size(s.span);
        p.n_split = count_splits(s, p.split);
        if (p.n_split > 1)
            p.scratch_floats =
                size_t(s.n_tokens) * size_t(s.n_head) * size_t(p.n_split) * size_t(s.d + 2);
    }
    return p;
}

void attn_run(const AttnPlan& plan, const AttnArgs& a, RunRows rows, stream_t stream) {
    const KvPlanes planes = kv_planes(a.spec.one_page());
    AttnCall c = {};
    c.q = a.q, c.out = a.out, c.rows = rows;
    c.k = a.store + planes.k, c.v = a.store + planes.v, c.k_scale = a.store + planes.k_scale,
    c.v_scale = a.store + planes.v_scale;
    c.pages = a.pages;
    c.d = a.spec.head_dim, c.n_head = a.n_head, c.n_head_kv = a.spec.n_kv_heads;
    c.split = plan.split, c.n_split = plan.n_split;
    c.window = a.window, c.past_only = a.past_only, c.scale = a.scale, c.softcap = a.softcap;
    c.until = a.until;
    if (plan.n_split > 1) {
        c.part = a.scratch;
        c.meta =
            a.scratch + size_t(rows.bound) * size_t(a.n_head) * size_t(plan.n_split) * size_t(c.d);
    }
    switch (plan.kernel) {
        case AttnKernel::decode: attn_decode(plan, a.spec.type, c, stream); break;
        case AttnKernel::tile: attn_tile(plan, a.spec.type, c, stream); break;
        case AttnKernel::plain: attn_plain(plan, a.spec.type, c, stream); break;
        case AttnKernel::none: return stream->fail(Status::internal, "attention", plan.reason);
    }
    if (plan.n_split > 1) attn_combine(c, stream);
}

bool attn_probe(const AttnPlan& plan, const AttnShape& s) {
    switch (plan.kernel) {
        case AttnKernel::decode: return attn_decode_probe(plan, s.kv, s.d);
        case AttnKernel::tile: return attn_tile_probe(plan, s.kv, s.d);
        default: return true;
    }
}

}  // namespace pillion::cuda
