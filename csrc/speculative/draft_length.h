// How many tokens to draft. Everything is measured on the sequence at hand: how often the draft at
// each position is accepted, what a draft of k tokens costs, what a run of the target over 1 + k
// rows costs. The length with the most expected tokens per millisecond wins; 0 ("paused") when no
// length beats plain decoding, with a retry now and then.
//
// A drafter that reads the text itself (Unread) must show first that it pays: it is tried for a few
// rounds at a time, when the budget covers what they lose at worst, reading included. Once it earns
// more than it costs it is in use until it no longer does.
#pragma once
#include <limits.h>
#include <stdint.h>

#include "speculative/draft_budget.h"

namespace pillion {

class DraftLength {
  public:
    static constexpr int kMax = 8;

    struct Choice {
        int n = 0;  // 0: don't draft
        // The drafter, where it is further behind, reads so many tokens from the end of the text.
        int window = INT_MAX;
    };
    struct Reading {  // by the drafter, before a draft: part of its time
        int tokens = 0;
        double ms = 0;
    };

    void begin_text() { budget_.begin_text(); }  // a budget is one text's
    int choose();                                // for the next round; 0: don't draft
    Choice choose(const Unread& unread);
    int best() const;  // what it would be, without counting as a round
    // After each round, also those of a length that was given.
    struct Outcome {
        // Of the drafter's tokens; one that was not run is refused.
        int drafted = 0, accepted = 0;
        int kept = 0;         // of them, those that were run
        int rows = 1;         // of the run: 1, those kept, and what others put behind them
        double draft_ms = 0;  // 0 without a draft; holds the reading
        double verify_ms = 0;
        Reading reading;
    };
    void update(const Outcome& outcome);
    bool paused() const { return paused_; }
    const char* why_not() const;  // a choice was 0
    double acceptance(int position) const;
    double tokens_per_ms(int k) const;  // expected; k = 0: plain

  private:
    int best_draft() const;
    double verify_cost(int rows) const;
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
    void judge_trial(int accepted, double gain);
    void account(const Outcome& outcome);

    // A time that forgets slowly and is not fooled by a cold start or a outlier.
    struct Cost {
        double ms = 0;  // 0: not measured yet
        int n = 0;
        void add(double value, double smooth, double outlier);
    };

    double hits_[kMax] = {},
           tries_[kMax] = {};  // decaying counts; hits: accepted given that those before were
    Cost verify_[kMax + 2], draft_per_token_, read_per_token_;
    bool paused_ = false;
    int trials_ = 0;  // of short drafts, before pausing
    int plain_rounds_ = 0, rounds_ = 0, retry_after_ = kRetryFirst;
    static constexpr int kRetryFirst = 32, kRetryMost = 512;

    // Of a drafter that reads.
    DraftBudget budget_;
    double share_ = 0;  // Unread::share; 0: it doesn't
    Cost plain_;        // of a plain round, slower than verify_[1]
    bool in_use_ = false;
    struct Trial {
        int rounds = 0;  // so far; 0: none goes on
        int accepted = 0;
        double gain = 0;  // in plain tokens, reading left out
    } trial_;
};

}  // namespace pillion
