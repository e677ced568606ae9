// Llama and its like: plain residual blocks, SwiGLU, one kind of attention. GGUF holds q and k with
// their rows permuted so that rotation pairs are neighbours.
#include <math.h>

#include "model/architecture.h"
#include "model/hparams_reader.h"
#include "model/layers.h"

namespace pillion {
namespace {

void read(HParamsReader& r) {
    HParams& hp = r.hp;
    r.read_sizes();  // no layer kinds: full attention throughout
    r.read_heads();
    r.read_rope(/*default_base=*/1e4f, /*interleaved=*/true);
    r.refuse_experts();
    hp.activation = Activation::silu;
    hp.attention_scale =
        r.real_or("attention.scale", 1 / sqrtf(float(hp.layers[0].head_dim)), 1e-6f, 1e6f);
}

using namespace rules;
using W = Weights;
using L = LayerWeights;

// clang-format off
constexpr ModelRule kFront[] = {
    {"token_embd.weight", &W::token_embd, embed, {H, V}},
    {"rope_freqs.weight", &W::rope_freqs, plain, {R}, always, may},
};

constexpr LayerRule kLayer[] = {
    {"attn_norm.weight", &L::attn_norm, vector, {H}},
    {"attn_q.weight", &L::attn_q, matrix, {H, Q}, separate},
    {"attn_k.weight", &L::attn_k, matrix, {H, KV}, own_k},
    {"attn_v.weight", &L::attn_v, matrix, {H, KV}, own_v},
    {"attn_qkv.weight", {}, matrix, {H, QKV}, fused},
    {"attn_output.weight", &L::attn_output, matrix, {Q, H}},
    {"ffn_norm.weight", &L::ffn_norm, vector, {H}},
    {"ffn_gate.weight", &L::ffn_gate, matrix, {H, F}},
    {"ffn_up.weight", &L::ffn_up, matrix, {H, F}},
    {"ffn_down.weight", &L::ffn_down, matrix, {F, H}},
};

constexpr ModelRule kBack[] = {
    {"output.weight", &W::output, matrix, {H, V}, always, may},  // absent: tied to token_embd
    {"output_norm.weight", &W::output_norm, vector, {H}},
};
// clang-format on

void build(Graph& g, const Model& model, const GraphInputs& in) {
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
        SelfAttention attention(g, model, in, l, rope);
        if (l == hp.last_kv_layer()) {
            attention.project_kv(y);
            narrow(g, x, y);
        }
        const Value a = g.matmul(g.weight(lw.attn_output), attention.attend(y));
        x = g.add(x, a);
        y = g.norm(x, g.weight(lw.ffn_norm), eps);
        const Value gate = g.matmul(g.weight(lw.ffn_gate), y),
                    up = g.matmul(g.weight(lw.ffn_up), y);
        x = g.add(x, g.matmul(g.weight(lw.ffn_down), g.glu(gate, up, hp.activation)));
    }
    finish_graph(g, model, in, x);
}

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {"llama", {}, read, kFront, kLayer, kBack, build};

}  // namespace pillion
