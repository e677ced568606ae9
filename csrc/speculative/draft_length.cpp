#include "speculative/draft_length.h"

#include <algorithm>

namespace pillion {
namespace {

constexpr double kForget = 0.98;       // a count's weight after one more round: about the last 50 rounds matter
constexpr double kSmooth = 0.2;        // of a new time in the average
constexpr int kFirst = 3;              // before anything is known
constexpr double kPrior = 2, kFirstGuess = 0.6;    // imagined tries per position: at first 0.6, further on as good as the one before
constexpr double kMargin = 1.02;       // a longer or any draft must promise this much, or noise would make lengths flicker
constexpr int kTriedBeforeParking = 3; // drafts of up to so many tokens
constexpr int kWarmUp = 3;             // of the first few the fastest counts: caches are cold, pages untouched
constexpr double kHiccup = 2;          // a slower outlier counts as this many times the average

}  // namespace

void DraftLength::Cost::add(double value) {
    if (n++ < kWarmUp) ms = ms == 0 ? value : std::min(ms, value);
    else ms += kSmooth * (std::min(value, kHiccup * ms) - ms);
}

// P(the draft at `position` is accepted | those before it were).
double DraftLength::acceptance(int position) const {
    const double guess = position == 0 ? kFirstGuess : acceptance(position - 1);
    return (hits_[position] + kPrior * guess) / (tries_[position] + kPrior);
}

// A size not measured yet is between its measured neighbours, or costs what the nearest one does per row beyond the first.
double DraftLength::verify_cost(int rows) const {
    if (verify_[rows].ms > 0) return verify_[rows].ms;
    int below = rows, above = rows;
    while (below > 0 && verify_[below].ms == 0) below--;
    while (above <= kMax + 1 && verify_[above].ms == 0) above++;
    if (below > 0 && above <= kMax + 1)
        return verify_[below].ms + (verify_[above].ms - verify_[below].ms) * (rows - below) / (above - below);
    if (below > 0) return verify_[below].ms * (1 + 0.05 * (rows - below));
    if (above <= kMax + 1) return verify_[above].ms;
    return 0;
}

double DraftLength::draft_cost(int k) const { return k * draft_per_token_.ms; }

double DraftLength::tokens_per_ms(int k) const {
    double expected = 1, all = 1;
    for (int i = 0; i < k; i++) {
        all *= acceptance(i);
        expected += all;
    }
    const double ms = verify_cost(1 + k) + draft_cost(k);
    return ms > 0 ? expected / ms : 0;
}

// The most promising draft, whether or not it beats plain decoding.
int DraftLength::best_draft() const {
    int best = 1;
    for (int k = 2; k <= kMax; k++)
        if (tokens_per_ms(k) > tokens_per_ms(best)) best = k;
    return best;
}

int DraftLength::best() const {
    if (verify_[1].ms == 0 && rounds_ < 4) return kFirst;
    int best = 0;
    double rate = tokens_per_ms(0) * kMargin;
    for (int k = 1; k <= kMax; k++)
        if (tokens_per_ms(k) > rate) best = k, rate = tokens_per_ms(k) * kMargin;
    return best;
}

int DraftLength::pick() {
    rounds_++;
    if (parked_) {
        if (++plain_rounds_ < retry_after_) return 0;
        plain_rounds_ = 0;
        retry_after_ = std::min(2 * retry_after_, int(kRetryMost));
        return best_draft();    // one round to see whether things have changed
    }
    // Plain decoding's own price must be known, or nothing can be compared with it.
    if (rounds_ == 3 && verify_[1].ms == 0) return 0;
    const int k = best();
    if (k > 0) return k;
    // Short drafts are judged by what they cost, not by a guess between longer ones.
    // Asked for a bounded number of times: a drafter may return fewer than asked.
    for (int n = 1; n <= kTriedBeforeParking && trials_ < kTriedBeforeParking * kWarmUp; n++)
        if (verify_[1 + n].n < kWarmUp) return trials_++, n;
    parked_ = true, plain_rounds_ = 0;
    return 0;
}

void DraftLength::update(int drafted, int accepted, double draft_ms, double verify_ms) {
    if (drafted + 1 <= kMax + 1) verify_[drafted + 1].add(verify_ms);
    if (drafted == 0) return;
    draft_per_token_.add(draft_ms / drafted);
    for (int i = 0; i < kMax; i++) hits_[i] *= kForget, tries_[i] *= kForget;
    for (int i = 0; i < drafted && i <= accepted; i++) {
        tries_[i]++;
        if (i < accepted) hits_[i]++;
    }
    if (parked_ && best() > 0) parked_ = false, retry_after_ = kRetryFirst;
}

}  // namespace pillion
