// The Gemma 4 target: its metadata, its tensors, its forward pass layer by layer ("spec" is
// docs/gemma4.md). Scores are not scaled, V is normed without weight, full layers rotate with the
// frequencies that rope_freqs leaves, and layer_output_scale multiplies the whole residual stream.
#include <math.h>

#include "model/architecture.h"
#include "model/hparams_reader.h"
#include "model/layers.h"

namespace pillion {
namespace {

// ---- metadata (docs/gemma4.md 5.1) ----

// The last layers own no cache; each reads the one of the last owning layer of its kind.
void share_kv(HParamsReader& r, int n_shared) {
    HParams& hp = r.hp;
    const int n_own = hp.n_layers - n_shared;
    int source[2] = {-1, -1};  // [sliding]
    for (int l = 0; l < n_own; ++l) source[hp.layers[size_t(l)].sliding] = l;
    for (int l = n_own; l < hp.n_layers; ++l) {
        LayerParams& layer = hp.layers[size_t(l)];
        layer.owns_kv = false;
        layer.kv_source = source[layer.sliding];
        if (layer.kv_source < 0)
            r.file.fail(
                Status::file_corrupt,
                "key %s: %d of %d layers share, but layer %d finds no %s layer before them to "
                "share with",
                r.key("attention.shared_kv_layers").c_str(), n_shared, hp.n_layers, l,
                layer.sliding ? "sliding" : "full");
    }
}

// The router marks an expert layer; so does any expert tensor, so that a lost router is reported
// and not taken for a dense layer.
void find_experts(HParamsReader& r) {
    HParams& hp = r.hp;
    for (int l = 0; l < hp.n_layers; ++l) {
        const std::string block = "blk." + std::to_string(l) + ".";
        for (const char* name : {"ffn_gate_inp.weight", "ffn_down_exps.weight",
                                 "ffn_gate_up_exps.weight", "ffn_gate_exps.weight"})
            if (r.file.find_tensor(block + name)) hp.layers[size_t(l)].moe = true;
        if (hp.layers[size_t(l)].moe && hp.n_experts == 0)
            r.file.fail(Status::file_corrupt, "layer %d has experts, but key %s is %s", l,
                        r.key("expert_count").c_str(), r.has("expert_count") ? "0" : "missing");
        if (r.file.tensors().empty())
            hp.layers[size_t(l)].moe = hp.n_experts > 0;  // metadata alone
    }
}

// V comes from K when the owning layers of a kind have no V, all of them: a single missing V is a
// damaged file.
void find_v_from_k(HParamsReader& r) {
    HParams& hp = r.hp;
    for (const bool sliding : {false, true}) {
        std::vector<LayerParams*> owning, without_v;
        for (int l = 0; l < hp.n_layers; ++l) {
            LayerParams& layer = hp.layers[size_t(l)];
            if (layer.sliding != sliding || !layer.owns_kv) continue;
            const std::string block = "blk." + std::to_string(l) + ".";
            owning.push_back(&layer);
            if (r.file.find_tensor(block + "attn_qkv.weight")) continue;  // has all three
            if (r.file.find_tensor(block + "attn_k.weight") &&
                !r.file.find_tensor(block + "attn_v.weight"))
                without_v.push_back(&layer);
        }
        if (without_v.size() == owning.size())
            for (LayerParams* layer : without_v) layer->v_from_k = true;
    }
}

void read(HParamsReader& r) {
    HParams& hp = r.hp;
    r.read_sizes();
    r.read_layer_kinds(/*default_period=*/0);  // it differs between the sizes
    r.read_heads();
    r.read_rope(/*default_base=*/1e6f, /*interleaved=*/false);
    hp.norm_v = true;
    hp.embed_scale = sqrtf(float(hp.n_embd));
    hp.softcap = r.real_or("final_logit_softcapping", 0, 0, 1e6f);
    hp.ple_width = r.count_or("embedding_length_per_layer_input", 0, 0, 1 << 16);
    hp.takes_media = true;
    // Older files don't say it. The small models, those with per-layer embeddings, are causal.
    hp.image_bidirectional =
        r.file.boolean(r.key("attention.image_bidirectional"), hp.ple_width == 0);
    hp.n_experts = r.count_or("expert_count", 0, 0, 1024);
    if (hp.n_experts > 0) {
        hp.n_experts_used = r.count("expert_used_count", 1, kMaxWidth);
        hp.expert_ff = r.count("expert_feed_forward_length", 1, kMaxWidth);
        if (hp.n_experts_used > hp.n_experts)
            r.file.fail(Status::file_corrupt, "key %s: %d exceeds expert_count, which is %d",
                        r.key("expert_used_count").c_str(), hp.n_experts_used, hp.n_experts);
    }
    find_experts(r);
    const int n_shared = r.count_or("attention.shared_kv_layers", 0, 0, INT32_MAX);
    if (n_shared > hp.n_layers)
        r.file.fail(Status::file_corrupt, "key %s: %d exceeds block_count, which is %d",
                    r.key("attention.shared_kv_layers").c_str(), n_shared, hp.n_layers);
    share_kv(r, n_shared);
    find_v_from_k(r);
}

// ---- tensors (docs/gemma4.md 5.2) ----

using namespace rules;
using W = Weights;
using L = LayerWeights;

// clang-format off
constexpr ModelRule kFront[] = {
    {"token_embd.weight", &W::token_embd, embed, {H, V}},
    {"rope_freqs.weight", &W::rope_freqs, plain, {R}, has_full},
    {"per_layer_token_embd.weight", &W::per_layer_token_embd, table, {LP, V}, ple},
    {"per_layer_model_proj.weight", &W::per_layer_model_proj, matrix, {H, LP}, ple},
    {"per_layer_proj_norm.weight", &W::per_layer_proj_norm, vector, {P}, ple},
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
    {"layer_output_scale.weight", &L::output_scale, plain, {x1}, always, may},  // absent: 1
    {"inp_gate.weight", &L::inp_gate, matrix, {H, P}, ple},
    {"proj.weight", &L::proj, matrix, {P, H}, ple},
    {"post_norm.weight", &L::post_norm, vector, {H}, ple},
    {"ffn_gate_inp.weight", &L::ffn_gate_inp, matrix, {H, E}, moe},
    {"ffn_gate_inp.scale", &L::ffn_gate_inp_scale, vector, {H}, moe},
    {"ffn_gate_up_exps.weight", &L::ffn_gate_up_exps, matrix, {H, FE2, E}, moe_fused},
    {"ffn_gate_exps.weight", &L::ffn_gate_exps, matrix, {H, FE, E}, moe_separate},
    {"ffn_up_exps.weight", &L::ffn_up_exps, matrix, {H, FE, E}, moe_separate},
    {"ffn_down_exps.weight", &L::ffn_down_exps, matrix, {FE, H, E}, moe},
    {"ffn_down_exps.scale", &L::ffn_down_exps_scale, vector, {E}, moe},
    {"pre_ffw_norm_2.weight", &L::pre_ffw_norm_2, vector, {H}, moe},
    {"post_ffw_norm_1.weight", &L::post_ffw_norm_1, vector, {H}, moe},
    {"post_ffw_norm_2.weight", &L::post_ffw_norm_2, vector, {H}, moe},
};

constexpr ModelRule kBack[] = {
    {"output.weight", &W::output, matrix, {H, V}, always, may},  // absent: tied to token_embd
    {"output_norm.weight", &W::output_norm, vector, {H}},
};
// clang-format on

// ---- forward pass (docs/gemma4.md 2) ----

class Gemma4 {
  public:
    Gemma4(Graph& g, const Model& model, const GraphInputs& in)
        : g_(g), model_(model), hp_(model.hparams()), w_(model.weights()), in_(in) {}

    void build() {
        const Value tokens = g_.input_tokens(in_.tokens);
        const Value media = in_.media ? g_.input(in_.media, "media") : kNone;
        Value x = g_.embed(g_.weight(w_.token_embd), tokens, hp_.embed_scale, media);
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
        SelfAttention attention(g_, model_, in_, l,
                                hp_.layers[size_t(l)].sliding ? rope_swa_ : rope_full_);
        if (l == hp_.last_kv_layer()) {
            attention.project_kv(y);
            narrow(g_, x, y, e);
        }
        const Value a = attention.attend(y);
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

void build(Graph& graph, const Model& model, const GraphInputs& inputs) {
    Gemma4(graph, model, inputs).build();
}

}  // namespace

extern const Architecture kGemma4;
const Architecture kGemma4 = {"gemma4", {}, read, kFront, kLayer, kBack, build};

}  // namespace pillion
