#include "model/layers.h"

#include <utility>

namespace pillion {
namespace {

int last_owner(const HParams& hp) {
    int last = -1;
    for (int l = 0; l < hp.n_layers; l++)
        if (hp.layers[size_t(l)].owns_kv) last = l;
    return last;
}

// The rows go where others read them, too.
void store_copies(Graph& g, const GraphInputs& in, int l, Value k, Value v) {
    const int own = g.part();
    for (const auto& [part, stores] :
         {std::pair{1, in.kv_device_copies}, std::pair{2, in.kv_replicas}}) {
        if (!stores || !stores[l].buffer) continue;
        g.set_part(part);
        g.kv_store(g.kv(stores[l]), k, v);
    }
    g.set_part(own);
}

}  // namespace

Value self_attention(Graph& g, const Model& model, const GraphInputs& in, int l, Value rope,
                     Value& x, Value& y, Value* extra) {
    const HParams& hp = model.hparams();
    const LayerWeights& w = model.weights().layers[size_t(l)];
    const LayerParams& p = hp.layers[size_t(l)];
    const QkvParams qkv = {p.n_heads,
                           p.n_kv_heads,
                           p.head_dim,
                           p.sliding ? hp.rope_dims_swa : hp.rope_dims,
                           hp.rms_eps,
                           /*interleaved=*/hp.rope_interleaved,
                           hp.norm_v,
                           /*v_from_k=*/p.owns_kv && !w.attn_v};
    const Value q_norm = g.weight(w.attn_q_norm),
                cache = g.kv(in.kv_device_copies && g.part() == 1 &&
                                     in.kv_device_copies[p.kv_source].buffer
                                 ? in.kv_device_copies[p.kv_source]
                                 : in.kv[p.kv_source]);
    const bool last = l == last_owner(hp);

    Value q = kNone;
    if (p.owns_kv) {
        if (!last) q = g.matmul(g.weight(w.attn_q), y);
        const Value k = g.matmul(g.weight(w.attn_k), y);
        const Value v = w.attn_v ? g.matmul(g.weight(w.attn_v), y) : g.empty(k, g.value(k).width);
        g.qkv_norm_rope(q, k, v, q_norm, g.weight(w.attn_k_norm), rope, qkv);
        g.kv_store(cache, k, v);
        store_copies(g, in, l, k, v);
    }
    if (last) {
        x = g.gather_rows(x);
        y = g.gather_rows(y);
        if (extra && *extra != kNone) *extra = g.gather_rows(*extra);
    }
    if (q == kNone) {
        q = g.matmul(g.weight(w.attn_q), y);
        g.qkv_norm_rope(q, kNone, kNone, q_norm, kNone, rope, qkv);
    }
    return g.attend(cache, q,
                    {p.n_heads, p.n_kv_heads, p.head_dim, p.sliding ? hp.window : 0,
                     hp.attention_scale, /*softcap=*/0,
                     /*past_only=*/0});
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
