// What a budget must measure, and what it may spend on that: plain rounds, row counts that were
// hardly ever run, and the acceptance of sequences without drafts.
#include <algorithm>
#include <cmath>

#include "speculative/row_budget.h"

namespace pillion {
namespace {

using View = CountCosts::View;

// A plain run of a number of rows that no measured neighbours enclose comes first, so often.
constexpr int kPlainFirst = 2, kPlainTries = 4;
// Rounds between two plain ones while drafting, which renew what all drafts are compared with:
// twice as many after each one, at most these doublings. Drafts that gain less than kClose need
// them more often.
constexpr int kPlainLeast = 2, kPlainMost = 7, kPlainClose = 4;
constexpr double kClose = 1.05;
// Rounds between two looks at a number of rows that may be cheaper than it seems. Looks at one
// number of rows, and rounds of a look.
constexpr int kLookAfter = 8, kLooks = 3, kLookRounds = 2;
// Share of the rounds that may be lost to measuring, and at most so many. An unexpected
// loss of one round counts as at most kLossMost: cold caches or another process caused it.
constexpr double kPurseShare = 0.010, kPurseMost = 4;
constexpr double kLossMost = 0.5;
// Limits of the loss that is feared.
constexpr double kFearLeast = 0.05, kFearMost = 0.5;
// Rounds without drafts before a try, twice as many after each one in vain; drafts of a try.
constexpr int kRetryFirst = 32, kRetryMost = 512, kTryMost = 4;

}  // namespace

bool RowBudget::wants_plain() {
    if (other_rows_ > 0 || most_rows_ == plain_.rows) return false;
    const int rows = plain_.rows, n = run_.n(rows);
    Asked& a = asked(rows);
    if (n < kPlainFirst && !run_.encloses(rows)) {
        if (a.times >= kPlainTries) return false;
    } else {
        const bool close = chosen_.value < plain_.value + weight_ * std::log(kClose);
        const int doublings = std::min(std::max(n, a.times), close ? kPlainClose : kPlainMost);
        if (runs_ - a.at < kPlainLeast << doublings) return false;
    }
    a.times++, a.at = runs_;
    return true;
}

// A number of rows that was hardly ever run may cost less than its neighbours say. Looks where the
// least possible time promises most for the loss that is feared.
bool RowBudget::look() {
    looked_ = {};
    if (other_rows_ > 0 || ++since_look_ < kLookAfter || purse_ <= 0) return false;
    since_look_ = 0;
    fill_curves(View::hopeful);
    hope_curve_ = run_curve_;
    fill_curves(View::measured);
    double best = 0, best_fear = 0;
    Plan plan = plain_;
    grow(plan, rows_within_reach(), [&](const Plan& p) {
        if (run_.n(p.rows) >= CountCosts::kSure || asked(p.rows).times >= kLooks) return;
        const double fear = loss(p),
                     hope = p.ms + hope_curve_[size_t(p.rows)] - run_curve_[size_t(p.rows)];
        const double gain = (p.log_tokens - chosen_.value) / weight_ - std::log(hope);
        const double promise = gain / (std::max(fear, 0.0) + kFearLeast);
        if (gain < std::log(kMargin) || promise <= best) return;
        // A measured time that seems long may be an error.
        const double most = run_.n(p.rows) > 0 ? std::min(fear, kFearMost) : fear;
        if (kLookRounds * most > purse_) return;
        if (least_share(p) * p.ms < kNewFloor * hope) return;
        best = promise, best_fear = fear, looked_ = p;
    });
    if (best == 0) return false;
    asked(looked_.rows).times++;
    spend(looked_, best_fear);
    return true;
}

bool RowBudget::look_again() {
    bool fits = looked_.lengths.size() == riders_.size() && run_.n(looked_.rows) == 1;
    for (size_t i = 0; fits && i < riders_.size(); i++)
        fits = riders_[i].least <= looked_.lengths[i] && looked_.lengths[i] <= riders_[i].most;
    if (!fits || looked_.rows > most_rows_ || other_rows_ > 0) return false;
    price(looked_);
    spend(looked_, loss(looked_));
    return true;
}

void RowBudget::fill_purse(double round_ms) {
    purse_ = std::min(kPurseMost, purse_ + kPurseShare);
    if (spent_.ms == 0) return;
    purse_ -= std::clamp(round_ms / spent_.ms - spent_.tokens, 0.0, spent_.most);
    spent_.ms = 0;
}

// Rounds at the chosen lengths that a round of the plan loses.
double RowBudget::loss(const Plan& plan) const {
    const double n = double(riders_.size());
    return plan.ms / chosen_.ms - std::exp((plan.log_tokens - chosen_.log_tokens) / n);
}

void RowBudget::spend(const Plan& plan, double feared) {
    const double n = double(riders_.size());
    spent_ = {chosen_.ms, std::exp((plan.log_tokens - chosen_.log_tokens) / n),
              std::max(kLossMost, 2 * feared)};
}

// True if sequences without drafts would get none even if all their drafts were right.
bool RowBudget::is_hopeless(const std::vector<Entry>& entries) {
    const std::vector<Rider> riders = riders_;
    const auto is_idle = [&](size_t i) { return chosen_.lengths[i] == 0 && riders[i].most > 0; };
    for (size_t i = 0; i < entries.size(); i++)
        for (int k = 0; k <= riders[i].most && is_idle(i); k++) riders_[i].tokens[k] = 1 + k;
    solve();
    riders_ = riders;
    if (best_.value < chosen_.value + weight_ * std::log(kMargin)) return true;
    for (size_t i = 0; i < entries.size(); i++)
        if (is_idle(i) && best_.lengths[i] > 0) return false;
    return true;
}

// Sequences whose try goes on or may begin. False: there is none.
bool RowBudget::find_tries(const std::vector<Entry>& entries) {
    again_.assign(entries.size(), false), starts_.assign(entries.size(), false);
    bool goes_on = false, due = false;
    for (size_t i = 0; i < entries.size(); i++) {
        if (riders_[i].most == riders_[i].least) continue;
        History& h = *entries[i].history;
        if (chosen_.lengths[i] > 0) {
            h.idle = h.retry_after = h.tries = 0;
            continue;
        }
        h.idle++;
        if (h.retry_after == 0) h.retry_after = kRetryFirst;
        const bool right = h.tries > 0 && entries[i].acceptance->acceptance(0) > h.before;
        again_[i] = right && h.tries < kTryMost;
        if (!again_[i]) h.tries = 0;
        goes_on |= bool(again_[i]);
        due |= h.idle >= h.retry_after;
    }
    // A run with more rows is dear once for all: those halfway to their try come along.
    for (size_t i = 0; due && purse_ > 0 && i < entries.size(); i++) {
        const History& h = *entries[i].history;
        starts_[i] = riders_[i].most > riders_[i].least && chosen_.lengths[i] == 0 && !again_[i] &&
                     2 * h.idle >= h.retry_after;
    }
    return goes_on || (due && purse_ > 0);
}

void RowBudget::begin_tries(const std::vector<Entry>& entries, bool hopeless) {
    for (size_t i = 0; i < entries.size(); i++) {
        History& h = *entries[i].history;
        if (starts_[i]) {
            h.idle = 0, h.retry_after = std::min(2 * h.retry_after, kRetryMost);
            if (hopeless) continue;
            entries[i].acceptance->doubt_acceptance();
        }
        if (starts_[i] || again_[i]) h.before = entries[i].acceptance->acceptance(0), h.tries++;
    }
}

// The acceptance of a sequence without drafts may have changed. A try has one draft; while its
// first draft is right it goes on with one more. It waits, or ends, where the purse does not hold
// what it is expected to lose. The lengths are in tried_ if any changed.
bool RowBudget::retry(const std::vector<Entry>& entries, const Plan& plan) {
    if (!find_tries(entries)) return false;
    const bool begins = std::count(starts_.begin(), starts_.end(), true) > 0;
    const bool hopeless = begins && is_hopeless(entries);
    tried_ = plan;
    for (size_t i = 0; i < entries.size() && tried_.rows < most_rows_; i++) {
        if (!again_[i] && (!starts_[i] || hopeless)) continue;
        const int wanted = again_[i] ? entries[i].history->tries + 1 : 1;
        const int most = std::min(riders_[i].most, tried_.lengths[i] + most_rows_ - tried_.rows);
        set(tried_, i, std::max(tried_.lengths[i], std::min(wanted, most)));
    }
    const bool changes = tried_.rows > plan.rows;
    if (changes) price(tried_);
    if (changes && loss(tried_) > purse_) {
        for (size_t i = 0; i < entries.size(); i++)
            if (again_[i]) entries[i].history->tries = 0;
        return false;
    }
    begin_tries(entries, hopeless);
    if (changes) spend(tried_, loss(tried_));
    return changes;
}

}  // namespace pillion
