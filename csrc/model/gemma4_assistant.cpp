// A Gemma 4 assistant: its metadata, its tensors, its forward pass unrolled ("spec" is
// docs/gemma4.md). Four small layers with queries only read the target's cache. Every step stands
// at the same position and sees the same rows, those before it; what changes is the token and the
// hidden row.
#include <math.h>

#include "model/architecture.h"
#include "model/centroid_head.h"
#include "model/hparams_reader.h"
#include "model/model.h"

namespace pillion {
namespace {

// ---- metadata (docs/gemma4.md 5.3) ----

constexpr const char* kAliases[] = {"gemma4_assistant"};  // of third-party files

void read(HParamsReader& r) {
    HParams& hp = r.hp;
    r.read_sizes();
    r.read_layer_kinds(/*default_period=*/0);
    r.read_heads();
    r.read_rope(/*default_base=*/1e6f, /*interleaved=*/false);
    hp.drafts_for = "gemma4";
    hp.n_embd_out = r.count("embedding_length_out", 1, kMaxWidth);
    hp.embed_scale = sqrtf(float(hp.n_embd_out));  // it is fed the target's rows
    if (r.count_or("embedding_length_per_layer_input", 0, 0, INT32_MAX) != 0)
        r.file.fail(Status::unsupported_model,
                    "key %s: per-layer embeddings in an assistant are not supported",
                    r.key("embedding_length_per_layer_input").c_str());
    r.refuse_experts();
    // Every layer borrows, whatever the file says; but a count in between would mean layers with a
    // cache of their own.
    const int n_shared = r.count_or("attention.shared_kv_layers", hp.n_layers, 0, INT32_MAX);
    if (n_shared != hp.n_layers && n_shared != 0)
        r.file.fail(Status::file_corrupt, "key %s: %d, expected block_count, which is %d",
                    r.key("attention.shared_kv_layers").c_str(), n_shared, hp.n_layers);
    for (LayerParams& layer : hp.layers) {
        layer.owns_kv = false;
        layer.kv_source = -1;
    }
    find_centroid_head(r.file, hp);
}

// Other programs' names for such a file say what it is, not how its tensors are called.
const char* advice(std::string_view name) {
    const auto says = [&](const char* part) { return name.find(part) != std::string_view::npos; };
    if (!says("gemma4") || (!says("mtp") && !says("assist") && !says("draft"))) return nullptr;
    return "a Gemma 4 drafter is expected as 'gemma4-assistant', convert the checkpoint again";
}

// ---- tensors (docs/gemma4.md 5.3) ----

using namespace rules;
using W = Weights;
using L = LayerWeights;

// clang-format off
constexpr ModelRule kFront[] = {
    {"token_embd.weight", &W::token_embd, embed, {H, V}},
    {"rope_freqs.weight", &W::rope_freqs, plain, {R}, has_full},
    {"nextn.pre_projection.weight", &W::pre_projection, matrix, {T2, H}},
};

constexpr LayerRule kLayer[] = {
    {"attn_norm.weight", &L::attn_norm, vector, {H}},
    {"attn_q.weight", &L::attn_q, matrix, {H, Q}},
    {"attn_q_norm.weight", &L::attn_q_norm, vector, {D}},
    {"attn_output.weight", &L::attn_output, matrix, {Q, H}},
    {"post_attention_norm.weight", &L::post_attention_norm, vector, {H}},
    {"ffn_norm.weight", &L::ffn_norm, vector, {H}},
    {"ffn_gate.weight", &L::ffn_gate, matrix, {H, F}},
    {"ffn_up.weight", &L::ffn_up, matrix, {H, F}},
    {"ffn_down.weight", &L::ffn_down, matrix, {F, H}},
    {"post_ffw_norm.weight", &L::post_ffw_norm, vector, {H}},
    {"layer_output_scale.weight", &L::output_scale, plain, {x1}, always, may},  // absent: 1
};

constexpr ModelRule kBack[] = {
    {"output_norm.weight", &W::output_norm, vector, {H}},
    {"nextn.post_projection.weight", &W::post_projection, matrix, {H, T}},
    {"masked_embd_centroids.weight", {}, matrix, {H, C}, centroids, may},
    {"masked_embd_centroids", {}, matrix, {H, C}, centroids, may},
    {"masked_embd_ordering.weight", {}, matrix, {V}, centroids, may},
    {"masked_embd_ordering", {}, matrix, {V}, centroids, may},
};
// clang-format on

// ---- forward pass (docs/gemma4.md 3) ----

class Gemma4Assistant {
  public:
    Gemma4Assistant(Graph& g, const Model& model, const DraftInputs& in)
        : g_(g), hp_(model.hparams()), w_(model.weights()), in_(in) {}

    void build() {
        if (hp_.any_sliding())
            rope_swa_ = g_.rope_table(kNone, {hp_.rope_dims_swa, hp_.rope_base_swa,
                                              1 / hp_.rope_scale_swa});
        if (hp_.any_full())
            rope_full_ = g_.rope_table(g_.weight(w_.rope_freqs),
                                       {hp_.rope_dims, hp_.rope_base, 1 / hp_.rope_scale});
        token_ = g_.input_tokens(in_.token);
        hidden_ = g_.input(in_.hidden, "hidden");
        for (int i = 0; i < in_.n_steps; i++) step(i);
    }

