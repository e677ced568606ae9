// The machine that runs rows: places, queues, buffers, plans and a pool of KV pages. A solo context
// has one for itself, the contexts of a batch share one. One caller at a time; cancel() from any
// thread.
#pragma once
#include <memory>
#include <vector>

#include "model/model.h"
#include "runtime/activation_stats.h"
#include "runtime/context_options.h"
#include "runtime/kv_cache.h"
#include "runtime/outputs.h"
#include "runtime/plan_cache.h"
#include "runtime/queue_set.h"

namespace pillion {

// Rows of one sequence in a run: they follow its cache, and the last n_outputs of them get outputs.
struct RunPart {
    KvCache* kv;
    const int32_t* tokens;  // [n_rows]; null: they lie in the token buffer, or will before the run
    int n_rows, n_outputs;
};

class Runner {
  public:
    // For one sequence; n_sequences and n_pages as in KvPoolOptions.
    Runner(std::shared_ptr<Model> model, const ContextOptions& options, int n_sequences = 0,
           int n_pages = 0);

    const Model& model() const { return *model_; }
    const ContextOptions& options() const { return options_; }  // with the defaults filled in
    bool is_shared() const { return pool_->is_shared(); }
    const std::shared_ptr<KvPool>& pool() const { return pool_; }
    Outputs& outputs() { return outputs_; }
    const Outputs& outputs() const { return outputs_; }
    PlanCache& plans() { return plans_; }
    const PlanCache& plans() const { return plans_; }
    // Plans that leave their outputs elsewhere.
    std::unique_ptr<PlanCache> make_plans(const Outputs& outputs) const;
    const ActivationStats* activations() const { return activations_.get(); }

    Queue& queue() const { return *places_[Part::back].queue; }  // of the layers on the device
    Queue& queue_on(Backend& backend) { return queues_.of(backend); }
    bool on_device() const { return queues_.has_device(); }
    void cancel() { queues_.set_cancel(true); }
    void clear_cancel() { queues_.set_cancel(false); }

    static constexpr int kTokenRowsMin = 16;
    // Of the buffer that runs take their tokens from; at least kTokenRowsMin of them.
    Tensor token_slots(int first, int rows) const;
    int32_t* token_words() const { return reinterpret_cast<int32_t*>(token_buffer_->host()); }
    const Buffer& token_buffer() const { return *token_buffer_; }
    size_t input_bytes() const;  // of tokens and rows of media

    // Texts may have rows of media from now on.
    void expect_media();

    // One run; at most n_batch rows and PILLION_SEGMENTS_MAX segments. Rows without output come
    // first, part by part, then those with. Throws; no sequence has then changed its length.
    void run(const RunPart* parts, size_t n, PlanCache& plans);
    void run(const RunPart* parts, size_t n) { run(parts, n, plans_); }
    // Lets `backend` read the caches that a drafter needs, by copies where it can't in place.
    // Returns whether copies were made, which have none of the rows so far.
    bool add_replicas(Backend& backend);

  private:
    GraphInputs graph_inputs(int rows_max, const Outputs& outputs) const;
    std::vector<PartPlace> make_places();
    CompileOptions compile_options() const;
    void place_rows(const RunPart* parts, size_t n, StepState& state);
    void place_tokens(const RunPart& part, int first, int rows, int row);
    void place_media(const RunPart& part, int first, int rows, int row);

    std::shared_ptr<Model> model_;
    ContextOptions options_;
    std::shared_ptr<KvPool> pool_;
    QueueSet queues_;
    std::vector<PartPlace> places_;  // by Part
    std::unique_ptr<Buffer> token_buffer_;
    std::unique_ptr<Buffer> media_buffer_, until_buffer_;  // null until expect_media()
    int media_rows_ = 0;                                   // of the run that is being placed
    bool has_blocks_ = false;                              // so has that run
    Outputs outputs_;
    std::unique_ptr<ActivationStats> activations_;
    PlanCache plans_;
};

// True if one run can take rows of several sequences on all devices of this placement, and on the
// drafter's (null: the same).
bool can_batch(const Placement& placement, const Backend* drafter);

}  // namespace pillion
