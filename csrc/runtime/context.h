// One sequence on one model: cache, plans, the tokens so far. One caller at a time (api/ guards
// that); cancel() from any thread.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "core/work.h"
#include "model/model.h"
#include "runtime/activation_stats.h"
#include "runtime/kv_cache.h"
#include "runtime/plan_cache.h"
#include "runtime/sampler.h"

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

class Context {
  public:
    Context(std::shared_ptr<Model> model, const ContextOptions& options);

    const Model& model() const { return *model_; }
    int n_ctx() const { return n_ctx_; }
    int n_batch() const { return n_batch_; }
    Flash flash() const { return flash_; }
    bool swa_full() const { return swa_full_; }
    int n_snapshots() const { return n_snapshots_; }
    // Where the last prompt ended that the sequence still begins with: the next text will leave it
    // about there.
    int prompt_end() const { return prompt_end_; }
    int length() const { return kv_.length(); }
    const std::vector<int32_t>& tokens() const { return tokens_; }
    const KvCache& kv() const { return kv_; }
    Queue& queue() const { return *places_[Part::back].queue; }  // of the layers on the device
    // The one that runs on a backend: the model's own, or one that is made for a drafter elsewhere.
    Queue& queue_on(Backend& backend);
    bool on_device() const;  // some of its runs or copies are on a backend that is not the host's
    // Lets `backend` read the caches that a drafter needs, by copies where it can't in place.
    // Tokens that the context holds run again.
    void replica_on(Backend& backend);
    Json placement_json() { return plans_.get(1).to_json(); }
    // Changes with everything that changes the sequence or its outputs.
    uint64_t generation() const { return generation_; }
    int n_outputs() const { return out_rows_; }  // of the last eval
    int n_outputs_max() const { return n_outputs_max_; }

    // Runs `n` tokens after the present ones; the last `n_outputs` get logits, hidden rows and
    // argmax_tokens. Throws; the length is then what it was.
    void eval(const int32_t* tokens, size_t n, int n_outputs);
    // As eval of `rows` tokens with an output each, where all but the first of them are made by a
    // plan that was enqueued before on queue() and leaves them in token_slots(1, rows - 1): both
    // run without a word from the host in between. `tokens` gets them.
    void eval_after_draft(int32_t first, int rows, std::vector<int32_t>& tokens);
    static constexpr int kTokenRowsMin = 16;
    Tensor token_slots(int first, int rows)
        const;  // of the buffer that runs take their tokens from; at least kTokenRowsMin of them
    // Holds exactly these tokens afterwards, with one output. Returns how many were kept. The first
    // `prompt` of them (0: all) are one.
    size_t sync(const int32_t* tokens, size_t n, size_t prompt = 0);
    // A part of that: at most n_rows tokens, never the last, without outputs.
    size_t read(const int32_t* tokens, size_t n, size_t n_rows);
    // Tokens, less than n, that a text begins with and that this one begins with too; and how many
    // of those sync would keep.
    size_t common(const int32_t* tokens, size_t n) const;
    size_t usable(size_t common) const;
    void rewind(size_t length);
    // Drops rows of the last eval, as a rejected draft; its outputs stay readable. Always a
    // counter.
    void drop_last(int n_rows);

    const float* logits(int row) const;
    const float* hidden(int row) const;
    int32_t argmax(int row) const;  // most likely token
    // log p(tokens[i + 1] | tokens[0 .. i]); clears the context first.
    void score(const int32_t* tokens, size_t n, float* logprobs);
    // The mean of all positions' hidden rows, [n_embd]; clears the context first. Its tokens stay.
    void embed(const int32_t* tokens, size_t n, float* mean);

    // Null unless the context was made to collect. A weight sees the rows that are computed: behind
    // the last cache only those with outputs, so score(), where all have them, is the call to
    // collect with.
    const ActivationStats* activations() const { return activations_.get(); }

    void cancel() { set_cancel(true); }
    void clear_cancel() { set_cancel(false); }
    // What eval of n more tokens would ask of the machine; n_outputs as there.
    Work work(size_t n, int n_outputs) const;
    MachineLimits limits();  // measured on the context's own threads
    std::string to_json();
    ContextMemory memory() const;
    void compile_all() {
        plans_.get(n_batch_);
    }  // also the plan of long runs, which otherwise waits for the first

  private:
    // Logits stay on the device until somebody wants them: a greedy step reads an argmax and no
    // more.
    struct Outputs {
        std::unique_ptr<Buffer> buffer, scores;
        Tensor hidden, logits, argmax_tokens;
        int rows = 0;
    };
    // Rows of logits as the host has them, where it can't look at `scores` itself.
    struct Fetched {
        std::unique_ptr<Buffer> buffer;  // of the backend's, which it copies to without a detour
        std::vector<uint8_t> rows;
    };
    void fetch_logits(const Outputs& outputs, int row, float* to) const;
    Outputs make_outputs(int rows) const;
    Outputs make_hidden_rows(int rows) const;
    void start_over(const int32_t* tokens, size_t n);
    std::vector<PartPlace> make_places();
    void set_cancel(bool cancel);
    CompileOptions compile_options() const;
    void check_tokens(const int32_t* tokens, size_t n) const;
    size_t chunk_rows(size_t n, int n_outputs) const;
    void run_or_go_back(const int32_t* tokens, size_t n, int n_outputs);
    void run_chunks(const int32_t* tokens, size_t n, int n_outputs);
    void run(const int32_t* tokens, int rows, int out_rows, PlanCache& plans);
    void start_and_wait(int rows, int out_rows, PlanCache& plans);
    void drop_to(int length);
    int go_back(int length);
    void expect_return(int prompt_end);
    size_t begin_text(const int32_t* tokens, size_t n, size_t prompt);
    const Tensor& output(int row, const Tensor& t) const;
    void invalidate_outputs();

    std::shared_ptr<Model> model_;
    int n_ctx_, n_batch_, n_outputs_max_, n_threads_;
    Flash flash_;
    bool swa_full_;
    int n_snapshots_;
    KvCache kv_;
    struct OwnQueue {
        Backend* backend;
        std::unique_ptr<Queue> queue;
    };
    static constexpr size_t kQueuesMax = 4;
    OwnQueue queues_[kQueuesMax];  // one per backend
    std::atomic<size_t> n_queues_{0};
    std::vector<PartPlace> places_;  // by Part
    std::unique_ptr<Buffer> token_buffer_;
    Outputs outputs_;
    mutable Fetched fetched_;
    std::unique_ptr<ActivationStats> activations_;
    PlanCache plans_;
    std::vector<int32_t> tokens_;
    int out_rows_ = 0;
    int prompt_end_ = 0;
    uint64_t generation_ = 0;
};

// The sampler's token from an output row, of those that the mask allows.
int32_t sample_output(Sampler& sampler, const Context& context, int row, TokenMask mask = {});

// max + log sum exp(x - max), in double.
double log_sum_exp(const float* x, size_t n);

}  // namespace pillion
