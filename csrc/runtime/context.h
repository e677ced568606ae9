// One sequence on one model: its cache and the tokens so far. It runs on a Runner of its own, or on
// that of a batch. One caller at a time (api/ guards that); cancel() from any thread.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "runtime/runner.h"
#include "runtime/sampler.h"

namespace pillion {

class Context {
  public:
    Context(std::shared_ptr<Model> model, const ContextOptions& options);
    explicit Context(std::shared_ptr<Runner> runner);

    const Model& model() const { return runner_->model(); }
    const ContextOptions& options() const { return runner_->options(); }
    int n_ctx() const { return options().n_ctx; }
    int n_batch() const { return options().n_batch; }
    Runner& runner() const { return *runner_; }
    // Where the last prompt ended that the sequence still begins with: the next text will leave it
    // about there.
    int prompt_end() const { return prompt_end_; }
    int length() const { return kv_.length(); }
    const std::vector<int32_t>& tokens() const { return tokens_; }
    const KvCache& kv() const { return kv_; }
    Queue& queue() const { return runner_->queue(); }  // of the layers on the device
    // Some of its runs or copies are on a backend that is not the host's.
    bool on_device() const { return runner_->on_device(); }
    // Lets `backend` read the caches that a drafter needs, by copies where it can't in place.
    // Tokens that the context holds run again.
    void replica_on(Backend& backend);
    // Changes with everything that changes the sequence or its outputs.
    uint64_t generation() const { return generation_; }
    const OutputRows& outputs() const { return outputs_; }  // of the last eval

    // Runs `n` tokens after the present ones; the last `n_outputs` get logits, hidden rows and
    // argmax_tokens. Throws; the length is then what it was, or that of the chunks that are done
    // if the rings can't go back so far.
    void eval(const int32_t* tokens, size_t n, int n_outputs);
    // As eval of `rows` tokens with an output each, where all but the first of them are made by a
    // plan that was enqueued before on queue() and leaves them in the runner's token_slots(1, rows
    // - 1): both run without a word from the host in between. `tokens` gets them.
    void eval_after_draft(int32_t first, int rows, std::vector<int32_t>& tokens);
    // Holds exactly these tokens afterwards, with one output. Returns how many were kept. The first
    // `prompt` of them (0: all) are one.
    size_t sync(const int32_t* tokens, size_t n, size_t prompt = 0);
    // A part of that: at most n_rows tokens, never the last, without outputs.
    size_t read(const int32_t* tokens, size_t n, size_t n_rows);
    // Tokens, less than n, that a text begins with and that this one begins with too; and how many
    // of those sync would keep.
    size_t common(const int32_t* tokens, size_t n) const;
    size_t usable(size_t common) const;
    // Of n tokens that follow, how many a run takes that should take `wanted` and can take `most`:
    // no block of media is cut, so it may be more or fewer than wanted, also none.
    size_t rows_to_run(const int32_t* tokens, size_t n, size_t wanted, size_t most) const;
    void rewind(size_t length);
    // Holds these tokens, which are checked, afterwards, without outputs. fill() writes their rows
    // into the empty cache and calls its set_held(). prompt_end: see above. Throws what fill()
    // throws; the context is then empty.
    void restore(std::vector<int32_t> tokens, int prompt_end,
                 const std::function<void(KvCache&)>& fill);
    // Drops rows of the last eval, as a rejected draft; its outputs stay readable. Always a
    // counter.
    void drop_last(int n_rows);

    // ---- runs that a batch makes for several contexts ----

    // Prepares a text that `tokens` [n] begin, as sync() does; returns how many of them are there.
    size_t begin_text(const int32_t* tokens, size_t n, size_t prompt);
    // These tokens after the present ones, the last n_outputs with outputs. Throws as eval().
    RunPart part(const int32_t* tokens, size_t n, int n_outputs);
    // The run of part() has left its outputs from first_output on.
    void has_run(const RunPart& part, int first_output);
    // Lets this context hold what another one of the same batch holds, as far as their texts agree
    // and no run is needed. Returns the number of tokens.
    size_t share(const Context& other, size_t length);

    // Clears the context, then runs all tokens in pieces of at most outputs.rows_max(), each row
    // with its outputs in `outputs`; `look(first)` after each piece, whose first token has that
    // index.
    void run_all(const int32_t* tokens, size_t n, Outputs& outputs,
                 const std::function<void(size_t first)>& look);
    // How many of n tokens eval takes into its next run: all outputs come from the last one.
    // tokens: null for any without media.
    size_t rows_of_next_run(const int32_t* tokens, size_t n, int n_outputs) const;

    // Null unless the context was made to collect. A weight sees the rows that are computed: behind
    // the last cache only those with outputs, so score(), where all have them, is the call to
    // collect with.
    const ActivationStats* activations() const { return runner_->activations(); }

    void cancel() { runner_->cancel(); }
    void clear_cancel() { runner_->clear_cancel(); }
    bool cancelled() const { return queue().cancel; }

  private:
    void check_tokens(const int32_t* tokens, size_t n) const;
    void check_text(const int32_t* tokens, size_t n, size_t n_held = 0) const;
    size_t check_medium(const int32_t* tokens, size_t n, size_t i, size_t n_held) const;
    void check_outputs(const int32_t* tokens, size_t n, int n_outputs) const;
    int before_block(int length) const;
    void check_fits(size_t n) const;  // into an empty context
    void run_or_go_back(const int32_t* tokens, size_t n, int n_outputs);
    void run_chunks(const int32_t* tokens, size_t n, int n_outputs);
    void run(const int32_t* tokens, int rows, int out_rows, PlanCache& plans);
    void drop_to(int length);
    int go_back(int length);
    void expect_return(int prompt_end);
    void check_eval(size_t n, int n_outputs) const;
    void invalidate_outputs();

    std::shared_ptr<Runner> runner_;
    KvCache kv_;
    OutputRows outputs_;
    std::vector<int32_t> tokens_;
    int prompt_end_ = 0;
    uint64_t generation_ = 0;
};

}  // namespace pillion
