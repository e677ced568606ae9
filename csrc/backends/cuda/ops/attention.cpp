// Attention over the cache.
#include <algorithm>

#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {
namespace {

const char* attend_name(AttnKernel kernel, KvType type) {
    const bool q8 = type == KvType::q8_0;
    switch (kernel) {
        case AttnKernel::decode: return q8 ? "flash_attend_q8_0" : "flash_attend_f16";
        case AttnKernel::plain: return q8 ? "plain_attend_q8_0" : "plain_attend_f16";
        default: return "none";
    }
}

}  // namespace

AttnShape attn_shape(const AttendParams& p, const KvSpec& spec, int rows, int positions,
                     bool plain) {
    // Without a window the cache holds all positions there are; with one it may be a ring.
    const int last = p.window > 0 ? positions : std::min(positions, spec.capacity);
    return {p.head_dim, p.n_heads,     p.n_kv_heads, rows, last,
            p.window,   spec.capacity, spec.type,    plain};
}

Step make_attend_step(const StepArgs& a) {
    const AttendParams p = a.node.params.attend;
    const KvSpec spec = a.graph.value(a.node.in[0]).kv.spec;
    const AttnArgs args = {
        floats(a.in[1]), floats(a.out[0]), a.in[0],     floats(a.scratch), spec,
        p.n_heads,       p.window,         p.past_only, p.scale,           p.softcap};
    const Rows kind = a.node.rows;
    const StepState* state = a.state;
    const DeviceLimits limits = a.limits;
    const bool plain = a.plain_attention;
    Step step;
    step.kernel =
        attend_name(attn_plan(attn_shape(p, spec, 1, 1, plain), limits).kernel, spec.type);
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        const int rows = b.count(kind);
        if (rows == 0) return;
        attn_run(attn_plan(attn_shape(p, spec, rows, b.positions, plain), limits), args,
                 run_rows(state, kind, b), stream);
    };
    return step;
}

}  // namespace pillion::cuda
