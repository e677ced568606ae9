// Rows of embedding tables.
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {
namespace {

Step unpack_step(const StepArgs& a, float scale) {
    const PackedWeight w = packed_weight(a.graph.value(a.node.in[0]).tensor, a.in[0]);
    const auto* tokens = reinterpret_cast<const int32_t*>(a.in[1]);
    float* out = reinterpret_cast<float*>(a.out[0]);
    const Rows rows = a.node.rows;
    const StepState* state = a.state;
    Step step;
    step.kernel = "unpack_rows";
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(rows) > 0)
            unpack_rows(w, tokens, scale, out, row_count(state, rows, b), stream);
    };
    return step;
}

Step embed_step(const StepArgs& a, float scale) {
    const Tensor& t = a.graph.value(a.node.in[0]).tensor;
    if (t.layout == Layout::packed) return unpack_step(a, scale);
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

// Both clamp a token below 0 to row 0 of the table; its row is then replaced.
Step with_media(const StepArgs& a, const Step& take) {
    const auto width = int32_t(a.graph.value(a.node.out[0]).width);
    const float* media = floats(a.in[2]);
    const int32_t* tokens = ints(a.in[1]);
    Step step = take;
    const Step put =
        step_of(a, "media_rows", [=, out = floats(a.out[0])](RunRows rows, stream_t stream) {
            media_rows(media, tokens, width, out, rows, stream);
        });
    step.enqueue = [take = take.enqueue, put = put.enqueue](const Bounds& b, stream_t stream) {
        take(b, stream);
        put(b, stream);
    };
    return step;
}

}  // namespace

Step make_embed_step(const StepArgs& a) {
    if (a.node.op == Op::per_layer_embed) return per_layer_step(a);
    const Step take = embed_step(a, a.node.params.embed.scale);
    return a.node.in[2] == kNone ? take : with_media(a, take);
}

}  // namespace pillion::cuda
