// The Gemma 4 target (shared/spec/gemma4.md, section 2), layer by layer. Scores are not scaled, V
// is normed without weight, full layers rotate with the frequencies that rope_freqs leaves, and
// layer_output_scale multiplies the whole residual stream.
#include <math.h>

#include "model/layers.h"

namespace pillion {
namespace {

class Gemma4 {
  public:
    Gemma4(Graph& g, const Model& model, const GraphInputs& in)
        : g_(g), model_(model), hp_(model.hparams()), w_(model.weights()), in_(in) {}

    void build() {
        const Value tokens = g_.input_tokens(in_.tokens);
        Value x = g_.embed(g_.weight(w_.token_embd), tokens, hp_.embed_scale);
        Value e = hp_.ple_width > 0 ? per_layer_embeddings(tokens, x) : kNone;
        if (hp_.any_sliding())
            rope_swa_ = g_.rope_table(kNone, {hp_.rope_dims_swa, hp_.rope_base_swa,
                                              1 / hp_.rope_scale_swa});
        if (hp_.any_full())
            rope_full_ = g_.rope_table(g_.weight(w_.rope_freqs),
                                       {hp_.rope_dims, hp_.rope_base, 1 / hp_.rope_scale});

        for (int l = 0; l < hp_.n_layers; l++) {
            g_.begin_layer(l);
            x = layer(l, x, e);
        }
        finish_graph(g_, model_, in_, x);
    }

  private:
    Value per_layer_embeddings(Value tokens, Value x) {
        const Value projected = g_.matmul(g_.weight(w_.per_layer_model_proj), x);
        const PerLayerEmbedParams p = {hp_.ple_width,
                                       hp_.n_layers,
                                       1 / sqrtf(float(hp_.n_embd)),
                                       sqrtf(float(hp_.ple_width)),
                                       1 / sqrtf(2.0f),
                                       hp_.rms_eps};
        return g_.per_layer_embed(g_.weight(w_.per_layer_token_embd), tokens, projected,
                                  g_.weight(w_.per_layer_proj_norm), p);
    }

    Value layer(int l, Value x, Value& e) {
        const LayerWeights& w = w_.layers[size_t(l)];
        const float eps = hp_.rms_eps;
        Value y = g_.norm(x, g_.weight(w.attn_norm), eps);
        const Value a =
            self_attention(g_, model_, in_, l,
                           hp_.layers[size_t(l)].sliding ? rope_swa_ : rope_full_, x, y, &e);
        x = g_.norm_add(g_.matmul(g_.weight(w.attn_output), a), g_.weight(w.post_attention_norm), x,
                        eps, /*scale=*/1.0f);

        const Value f = hp_.layers[size_t(l)].moe
                            ? experts(l, x)
                            : dense(l, g_.norm(x, g_.weight(w.ffn_norm), eps));
        const bool has_ple = hp_.ple_width > 0;
        x = g_.norm_add(f, g_.weight(w.post_ffw_norm), x, eps, has_ple ? 1.0f : w.output_scale);
        if (!has_ple) return x;

        // u = gelu(G x) * e_l
        const Value u =
            g_.glu(g_.matmul(g_.weight(w.inp_gate), x), e, hp_.activation, l * hp_.ple_width);
        return g_.norm_add(g_.matmul(g_.weight(w.proj), u), g_.weight(w.post_norm), x, eps,
                           w.output_scale);
    }

    Value dense(int l, Value y) {
        const LayerWeights& w = w_.layers[size_t(l)];
        const Value gate = g_.matmul(g_.weight(w.ffn_gate), y),
                    up = g_.matmul(g_.weight(w.ffn_up), y);
        return g_.matmul(g_.weight(w.ffn_down), g_.glu(gate, up, hp_.activation));
    }

    // Dense and routed parts side by side on the same residual; the router sees it under a norm of
    // its own.
    Value experts(int l, Value x) {
        const LayerWeights& w = w_.layers[size_t(l)];
        const float eps = hp_.rms_eps;
        const Value dense_part = g_.norm(dense(l, g_.norm(x, g_.weight(w.ffn_norm), eps)),
                                         g_.weight(w.post_ffw_norm_1), eps);

        MoeParams p = {hp_.n_experts, hp_.n_experts_used, /*per_row=*/1};
        const Value r =
            g_.norm(x, g_.weight(w.ffn_gate_inp_scale), eps, 1 / sqrtf(float(hp_.n_embd)));
        Value ids, gates;
        g_.moe_route(g_.matmul(g_.weight(w.ffn_gate_inp), r), g_.weight(w.ffn_down_exps_scale), p,
                     &ids, &gates);

        const Value z = g_.norm(x, g_.weight(w.pre_ffw_norm_2), eps);
        Value h;  // [rows, n_used, expert_ff]
        if (w.ffn_gate_up_exps) {
            h = g_.glu_halves(g_.moe_matmul(g_.weight(w.ffn_gate_up_exps), z, ids, p), p.n_used,
                                hp_.activation);
        } else {
            const Value gate = g_.moe_matmul(g_.weight(w.ffn_gate_exps), z, ids, p);
            h = g_.glu(gate, g_.moe_matmul(g_.weight(w.ffn_up_exps), z, ids, p), hp_.activation);
        }
        p.per_row = p.n_used;
        const Value routed =
            g_.moe_sum(g_.moe_matmul(g_.weight(w.ffn_down_exps), h, ids, p), gates, hp_.n_embd, p);
        return g_.add(dense_part, g_.norm(routed, g_.weight(w.post_ffw_norm_2), eps));
    }

    Graph& g_;
    const Model& model_;
    const HParams& hp_;
    const Weights& w_;
    const GraphInputs& in_;
    Value rope_swa_ = kNone, rope_full_ = kNone;
};

}  // namespace

void build_gemma4(Graph& graph, const Model& model, const GraphInputs& inputs) {
    Gemma4(graph, model, inputs).build();
}

}  // namespace pillion
