#include "model/layers.h"

namespace pillion {
namespace {

QkvParams qkv_params(const HParams& hp, const LayerParams& p, const LayerWeights& w) {
    return {p.n_heads,
            p.n_kv_heads,
            p.head_dim,
            p.sliding ? hp.rope_dims_swa : hp.rope_dims,
            hp.rms_eps,
            /*interleaved=*/hp.rope_interleaved,
            hp.norm_v,
            /*v_from_k=*/p.owns_kv && !w.attn_v};
}

}  // namespace

SelfAttention::SelfAttention(Graph& g, const Model& model, const GraphInputs& in, int l, Value rope)
    : g_(g), hp_(model.hparams()), p_(hp_.layers[size_t(l)]), w_(model.weights().layers[size_t(l)]),
      kv_(in.kv), until_(in.until), l_(l), rope_(rope), stored_(!p_.owns_kv) {}

void SelfAttention::project_kv(Value y) { rotate_and_store(kNone, y); }

void SelfAttention::rotate_and_store(Value q, Value y) {
    const Value k = g_.matmul(g_.weight(w_.attn_k), y);
    const Value v = w_.attn_v ? g_.matmul(g_.weight(w_.attn_v), y) : g_.empty(k, g_.value(k).width);
    g_.qkv_norm_rope(q, k, v, g_.weight(w_.attn_q_norm), g_.weight(w_.attn_k_norm), rope_,
                     qkv_params(hp_, p_, w_));
    kv_.store_all(g_, l_, k, v);
    stored_ = true;
}

Value SelfAttention::attend(Value y) {
    const Value q = g_.matmul(g_.weight(w_.attn_q), y);
    if (stored_)
        g_.qkv_norm_rope(q, kNone, kNone, g_.weight(w_.attn_q_norm), kNone, rope_,
                         qkv_params(hp_, p_, w_));
    else rotate_and_store(q, y);
    const bool sees_ahead = p_.sliding && until_ && g_.value(q).rows == Rows::run;
    return g_.attend(g_.kv(kv_.reader(p_.kv_source, g_.part())), q,
                     {p_.n_heads, p_.n_kv_heads, p_.head_dim, p_.sliding ? hp_.window : 0,
                      hp_.attention_scale, /*softcap=*/0, /*past_only=*/0},
                     sees_ahead ? g_.input_tokens(until_, "until") : kNone);
}

void finish_graph(Graph& g, const Model& model, const GraphInputs& in, Value x) {
    const HParams& hp = model.hparams();
    const Weights& w = model.weights();
    g.begin_layer(-1);
    const Value hidden = g.norm(x, g.weight(w.output_norm), hp.rms_eps);
    g.output(hidden, in.hidden, "hidden");
    if (in.hidden_only) return;
    const Value logits = g.matmul(g.weight(w.output), hidden);
    g.output(logits, in.logits, "logits");
    if (hp.softcap > 0) g.softcap(logits, hp.softcap);
    g.output(g.argmax(logits), in.argmax_tokens, "argmax_tokens");
}

}  // namespace pillion
