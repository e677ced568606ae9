// Chooses how many tokens to draft, from measurements on the current sequence: how often the draft
// at each position is accepted, what a draft of k tokens costs, and what a run of the target over
// k+1 rows costs (RunCosts). The length with the most expected tokens per millisecond wins. The
// length is 0 ("paused") if no length beats plain decoding; it retries now and then. While it
// drafts, a small share of the time measures again what the choice rests on: a plain token, and
// the lengths beside the chosen one.
//
// A drafter that reads the text itself (Unread) must first show that it pays. It gets trials of a
// few rounds, each when the budget covers the worst loss, reading included. Once it earns more than
// it costs, it stays in use until it no longer does.
#pragma once
#include <limits.h>
#include <stdint.h>

#include <algorithm>

#include "speculative/draft_budget.h"
#include "speculative/run_costs.h"

namespace pillion {

class DraftLength {
  public:
    static constexpr int kMax = 8;
    static_assert(RunCosts::kMost == kMax + 1, "a token and its drafts");

    struct Choice {
        int n = 0;  // 0: don't draft
        // A drafter that is further behind reads this many tokens from the end of the text.
        int window = INT_MAX;
    };
    // tokens that the drafter read before a draft; a part of its time
    struct Reading {
        int tokens = 0;
        double ms = 0;
    };

    void begin_text() { budget_.begin_text(); }  // every text has its own budget
    int choose();                                // for the next round; 0: no draft
    Choice choose(const Unread& unread);
    // what choose() would return, without counting a round
    int best() const;
    // Call after each round, also after one of a given length.
    struct Outcome {
        // Of the drafter's tokens; a token that was not run counts as refused.
        int drafted = 0, accepted = 0;
        int kept = 0;  // drafted tokens that were run
        // rows of the run: 1, the kept drafts, and the caller's tokens behind them
        int rows = 1;
        // 0 without a draft; includes the reading
        double draft_ms = 0;
        double verify_ms = 0;
        Reading reading;
        // Of the drafted, the first ones: not the drafter's but of the text.
        int looked_up = 0;
    };
    void update(const Outcome& outcome);
    // As update(), of a round among those of others, whose times are not its own.
    void count(int drafted, int accepted, int looked_up = 0);
    bool paused() const { return paused_; }
    const char* why_not() const;  // why choose() returned 0
    double acceptance(int position) const;
    double acceptance_error() const;    // standard error of acceptance(0)
    double tokens_per_ms(int k) const;  // expected; k = 0: plain
    // P(accepted) of the next round's first n drafts, which are not the drafter's: acceptance()
    // returns these until the next call. 0: all are the drafter's.
    void expect(const double* chances, int n);
    // Expected tokens per ms at the best length, drafts or none.
    double best_rate() const { return tokens_per_ms(std::max(0, best())); }
    // acceptance(0) stays and counts as little as a few tries: it may have changed since.
    void doubt_acceptance();

  private:
    double counted_acceptance(int position) const;
    int best_draft() const;
    int steady_best() const;
    int cautious_best() const;
    double loss_of(int k) const;
    int look(int k);
    double verify_cost(int rows) const { return verify_.ms(rows); }
    double draft_cost(int k) const;
    Choice choose_in_use(const Unread& unread);
    Choice choose_trial(const Unread& unread);
    double read_cost(int tokens) const;
    double worst_loss(int k) const;
    double expected_gain() const;
    int window(const Unread& unread, double purse) const;
    void pause();
    bool is_hopeless() const;
    void begin_trial();
    void update_trial(int accepted, double gain);
    void account(const Outcome& outcome);

    // A running time that forgets slowly and resists cold starts and outliers.
    struct Cost {
        double ms = 0;  // 0: not measured yet
        int n = 0;
        void add(double value, double smooth, double outlier);
    };

    double expected_[kMax] = {};  // see expect()
    int n_expected_ = 0;
    // Decaying counts. hits: accepted, given that the drafts before it were.
    double hits_[kMax] = {}, tries_[kMax] = {};
    RunCosts verify_;
    Cost draft_per_token_, read_per_token_;
    bool paused_ = false;
    int trials_ = 0;  // trials of short drafts before pausing
    int plain_rounds_ = 0, rounds_ = 0, retry_after_ = kRetryFirst;
    int last_ = 0;  // the last length of the solo choice
    // What looks at other lengths may still lose, in ms.
    double purse_ = 0;
    static constexpr int kRetryFirst = 32, kRetryMost = 512;

    // For a drafter that reads the text.
    DraftBudget budget_;
    // Unread::share; 0: it does not read
    double share_ = 0;
    Cost plain_;  // a plain round; slower than that of verify_
    bool in_use_ = false;
    struct Trial {
        int rounds = 0;  // so far; 0: no trial is running
        int accepted = 0;
        double gain = 0;  // in plain tokens, without the reading
    } trial_;
};

}  // namespace pillion
