// Parts of a forward pass that the architectures share.
#pragma once
#include "model/model.h"

namespace pillion {

// Self-attention of layer l over its normed rows: [rows, n_heads * head_dim], before the output
// projection. A layer that owns no cache has queries only and reads the cache of its kv_source.
//
// Behind the last layer that owns a cache (HParams::last_kv_layer) only the rows whose output
// somebody wants are computed. That layer still needs keys and values of all rows, so its page says
//
//     attention.project_kv(y);
//     narrow(g, x, y);
//
// before attend(y), whose queries are then of the wanted rows alone. Those see no row ahead: rows
// of an image that do have no output.
class SelfAttention {
  public:
    SelfAttention(Graph& g, const Model& model, const GraphInputs& in, int l, Value rope);

    // Keys and values of y, rotated, into the cache and its copies.
    void project_kv(Value y);

    // Queries of y attend to the cache. Projects keys and values first where the layer owns a cache
    // and project_kv has not done it: the three then share one pass over y.
    Value attend(Value y);

  private:
    void rotate_and_store(Value q, Value y);

    Graph& g_;
    const HParams& hp_;
    const LayerParams& p_;
    const LayerWeights& w_;
    const KvPlaces& kv_;
    const Tensor& until_;
    int l_;
    Value rope_;
    bool stored_;  // nothing to store, or stored already
};

// Replaces each by its wanted rows (Rows::run -> Rows::out); kNone stays.
template <class... Values>
void narrow(Graph& g, Values&... values) {
    ((values = values == kNone ? kNone : g.gather_rows(values)), ...);
}

// Final norm, head, soft-cap, argmax, into the caller's buffers.
void finish_graph(Graph& g, const Model& model, const GraphInputs& in, Value x);

}  // namespace pillion
