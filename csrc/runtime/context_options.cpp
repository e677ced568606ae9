#include "runtime/context_options.h"

#include <algorithm>

#include "runtime/kv_snapshots.h"

namespace pillion {
namespace {

constexpr int kDefaultContext = 4096, kDefaultBatch = 512, kDefaultOutputs = 16;
constexpr int kContextMax = 1 << 24;

int pick_n_ctx(const Model& model, int asked) {
    if (asked < 0 || asked > kContextMax)
        fail(Status::invalid_argument, "n_ctx %d, allowed are 1 to %d", asked, kContextMax);
    return asked > 0 ? asked : std::min(model.hparams().n_ctx_train, kDefaultContext);
}

int pick_within(const char* name, int asked, int fallback, int limit) {
    if (asked < 0) fail(Status::invalid_argument, "%s %d must not be negative", name, asked);
    return std::min(asked > 0 ? asked : fallback, limit);
}

void check_snapshots(int asked) {
    if (asked < -1 || asked > KvSnapshots::kMost)
        fail(Status::invalid_argument, "n_snapshots %d, allowed are -1 (none) to %d", asked,
             KvSnapshots::kMost);
}

void check_runnable(const Model& model) {
    model.backend();
    if (model.is_drafter())
        fail(
            Status::pairing,
            "%s is a Gemma 4 assistant: it has no cache of its own and needs a target to draft for",
            model.file().path().c_str());
}

}  // namespace

ContextOptions checked_options(const Model& model, const ContextOptions& asked) {
    check_runnable(model);
    ContextOptions o = asked;
    o.n_ctx = pick_n_ctx(model, o.n_ctx);
    o.n_batch = pick_within("n_batch", o.n_batch, kDefaultBatch, o.n_ctx);
    o.n_outputs = pick_within("n_outputs", o.n_outputs, kDefaultOutputs, o.n_batch);
    o.n_threads = pick_within("n_threads", o.n_threads, 0, 256);
    check_snapshots(o.n_snapshots);
    return o;
}

}  // namespace pillion
