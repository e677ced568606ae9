#include "media/vision_graph.h"

#include <math.h>

namespace pillion {
namespace {

constexpr float kRopeBase = 100.0f, kProjectionEps = 1e-6f, kLayerNormEps = 1e-5f;

class VisionGraph {
  public:
    VisionGraph(const VisionParams& p, const VisionWeights& w, const VisionInputs& in)
        : p_(p), w_(w), in_(in), g_(in.patches_max, in.tokens_max) {}

    Graph build() {
        x_ = g_.input_tokens(in_.x, "x"), y_ = g_.input_tokens(in_.y, "y");
        const Value patches = g_.input(in_.patches, "patches");
        const Value tokens =
            p_.kind == VisionKind::gemma4v ? encode(patches) : encode_plainly(patches);
        const Value rows =
            g_.matmul(weight(w_.input_projection), g_.norm(tokens, kNone, kProjectionEps));
        g_.output(rows, in_.rows, "rows");
        return std::move(g_);
    }

  private:
    Value weight(const Tensor& tensor) { return g_.weight(tensor); }
    Value linear(const ClippedMatrix& m, Value x) {
        return g_.linear(weight(m.weight), x, kNone, m.bounds);
    }
    Value add_positions(Value x) {
        const Value table = weight(w_.position_embd);
        x = g_.add(x, g_.embed(table, x_, 1.0f));
        return g_.add(x, g_.embed(table, g_.input_tokens(in_.position_y, "position_y"), 1.0f));
    }

    // gemma4v: layers over patches, then a mean over each token's.
    Value encode(Value patches) {
        Value x = add_positions(g_.matmul(weight(w_.patch_embd), patches));
        const Value rope = g_.rope_grid(x_, y_, {p_.head_dim, kRopeBase, 1.0f});
        for (size_t l = 0; l < w_.layers.size(); l++) {
            g_.begin_layer(int(l));
            x = attention(w_.layers[l], x, rope);
            x = feed_forward(w_.layers[l], x);
        }
        g_.begin_layer(-1);
        const Value groups = g_.input_ids(in_.groups, Rows::out, "groups");
        return g_.pool_rows(x, groups, weight(w_.std_bias), weight(w_.std_scale),
                            sqrtf(float(p_.n_embd)) / float(p_.pool * p_.pool));
    }

    Value attention(const VisionLayer& l, Value x, Value rope) {
        const Value in = g_.norm(x, weight(l.ln1), p_.eps);
        const Value q = linear(l.attn_q, in), k = linear(l.attn_k, in), v = linear(l.attn_v, in);
        QkvParams heads = {};
        heads.n_heads = heads.n_kv_heads = p_.n_heads;
        heads.head_dim = heads.rope_dims = p_.head_dim;
        heads.eps = p_.eps, heads.norm_v = 1;
        g_.qkv_norm_rope(q, k, v, weight(l.attn_q_norm), weight(l.attn_k_norm), rope, heads);
        // Files of floats are exact, quantized ones fast.
        const int32_t int8 = info(l.attn_v.weight.dtype).is_quantized;
        const Value y = g_.attend_all(q, k, v, {p_.n_heads, p_.head_dim, int8, /*scale=*/1.0f});
        return g_.norm_add(linear(l.attn_out, y), weight(l.attn_post_norm), x, p_.eps, 1.0f);
    }

    Value feed_forward(const VisionLayer& l, Value x) {
        const Value in = g_.norm(x, weight(l.ln2), p_.eps);
        const Value gate = linear(l.ffn_gate, in), up = linear(l.ffn_up, in);
        const Value y = linear(l.ffn_down, g_.glu(gate, up, Activation::gelu_tanh));
        return g_.norm_add(y, weight(l.ffn_post_norm), x, p_.eps, 1.0f);
    }

    // gemma4uv: no layers, a patch is a token.
    Value encode_plainly(Value patches) {
        constexpr LinearParams kUnbounded = {-INFINITY, INFINITY, -INFINITY, INFINITY};
        Value x = g_.linear(weight(w_.patch_embd), layer_norm(patches, 0), weight(w_.patch_bias),
                            kUnbounded);
        x = layer_norm(x, 1);
        return layer_norm(add_positions(x), 2);
    }
    Value layer_norm(Value x, int i) {
        return g_.layer_norm(x, weight(w_.patch_norm[i]), weight(w_.norm_bias[i]), kLayerNormEps);
    }

    const VisionParams& p_;
    const VisionWeights& w_;
    const VisionInputs& in_;
    Graph g_;
    Value x_ = kNone, y_ = kNone;
};

}  // namespace

Graph build_vision_graph(const VisionParams& p, const VisionWeights& w, const VisionInputs& in) {
    return VisionGraph(p, w, in).build();
}

}  // namespace pillion
