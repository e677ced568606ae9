// What may be lost on a drafter that reads the text itself before it can draft. A retry after plain
// rounds catches up on all of them, which can cost more than its drafts ever bring; so trials are
// paid out of a small share of the text written, and never on credit. All sums are in plain tokens:
// the time that one takes without a draft.
#pragma once
#include <algorithm>

namespace pillion {

// Tokens that a drafter has to read before its next draft; 0 and 0: it follows the text for
// nothing.
struct Unread {
    int all = 0;     // to know the whole text
    int behind = 0;  // to go on from what it knows, which may be the end of the text only
    // Of a plain token's time that a step of the drafter takes, guessed; 0: it never reads.
    double share = 0;
};

class DraftBudget {
  public:
    // What it grants is 1.5 % of a text, so that with what can't be foreseen a text is never below
    // 0.98 of its plain speed from the kBegin-th token on.
    static constexpr double kShare = 0.015;
    static constexpr int kBegin = 64;
    static constexpr double kMost = 32;  // kept for later

    void begin_text() { *this = DraftBudget(); }
    void wrote(int tokens) {
        const int before = std::max(tokens_, kBegin);
        tokens_ += tokens;
        add(kShare * (std::max(tokens_, kBegin) - before));
    }
    // Negative: spent.
    void add(double plain_tokens) { balance_ = std::min(kMost, balance_ + plain_tokens); }
    double balance() const { return balance_; }
    // For a drafter that has shown what it can, who expects this to come back.
    void lend(double plain_tokens) { shared_table_ = std::max(shared_table_, plain_tokens); }
    bool is_overdrawn() const { return balance_ + shared_table_ < 0; }

  private:
    int tokens_ = 0;
    double balance_ = kShare * kBegin, shared_table_ = 0;
};

}  // namespace pillion
