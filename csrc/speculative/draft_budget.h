// Limits the loss from a drafter that must read the text before it can draft. A retry after plain
// rounds catches up on all of them, which can cost more than its drafts ever gain. A small share of
// the written text therefore pays for trials, in advance. All amounts are in plain tokens: the time
// of one token without a draft.
#pragma once
#include <algorithm>

namespace pillion {

// Tokens that a drafter must read before its next draft. 0 and 0: it follows the text for free.
struct Unread {
    int all = 0;  // to know the whole text
    // to continue from what it knows, which may be only the end of the text
    int behind = 0;
    // Guess: time of a drafter's step, in plain tokens; 0: it never reads.
    double share = 0;
};

class DraftBudget {
  public:
    // Share of a text that trials may use. At 1.5 %, unforeseen costs included, a text stays at or
    // above 0.98 of its plain speed from the kBegin-th token on.
    static constexpr double kShare = 0.015;
    static constexpr int kBegin = 64;
    static constexpr double kMost = 32;  // most that is saved for later

    void begin_text() { *this = DraftBudget(); }
    void wrote(int tokens) {
        const int before = std::max(tokens_, kBegin);
        tokens_ += tokens;
        add(kShare * (std::max(tokens_, kBegin) - before));
    }
    // Negative amounts are spent.
    void add(double plain_tokens) { balance_ = std::min(kMost, balance_ + plain_tokens); }
    double balance() const { return balance_; }
    // Advances an amount to a drafter that has shown that it pays, and that is expected to earn it
    // back.
    void lend(double plain_tokens) { lent_ = std::max(lent_, plain_tokens); }
    bool is_overdrawn() const { return balance_ + lent_ < 0; }

  private:
    int tokens_ = 0;
    double balance_ = kShare * kBegin, lent_ = 0;
};

}  // namespace pillion
