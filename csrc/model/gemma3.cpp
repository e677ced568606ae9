// Gemma 3 text models: sliding and full layers, head norms, norms before and after each branch. The
// file's norm weights already include the reference's +1.
#include "model/layers.h"

namespace pillion {

void build_gemma3(Graph& g, const Model& model, const GraphInputs& in) {
    const HParams& hp = model.hparams();
    const Weights& w = model.weights();
    const float eps = hp.rms_eps;
    Value x = g.embed(g.weight(w.token_embd), g.input_tokens(in.tokens), hp.embed_scale);
    const Value rope_swa =
        hp.any_sliding()
            ? g.rope_table(kNone, {hp.rope_dims_swa, hp.rope_base_swa, 1 / hp.rope_scale_swa})
            : kNone;
    const Value rope_full =
        hp.any_full() ? g.rope_table(kNone, {hp.rope_dims, hp.rope_base, 1 / hp.rope_scale})
                      : kNone;

    for (int l = 0; l < hp.n_layers; l++) {
        g.begin_layer(l);
        const LayerWeights& lw = w.layers[size_t(l)];
        const LayerParams& p = hp.layers[size_t(l)];
        Value y = g.norm(x, g.weight(lw.attn_norm), eps);
        const Value a =
            g.matmul(g.weight(lw.attn_output),
                     self_attention(g, model, in, l, p.sliding ? rope_swa : rope_full, x, y));
        x = g.norm_add(a, g.weight(lw.post_attention_norm), x, eps, /*scale=*/1.0f);
        y = g.norm(x, g.weight(lw.ffn_norm), eps);
        const Value gate = g.matmul(g.weight(lw.ffn_gate), y),
                    up = g.matmul(g.weight(lw.ffn_up), y);
        const Value f = g.matmul(g.weight(lw.ffn_down), g.glu(gate, up, hp.activation));
        x = g.norm_add(f, g.weight(lw.post_ffw_norm), x, eps, /*scale=*/1.0f);
    }
    finish_graph(g, model, in, x);
}

}  // namespace pillion
