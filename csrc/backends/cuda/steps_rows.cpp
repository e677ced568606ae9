// Steps of the ops that treat each row by itself, and of attention.
#include <algorithm>

#include "backends/cuda/cuda_steps.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

const float* floats(const uint8_t* p) { return reinterpret_cast<const float*>(p); }
float* floats(uint8_t* p) { return reinterpret_cast<float*>(p); }
int32_t* ints(uint8_t* p) { return reinterpret_cast<int32_t*>(p); }

// A step of one kernel that wants the rows of its node.
template <class F>
Step step_of(const StepArgs& a, const char* kernel, const F& f) {
    Step step;
    step.kernel = kernel;
    const Rows kind = a.node.rows;
    const StepState* state = a.state;
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(kind) > 0) f(run_rows(state, kind, b), stream);
    };
    return step;
}

int width_of(const StepArgs& a, Value v) { return int(a.graph.value(v).width); }

Step embed_step(const StepArgs& a, float scale) {
    const Tensor& t = a.graph.value(a.node.in[0]).tensor;
    if (t.layout == Layout::packed) return make_unpack_step(a, scale);
    const RowTable table = {a.in[0], t.dtype, int64_t(row_bytes(t.dtype, t.width)),
                            int32_t(t.width), int32_t(t.rows)};
    const int32_t* tokens = ints(a.in[1]);
    return step_of(a, "embed_rows", [=, out = floats(a.out[0])](RunRows rows, stream_t stream) {
        embed_rows(table, tokens, scale, out, rows, stream);
    });
}

Step per_layer_step(const StepArgs& a) {
    const PerLayerEmbedParams p = a.node.params.per_layer_embed;
    const Step take = embed_step(a, 1.0f);
    Step step = step_of(a, "per_layer_embed",
                        [=, e = floats(a.out[0]), proj = floats(a.in[2]),
                         w = floats(a.in[3])](RunRows rows, stream_t stream) {
                            per_layer_embed(p, e, proj, w, rows, stream);
                        });
    step.enqueue = [take = take.enqueue, join = step.enqueue](const Bounds& b, stream_t stream) {
        take(b, stream);
        join(b, stream);
    };
    return step;
}

Step qkv_step(const StepArgs& a) {
    QkvArgs q = {floats(a.in[0]), floats(a.in[1]), floats(a.in[2]), floats(a.in[3]),
                 floats(a.in[4]), floats(a.in[5]), false,           a.node.params.qkv};
    q.rope_is_run = a.graph.value(a.node.in[5]).rows == Rows::run;
    return step_of(a, "qkv_norm_rope",
                   [=](RunRows rows, stream_t stream) { qkv_norm_rope(q, rows, stream); });
}

