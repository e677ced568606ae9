// What a context is asked to be.
#pragma once
#include "model/model.h"

namespace pillion {

struct ContextOptions {
    int n_ctx = 0;      // 0: the model's, at most 4096
    int n_batch = 0;    // 0: 512
    int n_threads = 0;  // 0: all usable
    int n_outputs = 0;  // 0: 16
    KvType kv_type = KvType::f16;
    Flash flash = Flash::automatic;
    bool swa_full = false;
    int n_snapshots = 0;  // of the sliding caches; 0: as many as fit 128 MB, 1 to 4; -1: none
    bool collect_activations = false;
};

// With the defaults of this model filled in. Throws Error: a value outside its bounds, or a model
// that has no context of its own.
ContextOptions checked_options(const Model& model, const ContextOptions& asked);

}  // namespace pillion
