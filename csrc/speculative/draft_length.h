// How many tokens to draft. Everything is measured on the sequence at hand: how often the draft at each position is accepted, what a
// draft of k tokens costs, what a run of the target over 1 + k rows costs. The length with the most expected tokens per
// millisecond wins; 0 ("parked") when no length beats plain decoding, with a retry now and then.
#pragma once
#include <stdint.h>

namespace pillion {

class DraftLength {
  public:
    static constexpr int kMax = 8;

    int pick();                    // for the next round; 0: don't draft
    int best() const;              // what it would be, without counting as a round
    void update(int drafted, int accepted, double draft_ms, double verify_ms);
    bool parked() const { return parked_; }
    double acceptance(int position) const;
    double tokens_per_ms(int k) const;    // expected; k = 0: plain

  private:
    int best_draft() const;
    double verify_cost(int rows) const;
    double draft_cost(int k) const;

    // A time that forgets slowly and is not fooled by a cold start or a hiccup.
    struct Cost {
        double ms = 0;             // 0: not measured yet
        int n = 0;
        void add(double value);
    };

    double hits_[kMax] = {}, tries_[kMax] = {};            // decaying counts; hits: accepted given that those before were
    Cost verify_[kMax + 2], draft_per_token_;
    bool parked_ = false;
    int trials_ = 0;               // of short drafts, before parking
    int plain_rounds_ = 0, rounds_ = 0, retry_after_ = kRetryFirst;
    static constexpr int kRetryFirst = 32, kRetryMost = 512;
};

}  // namespace pillion
