// Gemma 3 text models: sliding and full layers, head norms, norms before and after each branch. The
// file's norm weights already include the reference's +1.
#include <math.h>

#include "model/architecture.h"
#include "model/hparams_reader.h"
#include "model/layers.h"

namespace pillion {
namespace {

constexpr int kPeriod = 6;  // five sliding layers, one full; its files carry no pattern
constexpr int kLayers27B = 62;

void read(HParamsReader& r) {
    HParams& hp = r.hp;
    r.read_sizes();
    r.read_layer_kinds(kPeriod);
    r.read_heads();
    r.read_rope(/*default_base=*/1e6f, /*interleaved=*/false);
    r.refuse_experts();
    hp.embed_scale = sqrtf(float(hp.n_embd));
    hp.softcap = r.real_or("final_logit_softcapping", 0, 0, 1e6f);
    // The 27B model, known by its layers, was trained with another divisor than the rest.
    const LayerParams& layer = hp.layers[0];
    const float divisor =
        hp.n_layers == kLayers27B ? float(hp.n_embd) / float(layer.n_heads) : float(layer.head_dim);
    hp.attention_scale = r.real_or("attention.scale", 1 / sqrtf(divisor), 1e-6f, 1e6f);
}

using namespace rules;
using W = Weights;
using L = LayerWeights;

// clang-format off
constexpr ModelRule kFront[] = {
    {"token_embd.weight", &W::token_embd, embed, {H, V}},
};

constexpr LayerRule kLayer[] = {
    {"attn_norm.weight", &L::attn_norm, vector, {H}},
    {"attn_q.weight", &L::attn_q, matrix, {H, Q}, separate},
    {"attn_k.weight", &L::attn_k, matrix, {H, KV}, own_k},
    {"attn_v.weight", &L::attn_v, matrix, {H, KV}, own_v},
    {"attn_qkv.weight", {}, matrix, {H, QKV}, fused},
    {"attn_q_norm.weight", &L::attn_q_norm, vector, {D}},
    {"attn_k_norm.weight", &L::attn_k_norm, vector, {D}, own_norm},
    {"attn_output.weight", &L::attn_output, matrix, {Q, H}},
    {"post_attention_norm.weight", &L::post_attention_norm, vector, {H}},
    {"ffn_norm.weight", &L::ffn_norm, vector, {H}},
    {"ffn_gate.weight", &L::ffn_gate, matrix, {H, F}},
    {"ffn_up.weight", &L::ffn_up, matrix, {H, F}},
    {"ffn_down.weight", &L::ffn_down, matrix, {F, H}},
    {"post_ffw_norm.weight", &L::post_ffw_norm, vector, {H}},
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
        SelfAttention attention(g, model, in, l, p.sliding ? rope_swa : rope_full);
        if (l == hp.last_kv_layer()) {
            attention.project_kv(y);
            narrow(g, x, y);
        }
        const Value a = g.matmul(g.weight(lw.attn_output), attention.attend(y));
        x = g.norm_add(a, g.weight(lw.post_attention_norm), x, eps, /*scale=*/1.0f);
        y = g.norm(x, g.weight(lw.ffn_norm), eps);
        const Value gate = g.matmul(g.weight(lw.ffn_gate), y),
                    up = g.matmul(g.weight(lw.ffn_up), y);
        const Value f = g.matmul(g.weight(lw.ffn_down), g.glu(gate, up, hp.activation));
        x = g.norm_add(f, g.weight(lw.post_ffw_norm), x, eps, /*scale=*/1.0f);
    }
    finish_graph(g, model, in, x);
}

}  // namespace

extern const Architecture kGemma3;
const Architecture kGemma3 = {"gemma3", {}, read, kFront, kLayer, kBack, build};

}  // namespace pillion
