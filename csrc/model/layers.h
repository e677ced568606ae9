// Parts of a forward pass that the architectures share.
#pragma once
#include "model/model.h"

namespace pillion {

// Queries, keys and values of layer l from its normed input y, rotation, cache, attention: [rows,
// n_heads * head_dim], before the output projection. A layer that owns no cache has queries only
// and reads the cache of its kv_source.
//
// In the last layer that owns a cache the rows whose output nobody wants have done their duty once
// keys and values are stored: from its queries on only Rows::out are computed. x, y and (where
// given) extra are replaced by their wanted rows there.
Value self_attention(Graph& g, const Model& model, const GraphInputs& in, int l, Value rope,
                     Value& x, Value& y, Value* extra = nullptr);

// Final norm, head, soft-cap, argmax, into the caller's buffers.
void finish_graph(Graph& g, const Model& model, const GraphInputs& in, Value x);

}  // namespace pillion
