// Llama and its like: plain residual blocks, SwiGLU, one kind of attention. GGUF holds q and k with
// their rows permuted so that rotation pairs are neighbours.
#include "model/layers.h"

namespace pillion {

void build_llama(Graph& g, const Model& model, const GraphInputs& in) {
    const HParams& hp = model.hparams();
    const Weights& w = model.weights();
    const float eps = hp.rms_eps;
    Value x = g.embed(g.weight(w.token_embd), g.input_tokens(in.tokens), hp.embed_scale);
    const Value rope =
        g.rope_table(g.weight(w.rope_freqs), {hp.rope_dims, hp.rope_base, 1 / hp.rope_scale});

    for (int l = 0; l < hp.n_layers; l++) {
        g.begin_layer(l);
        const LayerWeights& lw = w.layers[size_t(l)];
        Value y = g.norm(x, g.weight(lw.attn_norm), eps);
        const Value a =
            g.matmul(g.weight(lw.attn_output), self_attention(g, model, in, l, rope, x, y));
        x = g.add(x, a);
        y = g.norm(x, g.weight(lw.ffn_norm), eps);
        const Value gate = g.matmul(g.weight(lw.ffn_gate), y),
                    up = g.matmul(g.weight(lw.ffn_up), y);
        x = g.add(x, g.matmul(g.weight(lw.ffn_down), g.glu(gate, up, hp.activation)));
    }
    finish_graph(g, model, in, x);
}

}  // namespace pillion