  private:
    // The target's scaled embedding beside its hidden row, embedding first.
    void step(int i) {
        g_.begin_layer(-1);
        const Value e = g_.embed(g_.weight(in_.embedding), token_, hp_.embed_scale);
        Value x = g_.matmul(g_.weight(w_.pre_projection), g_.concat(e, hidden_));
        for (int l = 0; l < hp_.n_layers; l++) {
            g_.begin_layer(l);
            x = layer(l, x);
        }
        g_.begin_layer(-1);
        const Value f = g_.norm(x, g_.weight(w_.output_norm), hp_.rms_eps);
        head(i, f);
        hidden_ = g_.matmul(g_.weight(w_.post_projection), f);
        g_.output(hidden_, rows(in_.hiddens, i), "hidden");
    }

    Value layer(int l, Value x) {
        const LayerWeights& w = w_.layers[size_t(l)];
        const LayerParams& p = hp_.layers[size_t(l)];
        const float eps = hp_.rms_eps;
        const Value q = g_.matmul(g_.weight(w.attn_q), g_.norm(x, g_.weight(w.attn_norm), eps));
        const QkvParams qkv = {p.n_heads,
                               p.n_kv_heads,
                               p.head_dim,
                               p.sliding ? hp_.rope_dims_swa : hp_.rope_dims,
                               eps,
                               /*interleaved=*/hp_.rope_interleaved,
                               /*norm_v=*/false,
                               /*v_from_k=*/false};
        g_.qkv_norm_rope(q, kNone, kNone, g_.weight(w.attn_q_norm), kNone,
                         p.sliding ? rope_swa_ : rope_full_, qkv);
        const AttendParams attend = {p.n_heads,           p.n_kv_heads,
                                     p.head_dim,          p.sliding ? hp_.window : 0,
                                     hp_.attention_scale,
                                     /*softcap=*/0,       /*past_only=*/1};
        const Value a = g_.attend(g_.kv(p.sliding ? in_.sliding : in_.full), q, attend);
        x = g_.norm_add(g_.matmul(g_.weight(w.attn_output), a), g_.weight(w.post_attention_norm), x,
                        eps, /*scale=*/1.0f);

        const Value y = g_.norm(x, g_.weight(w.ffn_norm), eps);
        const Value gate = g_.matmul(g_.weight(w.ffn_gate), y),
                    up = g_.matmul(g_.weight(w.ffn_up), y);
        const Value mlp = g_.matmul(g_.weight(w.ffn_down), g_.glu(gate, up, hp_.activation));
        return g_.norm_add(mlp, g_.weight(w.post_ffw_norm), x, eps, w.output_scale);
    }

    // No soft-cap. The most likely token goes on to the next step; the scores stay readable.
    void head(int i, Value f) {
        Value logits, ids = kNone, probability;
        const Value order =
            g_.weight(w_.token_order);  // none: the table lies in the order of the ids
        if (order != kNone && !in_.dense_head) {
            const Value scores = g_.matmul(g_.weight(w_.centroids), f);
            logits = g_.centroid_head(scores, f, g_.weight(w_.token_embd), order,
                                      {hp_.n_centroids, hp_.centroid_top_k}, &ids);
            g_.output(ids, rows(in_.ids, in_.keeps_scores ? i : 0), "draft ids");
        } else {
            logits = g_.matmul(g_.weight(w_.output), f);
            ids = order;
        }
        g_.output(logits, rows(in_.logits, in_.keeps_scores ? i : 0), "draft logits");
        token_ = g_.argmax(logits, ids, &probability);
        g_.output(token_, rows(in_.tokens, i), "draft token");
        g_.output(probability, rows(in_.probabilities, i), "draft probability");
    }

    // Of a step.
    Tensor rows(Tensor t, int i) const {
        t.offset += size_t(i) * size_t(in_.rows) * row_bytes(t.dtype, t.width);
        t.rows = in_.rows;
        return t;
    }

    Graph& g_;
    const HParams& hp_;
    const Weights& w_;
    const DraftInputs& in_;
    Value rope_swa_ = kNone, rope_full_ = kNone;
    Value token_ = kNone, hidden_ = kNone;
};

[[noreturn]] void build(Graph&, const Model& model, const GraphInputs&) {
    fail(Status::pairing,
         "%s is a Gemma 4 assistant: it has no cache of its own and runs only as the drafter of a "
         "target",
         model.file().path().c_str());
}

}  // namespace

extern const Architecture kGemma4Assistant;
const Architecture kGemma4Assistant = {
    "gemma4-assistant", kAliases, read, kFront, kLayer, kBack, build, advice};

int64_t draft_scores_width(const HParams& hp, bool dense_head) {
    if (hp.centroid_head == CentroidHead::none || dense_head) return hp.n_vocab;
    return int64_t(hp.n_vocab / hp.n_centroids) * hp.centroid_top_k;
}

Graph build_draft_graph(const Model& assistant, const DraftInputs& inputs) {
    Graph graph(/*rows_max=*/inputs.rows, /*out_rows_max=*/inputs.rows);
    Gemma4Assistant(graph, assistant, inputs).build();
    return graph;
}

}  // namespace pillion