Step glu_step(const StepArgs& a) {
    const GluParams p = a.node.params.glu;
    const int width_up = a.node.in[1] == kNone ? 0 : width_of(a, a.node.in[1]),
              width = width_of(a, a.node.out[0]);
    return step_of(a, "glu",
                   [=, gate = floats(a.in[0]), up = floats(a.in[1]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       glu(p, gate, up, width_up, y, width, rows, stream);
                   });
}

Step argmax_step(const StepArgs& a) {
    ArgmaxArgs p = {floats(a.in[0]), ints(a.in[1]),    0,
                    ints(a.out[0]),  floats(a.out[1]), width_of(a, a.node.in[0])};
    if (a.in[1] && a.graph.value(a.node.in[1]).rows != Rows::fixed) p.ids_stride = p.width;
    return step_of(a, "argmax", [=](RunRows rows, stream_t stream) { argmax(p, rows, stream); });
}

Step norm_step(const StepArgs& a) {
    const NormParams p = a.node.params.norm;
    const int n = width_of(a, a.node.out[0]);
    if (a.node.op == Op::norm)
        return step_of(a, "norm",
                       [=, x = floats(a.in[0]), w = floats(a.in[1]),
                        y = floats(a.out[0])](RunRows rows, stream_t stream) {
                           norm(x, w, y, n, p.eps, p.scale, rows, stream);
                       });
    return step_of(a, "norm_add",
                   [=, x = floats(a.in[0]), w = floats(a.in[1]), r = floats(a.in[2]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       norm_add(x, w, r, y, n, p.eps, p.scale, rows, stream);
                   });
}

Step moe_step(const StepArgs& a) {
    const MoeParams p = a.node.params.moe;
    if (a.node.op == Op::moe_route)
        return step_of(a, "moe_route",
                       [=, x = floats(a.in[0]), s = floats(a.in[1]), ids = ints(a.out[0]),
                        gates = floats(a.out[1])](RunRows rows, stream_t stream) {
                           moe_route(p, x, s, ids, gates, rows, stream);
                       });
    const int n = width_of(a, a.node.out[0]);
    return step_of(a, "moe_sum",
                   [=, x = floats(a.in[0]), gates = floats(a.in[1]),
                    y = floats(a.out[0])](RunRows rows, stream_t stream) {
                       moe_sum(p, x, gates, y, n, rows, stream);
                   });
}

Step simple_step(const StepArgs& a) {
    const auto *x = floats(a.in[0]), *z = floats(a.in[1]);
    float* y = floats(a.out[0]);
    const int n = width_of(a, a.node.in[0]);
    switch (a.node.op) {
        case Op::scale:
            return step_of(a, "scale",
                           [=, s = a.node.params.scale.scale](RunRows rows, stream_t stream) {
                               scale(x, s, y, n, rows, stream);
                           });
        case Op::add:
            return step_of(a, "add",
                           [=](RunRows rows, stream_t stream) { add(x, z, y, n, rows, stream); });
        case Op::gather_rows:
            return step_of(a, "gather_rows", [=](RunRows rows, stream_t stream) {
                gather_rows(x, y, n, rows, stream);
            });
        case Op::softcap:
            return step_of(a, "softcap",
                           [=, v = floats(a.in[0]),
                            cap = a.node.params.softcap.cap](RunRows rows, stream_t stream) {
                               softcap(v, cap, n, rows, stream);
                           });
        default:  // concat
            return step_of(a, "concat",
                           [=, m = width_of(a, a.node.in[1])](RunRows rows, stream_t stream) {
                               concat(x, n, z, m, y, rows, stream);
                           });
    }
}

Step kv_store_step(const StepArgs& a) {
    const KvSpec spec = a.graph.value(a.node.in[0]).kv.spec;
    const char* kernel = spec.type == KvType::q8_0 ? "kv_store_q8_0" : "kv_store_f16";
    return step_of(a, kernel,
                   [=, store = a.in[0], k = floats(a.in[1]), v = floats(a.in[2])](RunRows rows,
                                                                                  stream_t stream) {
                       kv_store(spec, store, k, v, rows, stream);
                   });
}

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

Step make_rope_step(const StepArgs& a, const float* frequencies) {
    const int half = a.node.params.rope_table.dims / 2;
    return step_of(a, "rope_table", [=, out = floats(a.out[0])](RunRows rows, stream_t stream) {
        rope_table(frequencies, half, out, rows, stream);
    });
}

Step make_copy_step(const StepState* state, const ValueInfo& value, const uint8_t* from,
                    uint8_t* to) {
    const Rows kind = value.rows;
    const int width = int(value.width);
    Step step;
    step.kernel = "copy_out";
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(kind) > 0)
            copy_rows(floats(from), floats(to), width, run_rows(state, kind, b), stream);
    };
    return step;
}

MakeStep step_maker(Op op) {
    switch (op) {
        case Op::embed:
            return [](const StepArgs& a) { return embed_step(a, a.node.params.embed.scale); };
        case Op::per_layer_embed: return per_layer_step;
        case Op::norm:
        case Op::norm_add: return norm_step;
        case Op::qkv_norm_rope: return qkv_step;
        case Op::kv_store: return kv_store_step;
        case Op::attend: return make_attend_step;
        case Op::glu: return glu_step;
        case Op::moe_route:
        case Op::moe_sum: return moe_step;
        case Op::argmax: return argmax_step;
        case Op::centroid_head: return make_centroid_step;
        case Op::scale:
        case Op::add:
        case Op::gather_rows:
        case Op::softcap:
        case Op::concat: return simple_step;
        default: return nullptr;
    }
}

bool has_kernel(Op op) {
    return step_maker(op) || op == Op::matmul || op == Op::moe_matmul || op == Op::rope_table;
}

}  // namespace pillion::cuda
