// A Gemma 4 assistant, unrolled (shared/spec/gemma4.md, section 3): four small layers with queries
// only, which read the target's cache. Every step stands at the same position and sees the same
// rows, those before it; what changes is the token and the hidden row.
#include "model/model.h"

namespace pillion {
namespace {

class Gemma4Mtp {
  public:
    Gemma4Mtp(Graph& g, const Model& model, const DraftInputs& in)
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
        g_.output(hidden_, row(in_.hiddens, i), "hidden");
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
            g_.output(ids, row(in_.ids, i), "draft ids");
        } else {
            logits = g_.matmul(g_.weight(w_.output), f);
            ids = order;
        }
        g_.output(logits, row(in_.logits, i), "draft logits");
        token_ = g_.argmax(logits, ids, &probability);
        g_.output(token_, row(in_.tokens, i), "draft token");
        g_.output(probability, row(in_.probabilities, i), "draft probability");
    }

    static Tensor row(Tensor t, int i) {
        t.offset += size_t(i) * row_bytes(t.dtype, t.width);
        t.rows = 1;
        return t;
    }

    Graph& g_;
    const HParams& hp_;
    const Weights& w_;
    const DraftInputs& in_;
    Value rope_swa_ = kNone, rope_full_ = kNone;
    Value token_ = kNone, hidden_ = kNone;
};

}  // namespace

int64_t draft_scores_width(const HParams& hp, bool dense_head) {
    if (hp.centroid_head == CentroidHead::none || dense_head) return hp.n_vocab;
    return int64_t(hp.n_vocab / hp.n_centroids) * hp.centroid_top_k;
}

Graph build_draft_graph(const Model& assistant, const DraftInputs& inputs) {
    Graph graph(/*rows_max=*/1, /*out_rows_max=*/1);
    Gemma4Mtp(graph, assistant, inputs).build();
    return graph;
}

}  // namespace pillion
