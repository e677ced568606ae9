// Attention over the cache.
#include <algorithm>

#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {
namespace {

const char* attend_name(AttnKernel kernel, KvType type) {
    const bool q8 = type == KvType::q8_0;
    switch (kernel) {
        case AttnKernel::decode:
        case AttnKernel::tile: return q8 ? "flash_attend_q8_0" : "flash_attend_f16";
        case AttnKernel::plain: return q8 ? "plain_attend_q8_0" : "plain_attend_f16";
        default: return "none";
    }
}

}  // namespace

AttnShape attn_shape(const AttendParams& p, const KvStore& store, Rows kind, const Bounds& b,
                     bool plain, bool sees_ahead) {
    // Without a window the cache holds all positions there are; with one it may be a ring.
    const int rows = b.count(kind), span = store.span(),
              last = p.window > 0 ? b.positions : std::min(b.positions, span);
    return {p.head_dim,
            p.n_heads,
            p.n_kv_heads,
            rows,
            last,
            p.window,
            span,
            store.spec.type,
            plain,
            b.segments,
            std::min(b.longest, rows),
            sees_ahead};
}

AttnShape attn_shape(const AttendParams& p, const KvStore& store, int rows, bool plain,
                     bool sees_ahead) {
    const int segments = store.table.buffer ? std::min(rows, int(PILLION_SEGMENTS_MAX)) : 1;
    return attn_shape(p, store, Rows::run, {rows, rows, /*positions=*/1 << 30, segments, rows},
                      plain, sees_ahead);
}

Step make_attend_step(const StepArgs& a) {
    const AttendParams p = a.node.params.attend;
    const KvStore store = a.graph.value(a.node.in[0]).kv;
    const AttnArgs args = {floats(a.in[1]), floats(a.out[0]), a.in[0],   floats(a.scratch),
                           store.spec,      a.pages,          p.n_heads, p.window,
                           p.past_only,     p.scale,          p.softcap, ints(a.in[2])};
    const Rows kind = a.node.rows;
    const StepState* state = a.state;
    const DeviceLimits limits = a.limits;
    const bool plain = a.plain_attention, sees_ahead = a.node.in[2] != kNone;
    Step step;
    step.kernel = attend_name(attn_plan(attn_shape(p, store, 1, plain, sees_ahead), limits).kernel,
                              store.spec.type);
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(kind) == 0) return;
        attn_run(attn_plan(attn_shape(p, store, kind, b, plain, sees_ahead), limits), args,
                 run_rows(state, kind, b), stream);
    };
    return step;
}

}  // namespace pillion::cuda
