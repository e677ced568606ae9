// Choice of the attention kernel. One function answers both "is there a kernel?" and "which
// one?", so the answers cannot disagree.
#include "backends/cuda/kernels/kernels.h"

#include <algorithm>

namespace pillion::cuda {

AttnPlan attn_plan(const AttnShape & s, const DeviceLimits & limits) {
    AttnPlan none;
    const int dims[] = {64, 80, 96, 128, 256, 512};
    if (std::find(std::begin(dims), std::end(dims), s.d) == std::end(dims)) { none.reason = "head dimension"; return none; }
    if (s.n_head_kv <= 0 || s.n_head <= 0 || s.n_head % s.n_head_kv != 0)   { none.reason = "head counts";    return none; }
    if (s.n_tokens <= 0 || s.n_kv < 0)                                     { none.reason = "empty";          return none; }

    const int rows = s.n_tokens * (s.n_head / s.n_head_kv);     // query rows of one KV head
    AttnPlan p;
    if (rows <= 8) {
        p.kernel = AttnKernel::decode;
        p.rows = rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
        p.shared_bytes = attn_decode_shared(s.d, p.rows);
    } else {
        // The widest tile that is not mostly empty and fits the device.
        for (int r : {64, 32, 16}) {
            if (r > 16 && rows <= r / 2) continue;
            if (attn_tile_shared(s.d, r) > limits.shared_optin) continue;
            p.kernel = AttnKernel::tile;
            p.rows = r;
            p.shared_bytes = attn_tile_shared(s.d, r);
            break;
        }
        if (p.kernel == AttnKernel::none) {                     // small shared memory: rows in chunks
            p.kernel = AttnKernel::decode;
            p.rows = 8;
            p.shared_bytes = attn_decode_shared(s.d, 8);
        }
    }
    if (p.shared_bytes > limits.shared_optin) { none.reason = "shared memory"; return none; }

    // Enough blocks to fill the device twice, each with at least 128 cells of work.
    const long long blocks = 1ll * s.n_head_kv * ((rows + p.rows - 1) / p.rows);
    if ((rows + p.rows - 1) / p.rows > 65535 || s.n_head_kv > 65535) { none.reason = "grid"; return none; }
    const long long wanted = (2ll * limits.sm_count + blocks - 1) / blocks;
    p.n_split = int(std::max(1ll, std::min({wanted, (s.n_kv + 127ll) / 128, 64ll})));
    if (p.n_split > 1) p.scratch_floats = size_t(s.n_tokens) * s.n_head * p.n_split * (s.d + 2);
    return p;
}

void attn_run(const AttnShape & s, const AttnPlan & plan, AttnArgs a, float * scratch, stream_t stream) {
    a.n_tokens  = s.n_tokens;
    a.n_head    = s.n_head;
    a.n_head_kv = s.n_head_kv;
    a.n_kv      = s.n_kv;
    a.n_split   = plan.n_split;
    if (plan.n_split > 1) {
        a.part = scratch;
        a.meta = reinterpret_cast<float2 *>(scratch + size_t(s.n_tokens) * s.n_head * plan.n_split * s.d);
    }
    switch (plan.kernel) {
        case AttnKernel::decode: attn_decode(s, plan, a, stream); break;
        case AttnKernel::tile:   attn_tile(s, plan, a, stream);   break;
        case AttnKernel::none:   throw std::logic_error("attn_run: no kernel for this shape");
    }
    if (plan.n_split > 1) attn_combine(s, a, stream);
}

}  // namespace pillion::cuda
