// A target and its drafter: one round of speculative decoding (docs/gemma4.md section 4). A round
// is undone only here. Read this file first, then pair.cpp.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "runtime/sampler.h"
#include "speculative/draft_length.h"
#include "speculative/drafter.h"
#include "speculative/row_budget.h"
#include "speculative/text_lookup.h"

namespace pillion {

constexpr int kDraftAuto = -1;

struct RoundInfo {
    int drafted = 0, accepted = 0;  // of the drafter's tokens
    int forced = 0;                 // accepted drafts of the caller
    bool ended = false;             // the last token ends the generation
    double draft_ms = 0, verify_ms = 0, accept_ms = 0;
};

struct PairStats {
    enum class State {
        on = 1,
        paused = 2,
        off = 3
    } state = State::on;  // until a step decides otherwise
    std::string reason;   // why paused or off
    uint64_t rounds = 0, tokens = 0, drafted = 0, accepted = 0, forced = 0;
    uint64_t drafted_at[kDraftMax] = {}, accepted_at[kDraftMax] = {};
    double draft_ms = 0, verify_ms = 0, accept_ms = 0;
};

// How a round's tokens are chosen: by the sampler, under a mask for each row, or by the caller.
struct Choosing {
    Sampler* sampler = nullptr;
    size_t n_max = 0;
    const int32_t* end_tokens = nullptr;
    size_t n_end = 0;
    // [rows][TokenMask::n_words]; null: all tokens
    const uint32_t* masks = nullptr;
    size_t n_mask_words = 0;  // of all rows
    // [n_chosen], the caller's choice for the first rows; null: the sampler chooses
    const int32_t* chosen = nullptr;
    size_t n_chosen = 0;
};

class Stopwatch {
  public:
    double lap_ms() {
        const auto now = std::chrono::steady_clock::now();
        const double ms = std::chrono::duration<double, std::milli>(now - start_).count();
        start_ = now;
        return ms;
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class Pair {
  public:
    // drafter: for the kinds model and assistant, else null. Without one every step is plain
    // decoding, whatever its n_draft. The pair shares ownership of the target. Throws
    // Error{invalid_argument} for options outside their limits and for a drafter that the kind does
    // not take, Error{pairing} for a drafter of another kind or one that does not fit.
    Pair(std::shared_ptr<Context> target, DrafterKind kind, std::shared_ptr<Model> drafter,
         const PairOptions& options);
    // A pair of a batch, whose pairs share one drafter (null: none).
    Pair(std::shared_ptr<Context> target, DrafterKind kind, std::shared_ptr<Drafter> drafter,
         const PairOptions& options);

    Context& target() { return *target_; }
    Drafter& drafter() const { return *drafter_; }
    // What drafts: the drafter's kind, or "lookup+mtp".
    const char* kind() const { return lookup_ ? "lookup+mtp" : drafter_->kind(); }
    std::string to_json();
    const PairStats& stats() const { return stats_; }
    void reset_stats();
    int preview_length() const { return kind_ == DrafterKind::none ? 0 : length_.best(); }

    size_t sync(const int32_t* tokens, size_t n);
    // Runs one round and appends 1 .. n_max tokens to `out`. Throws Error; the pair is then as
    // before the step, or (after a broken run) at a shorter length that the target reports.
    RoundInfo step(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens,
                   size_t n_end, std::vector<int32_t>& out);

    // The same round in three steps, for callers that look at the drafts and at the target's
    // logits. A step that throws leaves the pair as before the step.
    //
    // Returns the drafter's tokens; 0 tokens right after a prompt, and while "auto" finds that
    // drafts do not pay off.
    const std::vector<int32_t>& propose(Sampler& sampler, int n_draft, size_t n_max);
    // Runs the chosen token and these drafts, from any source, also without a proposal. Right after
    // a prompt there is nothing to run, and no draft is allowed.
    void run(const int32_t* drafts, size_t n);
    // The target's output row that is row 0 of the run.
    int first_row() const { return open_.first ? target_->outputs().rows() - 1 : 0; }
    RoundInfo take(const Choosing& choosing, std::vector<int32_t>& out);
    // Returns to the state before propose(). So does the sampler, if it is the one that propose()
    // got.
    void abandon(Sampler* sampler);
    // Most drafts of the next run.
    int next_room() const {
        refuse_open_run();
        return room();
    }

    // ---- the same round in the hands of a batch (batch.h), which drafts and runs for several ----

    // Begins a round. One whose run failed is begun again.
    void open_round(Sampler& sampler, int n_draft, size_t n_max);
    struct DraftLimits {
        int most = 0;        // room in the context, the outputs, the tokens wanted
        bool drafts = true;  // false: nothing guesses ahead
    };
    DraftLimits draft_limits(size_t n_max);
    DraftLength& acceptance() { return length_; }
    RowBudget::History& budget_history() { return history_; }
    // What to ask of the drafter, for drafts(); null: nothing. joint: n_draft was chosen together
    // with the other pairs'.
    const DraftRequest* request_draft(Sampler& sampler, int n_draft, size_t n_max, bool joint);
    std::vector<int32_t>& drafts() { return drafts_; }
    void has_drafted(double draft_ms) { open_.draft_ms = draft_ms; }
    // Checks these drafts; rows() are to run then. Without rows nothing is: the last prompt's
    // outputs are there.
    void set_rows(const int32_t* drafts, size_t n);
    const std::vector<int32_t>& rows() const { return rows_; }
    // The rows have run, alone or among those of others.
    void has_run(double verify_ms, bool alone);
    // The run failed; the target's length is what it was.
    void run_failed();
    // A prompt was begun.
    void begin_text();

    // Drafts tokens after `last` without verification.
    void draft_only(int32_t last, int n, std::vector<int32_t>& out);
    void read_step(int i, float* logits, float* hidden) const {
        drafter_->read_step(i, logits, hidden);
    }

  private:
    bool has_last() const { return last_ >= 0 && generation_ == target_->generation(); }
    // A round between its steps.
    struct Open {
        enum class Stage { none, proposed, run } stage = Stage::none;
        // right after a prompt: its last row exists, so nothing runs
        bool first = false;
        int length = 0;  // of the target, before the run
        // of the target at that time, to detect other callers' changes
        uint64_t generation = 0;
        // the drafts are enqueued, and the host has not seen them
        bool started = false;
        // drafts that the drafter was asked for
        int wanted = 0;
        // the first of drafts_, if they are of the text
        int looked_up = 0;
        // drafts of the drafter that were run
        int kept = 0;
        double draft_ms = 0, verify_ms = 0;
        Stopwatch choosing;
        bool alone = true;                 // no other sequence had rows in the run
        const Sampler* sampler = nullptr;  // the one that propose() got
        Sampler::Mark mark;
    };
    bool is_open(Open::Stage stage) const {
        return open_.stage == stage && open_.generation == target_->generation();
    }
    // of the run
    size_t n_drafts() const { return rows_.empty() ? 0 : rows_.size() - 1; }
    void begin(const Sampler* sampler);
    void look_up();
    bool draft_from_text(int k, bool draws);
    void ask_drafter(Sampler& sampler, int n_draft, size_t n_max, bool may_chain);
    void verify(const int32_t* drafts, size_t n);
    void verify_chained();
    void drop_run(int length);
    int choose_rows(const Choosing& choosing, std::vector<int32_t>& out);
    RoundInfo close(const Choosing& choosing, int last_row, size_t before,
                    const std::vector<int32_t>& out);
    void check_choosing(const Choosing& choosing) const;
    void refuse_open_run() const;
    int room() const;
    DraftLength::Choice choose_length(int n_draft, size_t n_max, bool joint);
    int32_t choose_token(const Choosing& choosing, int row);
    void remember_hidden(int row);
    void count(const RoundInfo& info, size_t n_tokens);

    std::shared_ptr<Context> target_;
    DrafterKind kind_;
    std::shared_ptr<Drafter> drafter_;
    std::unique_ptr<TextLookup> lookup_;  // null: the drafter alone drafts
    DraftRequest request_ = {};
    float p_min_;
    bool sampled_;  // drafts are drawn by the sampler
    DraftLength length_;
    RowBudget::History history_;
    PairStats stats_;
    int32_t last_ = -1;  // chosen, not yet in the cache
    // [n_embd] of the position before `last_`; empty: unknown
    std::vector<float> hidden_;
    // of the target when last_ was chosen, to detect other callers' changes
    uint64_t generation_ = 0;
    Open open_;
    std::vector<int32_t> rows_;    // last_ and the drafts of the run
    std::vector<int32_t> drafts_;  // of the drafter
    // the distribution of each drawn draft
    std::vector<Distribution> proposals_;
    std::vector<float> weights_;
};

}  // namespace pillion
