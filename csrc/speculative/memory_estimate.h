// What a context and its drafter would take, before anything is loaded: both are made for real, on
// weights without content, and asked.
#pragma once
#include <string>

#include "speculative/pair.h"

namespace pillion {

// JSON: {"n_ctx", "n_batch", "kv_type", "weights", "mapped", "kv": {"full": {"layers", "positions",
// "bytes"}, "sliding": ..., "snapshots", "bytes"}, "scratch", "outputs", "drafter": null or
// {"kind", "head", "weights", "mapped", "kv_bytes", "snapshots", "scratch", "outputs", "bytes"},
// "total"}, in bytes. snapshots: what copies of the sliding caches may come to, on the host; not in
// kv's bytes. total: all but what stays in the mapped files. A Gemma 4 assistant as `model` has
// weights and no context: the other fields are null. Throws what loading, making the context or
// pairing would.
std::string memory_json(const Model& model, const Model* drafter, const ContextOptions& options);

}  // namespace pillion
