// What a context is and costs: its description, its memory, the work of a run.
#pragma once
#include <string>

#include "core/work.h"
#include "runtime/context.h"

namespace pillion {

// Bytes of a context, beside the weights. The full and the sliding layers that own a cache, apart.
struct ContextMemory {
    struct Kv {
        int layers = 0, positions = 0;
        size_t bytes = 0;
    } full, sliding;
    size_t snapshots = 0;  // of the sliding caches, on the host, when all have been taken
    size_t scratch = 0;    // of the plans compiled so far
    size_t outputs = 0;    // logits, hidden rows, tokens
};
ContextMemory memory_of(const Context& context);

// {"n_ctx", "n_batch", "n_threads", "length", ..., "kv": [...], "backend", "plan": [...]}
std::string context_json(Context& context);
// Where each op of a run of one token runs: Plan::to_json.
Json placement_json(Context& context);

// What eval of n more tokens would ask of the machine; n_outputs as there.
Work work_of(const Context& context, size_t n, int n_outputs);
MachineLimits limits_of(Context& context);  // measured on the context's own threads

}  // namespace pillion
