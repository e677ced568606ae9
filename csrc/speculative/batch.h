// Several sequences on weights that are read once: their rounds, and parts of their prompts, in one
// run. A sequence is a Context, its round a Pair. The batch has the machine that they share: a
// runner with a pool of KV pages, and one assistant that drafts for all. On a device that can't run
// rows of several sequences at once (Backend::batches) each sequence has a runner of its own, and
// runs follow one another: right, and slower.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "speculative/pair.h"

namespace pillion {

struct BatchOptions {
    int n_sequences = 4;  // 1 .. kMost
    // Positions that all sequences together may hold in full layers, rounded up to pages; 0:
    // n_sequences * n_ctx
    int64_t n_positions = 0;
    static constexpr int kMost = 64;
};

// One sequence's part of a run: a round, or with `tokens` a part of its prompt.
struct BatchEntry {
    Pair* pair = nullptr;
    Sampler* sampler = nullptr;  // of a round; of a prompt: null leaves its first token to a round

    // A text that the sequence is to hold, [n_tokens]. At most n_rows tokens of it run now, behind
    // those that it holds already.
    const int32_t* tokens = nullptr;
    size_t n_tokens = 0, n_rows = 0;

    int n_draft = kDraftAuto;  // as for Pair::step
    size_t n_max = 1;
    // After draft(): what the drafter proposed. The caller may shorten or replace it before run().
    std::vector<int32_t> drafts;

    // Results. code: why this entry had no part in the run; the others had.
    Status code = Status::ok;
    std::string error;
    size_t n_reused = 0, n_ran = 0, n_left = 0;  // tokens of a prompt
    bool has_run = false;                        // take() has something to take
};

struct BatchStats {
    uint64_t runs = 0, rows = 0;  // with rows of at least one entry
    int last_rows = 0, last_entries = 0;
    double last_draft_ms = 0, last_run_ms = 0;
};

class Batch {
  public:
    // As Context and Pair. n_outputs 0: enough for all sequences with full drafts.
    Batch(std::shared_ptr<Model> model, DrafterKind kind, std::shared_ptr<Model> drafter,
          const ContextOptions& options, const PairOptions& pair, const BatchOptions& batch);

    // A sequence, alive as long as its context. Throws Error{context_full} if there are n_sequences
    // already.
    std::shared_ptr<Context> make_context();
    std::unique_ptr<Pair> make_pair(std::shared_ptr<Context> context);

    bool is_batched() const { return runner_ != nullptr; }
    std::string why_in_turn() const;  // "": it is batched
    int n_sequences() const { return batch_.n_sequences; }
    // > 0: on its device the bits of a row depend on the other rows of longer runs. Then a run
    // takes rounds of at most so many rows, or prompts: with rounds beside them, prompts wait
    // (n_ran 0).
    int few_rows() const { return few_rows_; }
    int n_pages() const { return runner_ ? runner_->pool()->n_pages() : 0; }
    int n_free_pages() const { return runner_ ? runner_->pool()->n_free_pages() : 0; }
    const BatchStats& stats() const { return stats_; }

    // The three steps of a round, for all entries. An entry that fails by itself says so in `code`,
    // and the others go on. What throws fails all: every sequence is then as before the step (or,
    // run in turn after a broken run, at a shorter length that it reports).
    void draft(std::vector<BatchEntry>& entries);
    void run(std::vector<BatchEntry>& entries);
    RoundInfo take(BatchEntry& entry, const Choosing& choosing, std::vector<int32_t>& out);
    // Gives up the rounds that draft() began or run() ran.
    void abandon(std::vector<BatchEntry>& entries);

    // {"batched", "why", "n_sequences", "n_ctx", "n_batch", "n_outputs", "few_rows", "n_pages",
    // "page"}
    std::string to_json() const;

    // Runs the body. False: it threw, and the entry says why.
    template <class F>
    static bool try_entry(BatchEntry& entry, F&& body) {
        try {
            body();
            return true;
        } catch (const Error& e) {
            entry.code = e.code(), entry.error = e.what();
        } catch (const std::bad_alloc&) {
            entry.code = Status::out_of_memory, entry.error = "out of memory";
        }
        return false;
    }

    void cancel() { runner_ ? runner_->cancel() : cancel_in_turn(); }
    void clear_cancel();

  private:
    struct Part {
        BatchEntry* entry;
        RunPart run;
        bool completes;  // its prompt
    };
    void choose_lengths(std::vector<BatchEntry>& entries, std::vector<int>& lengths);
    void draft_in_turn(std::vector<BatchEntry>& entries);
    void run_in_turn(std::vector<BatchEntry>& entries);
    void add_round(BatchEntry& entry, std::vector<Part>& parts);
    void add_prompt(BatchEntry& entry, std::vector<Part>& parts, size_t rows_left);
    void check_room(const std::vector<Part>& parts) const;
    void check_pages(const KvCache& kv, int rows, std::vector<Part>& parts) const;
    void run_parts(std::vector<Part>& parts);
    void measured(const std::vector<Part>& parts, double run_ms);
    void cancel_in_turn();

    std::shared_ptr<Model> model_, drafter_model_;
    DrafterKind kind_;
    ContextOptions options_;
    PairOptions pair_options_;
    BatchOptions batch_;
    int few_rows_ = 0;
    std::shared_ptr<Runner> runner_;    // null: in turn
    std::shared_ptr<Drafter> drafter_;  // the assistant of all
    std::vector<std::weak_ptr<Context>> contexts_;
    BatchStats stats_;
    RowBudget budget_;
};

}  // namespace pillion
