// Chooses the draft lengths of all sequences of a batch together: every draft is a row of the one
// run that all of them wait for. It maximises the sum over the sequences of log(expected tokens /
// time of the round), from measured times by number of rows (CountCosts) and each sequence's
// measured acceptance (DraftLength). By that sum no gain of one sequence pays for a greater loss of
// another, relative to what each has; no sequence falls below kFloor of its speed without drafts.
//
// A batch owns one. It knows no thread, clock or device: equal numbers give equal lengths.
#pragma once
#include <limits.h>
#include <stdint.h>

#include <functional>
#include <vector>

#include "speculative/count_costs.h"
#include "speculative/draft_length.h"

namespace pillion {

class RowBudget {
  public:
    static constexpr double kFloor = 0.85;

    RowBudget();

    // What the budget remembers of a sequence between two rounds. It belongs to the sequence.
    struct History {
        int length = -1;      // chosen for its last round; -1: none yet
        int idle = 0;         // rounds without a draft
        int retry_after = 0;  // idle rounds before the next try; 0: not idle
        int tries = 0;        // rounds of the running try
        double before = 0;    // acceptance(0) before the try's last round
    };
    // One sequence's part of the next run.
    struct Entry {
        DraftLength* acceptance = nullptr;
        History* history = nullptr;
        // Most drafts: room in the context and the outputs, tokens wanted, the drafter (0: none).
        int most = 0;
        int fixed = -1;  // >= 0: exactly this many drafts
        int length = 0;  // positions held
    };
    struct Limits {
        int other_rows = 0;       // rows of prompts in the same run
        int most_rows = INT_MAX;  // of rounds; fixed lengths may exceed it
    };
    // One draft length per entry.
    void choose(const std::vector<Entry>& entries, const Limits& limits, std::vector<int>& lengths);

    // What a run took.
    struct Outcome {
        int n_entries = 0;
        int rows = 0;           // of the entries: each one's token and its drafts
        int other_rows = 0;     // of prompts
        int64_t positions = 0;  // held by all entries, summed
        double run_ms = 0;
        // The draft: its steps (0: none), the sequences in it, and its whole time.
        int steps = 0, n_drafting = 0;
        double draft_ms = 0;
    };
    void update(const Outcome& outcome);

    // Measured times of runs without prompts by rows, and of a draft step by sequences.
    const CountCosts& run_costs() const { return run_; }
    const CountCosts& step_costs() const { return step_; }

  private:
    static constexpr int kMax = DraftLength::kMax;
    // A change of lengths must promise this factor for each user. Noise would make lengths flicker
    // otherwise. Drafts end where plain rounds are better at all.
    static constexpr double kMargin = 1.02;
    // New lengths keep a distance from the floor, so that noise does not take them below it.
    static constexpr double kNewFloor = 1.03 * kFloor;

    struct Rider {
        double tokens[kMax + 1];  // expected, by length
        double luck;              // factor of the drafts' tokens that the measurements allow
        int least, most;          // lengths

        // The tokens of a length at the best acceptance that the measurements allow.
        double lucky(int length) const { return 1 + luck * (tokens[length] - 1); }
    };
    struct Plan {
        std::vector<int> lengths;
        int rows = 0, longest = 0, drafting = 0;
        double log_tokens = 0;  // summed
        double ms = 0, value = 0;
    };
    // A number of rows that was asked for in order to measure it.
    struct Asked {
        int times = 0;
        int64_t at = 0;
    };

    // row_budget.cpp: the choice from what is known
    void gather(const std::vector<Entry>& entries, const Limits& limits);
    void fill_curves(CountCosts::View view);
    void set(Plan& plan, size_t i, int length) const;
    void price(Plan& plan) const;
    double least_share(const Plan& plan) const;
    void grow(Plan& plan, int rows, const std::function<void(const Plan&)>& visit) const;
    void consider(const Plan& plan, Plan& best);
    bool lift(const Plan& from);
    int rows_within_reach() const;
    void solve();
    bool recall(const std::vector<Entry>& entries);
    void pick(const std::vector<Entry>& entries);

    // row_budget_measuring.cpp
    bool wants_plain();
    bool look();
    bool look_again();
    bool retry(const std::vector<Entry>& entries, const Plan& plan);
    bool find_tries(const std::vector<Entry>& entries);
    void begin_tries(const std::vector<Entry>& entries, bool hopeless);
    bool is_hopeless(const std::vector<Entry>& entries);
    double loss(const Plan& plan) const;
    void spend(const Plan& plan, double feared);
    void fill_purse(double round_ms);
    Asked& asked(int rows);

    CountCosts run_, step_;
    // Time of each row beyond one per entry in a run with prompts, by the size of the prompts' rows
    // (size_class).
    CountCosts mixed_;
    std::vector<Asked> asked_;  // by rows
    int64_t runs_ = 0;
    size_t last_entries_ = 0;
    int since_look_ = 0;
    // For rounds whose use is what they measure, in rounds at the best known lengths.
    double purse_ = 0.5;
    // Such a round under way.
    struct {
        double ms = 0;      // of a round at the best known lengths; 0: none is under way
        double tokens = 0;  // expected, in those of such a round
        double most = 0;    // may be lost, as far as is known
    } spent_;

    // Of the choice under way.
    std::vector<Rider> riders_;
    std::vector<double> run_curve_, step_curve_, mixed_curve_, hope_curve_;  // ms
    // plain: all drafts at their least. chosen: by measured costs. lifted: lift()'s result.
    Plan plain_, chosen_, recalled_, best_, lifted_, looked_, tried_;
    std::vector<char> again_;   // a try that goes on
    std::vector<char> starts_;  // a try that begins
    int other_rows_ = 0, most_rows_ = 0;
    int64_t positions_ = 0;
    double weight_ = 0;  // users who wait for the run
};

}  // namespace pillion
