#include "media/audio_graph.h"

#include <math.h>

namespace pillion {
namespace {

// Files hold other values, which the model does not use.
constexpr float kEps = 1e-6f, kSoftcap = 50.0f;

class Builder {
  public:
    Builder(Graph& graph, const AudioParams& p, const AudioWeights& w) : g_(graph), p_(p), w_(w) {}

    Value gemma4a(Value mel) {
        const SubsampleParams sub = {w_.channels[0], w_.channels[1], kEps};
        Value x = g_.subsample(mel, weight(w_.conv1d[0]), weight(w_.conv_norm[0]),
                               weight(w_.conv1d[1]), weight(w_.conv_norm[1]), sub);
        x = g_.matmul(weight(w_.input_projection), x);
        for (size_t l = 0; l < w_.layers.size(); l++) {
            g_.begin_layer(int(l));
            x = conformer(w_.layers[l], x);
        }
        g_.begin_layer(-1);
        const LinearParams unbounded = {-INFINITY, INFINITY, -INFINITY, INFINITY};
        return project(g_.linear(weight(w_.out), x, weight(w_.out_bias), unbounded));
    }

    Value project(Value x) { return g_.matmul(weight(w_.projection), g_.norm(x, kNone, kEps)); }

  private:
    Value weight(const Tensor& t) { return g_.weight(t); }
    Value norm(Value x, const Tensor& w) { return g_.norm(x, weight(w), kEps); }
    Value linear(const ClippedMatrix& m, Value x) {
        return g_.linear(weight(m.weight), x, kNone, m.bounds);
    }
    // x + rms(branch; w)
    Value add(Value branch, const Tensor& w, Value x) {
        return g_.norm_add(branch, weight(w), x, kEps, /*scale=*/1.0f);
    }

    Value conformer(const AudioLayer& l, Value x) {
        x = feed_forward(l.ffn[0], x);
        x = add(attention(l, norm(x, l.attn_pre_norm)), l.attn_post_norm, x);
        x = g_.add(x, convolution(l, norm(x, l.conv_norm)));
        return norm(feed_forward(l.ffn[1], x), l.ln2);
    }

    Value feed_forward(const AudioFeedForward& ffn, Value x) {
        const Value up = linear(ffn.up, norm(x, ffn.norm));
        return add(linear(ffn.down, g_.activate(up, Activation::silu)), ffn.post_norm, x);
    }

    Value attention(const AudioLayer& l, Value x) {
        const Value q = linear(l.attn_q, x), k = linear(l.attn_k, x), v = linear(l.attn_v, x);
        const AttendLocalParams params = {p_.n_heads, p_.n_embd / p_.n_heads, kAudioWindow,
                                          kSoftcap};
        return linear(l.attn_out,
                      g_.attend_local(q, k, v, weight(l.q_scale), weight(l.relative), params));
    }

    Value convolution(const AudioLayer& l, Value x) {
        x = g_.glu_halves(linear(l.conv_pw1, x), /*groups=*/1, Activation::sigmoid);
        x = norm(g_.conv_causal(x, weight(l.conv_dw), kAudioTaps), l.norm_conv);
        return linear(l.conv_pw2, g_.activate(x, Activation::silu));
    }

    Graph& g_;
    const AudioParams& p_;
    const AudioWeights& w_;
};

}  // namespace

Value build_audio(Graph& graph, const AudioParams& p, const AudioWeights& w, Value x) {
    Builder builder(graph, p, w);
    return p.kind == AudioKind::gemma4a ? builder.gemma4a(x) : builder.project(x);
}

}  // namespace pillion
