#include "speculative/row_budget.h"

#include <algorithm>
#include <cmath>

namespace pillion {
namespace {

using View = CountCosts::View;

// Guesses until two counts are measured: a further row in times of the run, a further sequence of
// a draft step in times of the step, a step in times of a plain run.
constexpr double kRowGuess = 0.05, kSequenceGuess = 0.3, kStepGuess = 0.03;
// A change of lengths must promise this factor for each user. Noise would make lengths flicker
// otherwise. Drafts end where plain rounds are better at all.
constexpr double kMargin = 1.02;
// New lengths keep this distance from the floor, so that noise does not take them below it.
constexpr double kFloorMargin = 1.03;
// A plain run of a number of rows that no measured neighbours enclose comes first, so often.
constexpr int kPlainFirst = 2, kPlainTries = 4;
// Rounds between two plain ones while drafting, which renew what all drafts are compared with:
// twice as many after each one, at most these doublings. Drafts that gain less than kClose need
// them more often.
constexpr int kPlainLeast = 2, kPlainMost = 7, kPlainClose = 4;
constexpr double kClose = 1.05;
// Rounds between two looks at a number of rows that may be cheaper than it seems. Looks at one
// number of rows.
constexpr int kLookAfter = 8, kLooks = 3;
// Share of the rounds that may be lost to measuring; at the begin, at most. An
// unexpected loss of one round counts as at most kLossMost: another process may have caused it.
constexpr double kPurseShare = 0.008, kPurseFirst = 0.5, kPurseMost = 4;
constexpr double kLossMost = 1;
// Limits of the loss that is feared: a measured time that seems long may be an error.
constexpr double kFearLeast = 0.05, kFearMost = 2;
// Most rows beyond the greatest measured number: so many, or half of it, or one per sequence.
constexpr int kGrow = 3;
// Rounds without drafts before a try, twice as many after each one in vain; drafts of a try.
constexpr int kRetryFirst = 32, kRetryMost = 512, kTryMost = 4;

// Numbers of rows of about equal efficiency share a class.
constexpr int kSizeClasses = 16;
int size_class(int rows) {
    int size = 1;
    while (rows > 1 && size < kSizeClasses) rows /= 2, size++;
    return size;
}

}  // namespace

RowBudget::RowBudget() : run_(kRowGuess), step_(kSequenceGuess), mixed_(0), purse_(kPurseFirst) {}

RowBudget::Asked& RowBudget::asked(int rows) {
    if (rows >= int(asked_.size())) asked_.resize(size_t(rows) + 1);
    return asked_[size_t(rows)];
}

void RowBudget::update(const Outcome& o) {
    runs_++;
    purse_ = std::min(kPurseMost, purse_ + kPurseShare);
    if (spent_.ms > 0) {
        const double lost = (o.run_ms + o.draft_ms) / spent_.ms - spent_.tokens;
        purse_ -= std::clamp(lost, 0.0, spent_.most);
        spent_.ms = 0;
    }
    if (o.steps > 0) step_.add(o.n_drafting, o.draft_ms / o.steps);
    if (o.n_entries == 0) return;
    if (o.other_rows == 0) {
        run_.add(o.rows, o.run_ms, double(o.positions));
        asked(o.rows).at = runs_;
        return;
    }
    if (run_.last() == 0) return;
    run_curve_.assign(size_t(o.n_entries) + 1, 0);
    run_.curve(double(o.positions), View::measured, run_curve_);
    const double further = o.rows + o.other_rows - o.n_entries;
    mixed_.add(size_class(o.other_rows), (o.run_ms - run_curve_.back()) / further);
}

void RowBudget::choose(const std::vector<Entry>& entries, const Limits& limits,
                       std::vector<int>& lengths) {
    lengths.clear();
    if (entries.empty()) return;
    gather(entries, limits);
    fill_curves(View::measured);
    pick(entries);
    for (size_t i = 0; i < entries.size(); i++)
        if (entries[i].fixed < 0) entries[i].history->length = chosen_.lengths[i];
    last_entries_ = entries.size();
    if (wants_plain()) {
        lengths = plain_.lengths;
        return;
    }
    Plan& plan = look_again() || look() ? looked_ : chosen_;
    retry(entries, plan);
    lengths = plan.lengths;
}

// ---- the model ----

void RowBudget::gather(const std::vector<Entry>& entries, const Limits& limits) {
    riders_.resize(entries.size());
    positions_ = 0, other_rows_ = limits.other_rows;
    // The prompts' reader waits for the run too.
    weight_ = double(entries.size()) + (other_rows_ > 0);
    plain_ = {};
    plain_.lengths.assign(entries.size(), 0);
    plain_.rows = int(entries.size());
    int most = plain_.rows;
    for (size_t i = 0; i < entries.size(); i++) {
        const Entry& e = entries[i];
        Rider& r = riders_[i];
        const bool fixed = e.fixed >= 0;
        r.least = fixed ? std::min(e.fixed, int(kMax)) : 0;
        r.most = fixed ? r.least : std::clamp(e.most, 0, int(kMax));
        const double first = e.acceptance->acceptance(0);
        r.luck = 1 + e.acceptance->acceptance_error() / std::max(first, 1e-3);
        double all = 1;
        r.tokens[0] = 1;
        for (int k = 0; k < r.most; k++)
            all *= e.acceptance->acceptance(k), r.tokens[k + 1] = r.tokens[k] + all;
        positions_ += e.length;
        most += r.most;
        if (r.least > 0) set(plain_, i, r.least);
    }
    most_rows_ = std::max(plain_.rows, std::min(most, limits.most_rows));
}

void RowBudget::fill_curves(View view) {
    run_curve_.assign(size_t(most_rows_ + other_rows_) + 1, 0);
    run_.curve(double(positions_), view, run_curve_);
    if (other_rows_ > 0 && mixed_.last() > 0) {
        mixed_curve_.assign(size_t(kSizeClasses) + 1, 0);
        mixed_.curve(0, View::measured, mixed_curve_);
        // A run with prompts computes: each further row costs the same.
        const double each = mixed_curve_[size_t(size_class(other_rows_))];
        const int n = int(riders_.size());
        const double plain = run_curve_[size_t(n)];
        for (int rows = n; rows <= most_rows_; rows++)
            run_curve_[size_t(rows)] =
                std::max(run_curve_[size_t(rows)], plain + each * (rows - n + other_rows_));
    } else if (other_rows_ > 0) {
        for (int rows = 1; rows <= most_rows_; rows++)
            run_curve_[size_t(rows)] = run_curve_[size_t(rows + other_rows_)];
    }
    step_curve_.assign(riders_.size() + 1, kStepGuess * run_curve_[riders_.size()]);
    if (step_.last() > 0 && run_.last() > 0) step_.curve(0, View::measured, step_curve_);
    price(plain_);
}

void RowBudget::set(Plan& plan, size_t i, int length) const {
    int& now = plan.lengths[i];
    const double* tokens = riders_[i].tokens;
    plan.log_tokens += std::log(tokens[length] / tokens[now]);
    plan.rows += length - now;
    plan.longest = std::max(plan.longest, length);
    plan.drafting += (length > 0) - (now > 0);
    now = length;
}

void RowBudget::price(Plan& plan) const {
    plan.ms = run_curve_[size_t(plan.rows)];
    if (plan.drafting > 0) plan.ms += plan.longest * step_curve_[size_t(plan.drafting)];
    plan.value = plan.log_tokens - weight_ * std::log(plan.ms);
}

// The least speed of a sequence, in times of its speed in the plain batch.
double RowBudget::least_share(const Plan& plan) const {
    double least = 1e9;
    for (size_t i = 0; i < riders_.size(); i++) {
        const Rider& r = riders_[i];
        least = std::min(least, r.lucky(plan.lengths[i]) / r.lucky(r.least));
    }
    return least * plain_.ms / plan.ms;
}

// ---- the best lengths ----

// Adds the row that gains most, up to so many rows; visits every plan on the way.
template <class Visit>
void RowBudget::grow(Plan& plan, int rows, Visit visit) const {
    using Gain = std::pair<double, int>;  // factor of the tokens, -i: equal gains go in order
    std::vector<Gain> heap;
    heap.reserve(riders_.size());
    const auto push = [&](size_t i) {
        const Rider& r = riders_[i];
        const int k = plan.lengths[i];
        if (k == r.most) return;
        heap.emplace_back(r.tokens[k + 1] / r.tokens[k], -int(i));
        std::push_heap(heap.begin(), heap.end());
    };
    for (size_t i = 0; i < riders_.size(); i++) push(i);
    while (plan.rows < rows && !heap.empty()) {
        const size_t i = size_t(-heap.front().second);
        std::pop_heap(heap.begin(), heap.end());
        heap.pop_back();
        set(plan, i, plan.lengths[i] + 1);
        push(i);
        price(plan);
        visit(plan);
    }
}

void RowBudget::consider(const Plan& plan, Plan& best) {
    if (plan.value <= best.value) return;
    if (least_share(plan) >= kFloor * kFloorMargin) best = plan;
    else if (lift(plan) && lifted_.value > best.value) best = lifted_;
}

// As many rows as `from` has, with what every sequence needs to reach the floor given first.
bool RowBudget::lift(const Plan& from) {
    lifted_ = plain_;
    const double needed = kFloor * kFloorMargin * from.ms / plain_.ms;
    for (size_t i = 0; i < riders_.size(); i++) {
        const Rider& r = riders_[i];
        int k = r.least;
        while (k < r.most && r.lucky(k) < needed * r.lucky(r.least)) k++;
        if (r.lucky(k) < needed * r.lucky(r.least)) return false;
        set(lifted_, i, k);
    }
    if (lifted_.rows > from.rows) return false;
    price(lifted_);
    grow(lifted_, from.rows, [](const Plan&) {});
    return least_share(lifted_) >= kFloor * kFloorMargin;
}

// Far beyond what was measured, the slope says little.
int RowBudget::rows_within_reach() const {
    const int last = std::max(run_.last(), plain_.rows);
    return std::min(most_rows_, last + std::max({kGrow, last / 2, int(riders_.size())}));
}

void RowBudget::solve() {
    best_ = plain_;
    Plan plan = plain_;
    grow(plan, rows_within_reach(), [&](const Plan& p) { consider(p, best_); });
}

// The lengths of the last round, as far as they are still possible; false: it had no drafts.
bool RowBudget::recall(const std::vector<Entry>& entries) {
    if (entries.size() != last_entries_) return false;
    recalled_ = plain_;
    for (size_t i = 0; i < entries.size(); i++) {
        if (entries[i].fixed >= 0) continue;
        if (entries[i].history->length < 0) return false;
        set(recalled_, i, std::min(entries[i].history->length, riders_[i].most));
    }
    if (recalled_.rows > most_rows_) return false;
    price(recalled_);
    return recalled_.rows > plain_.rows;
}

// Changes lengths only for more than the margin, and drafts only for a gain over plain rounds.
void RowBudget::pick(const std::vector<Entry>& entries) {
    solve();
    const double margin = weight_ * std::log(kMargin);
    const bool drafts = recall(entries);
    // A new number of rows is run twice: the first time, caches are cold.
    const bool is_new = drafts && run_.n(recalled_.rows) == 1;
    const bool stands = drafts && recalled_.value > plain_.value &&
                        recalled_.value + margin > best_.value && least_share(recalled_) >= kFloor;
    if (is_new || stands) chosen_ = recalled_;
    else if (best_.value > plain_.value + (drafts ? 0 : margin)) chosen_ = best_;
    else chosen_ = plain_;
}

// ---- what must be measured ----

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
        if (gain < std::log(kMargin) || std::min(fear, kFearMost) > purse_ || promise <= best)
            return;
        if (least_share(p) * p.ms < kFloor * kFloorMargin * hope) return;
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
    for (size_t i = 0; i < entries.size(); i++)
        if (is_idle(i) && best_.lengths[i] > 0) return false;
    return true;
}

// The acceptance of a sequence without drafts may have changed. A try has one draft; while its
// first draft is right it goes on with one more.
void RowBudget::retry(const std::vector<Entry>& entries, Plan& plan) {
    bool due = false;
    again_.assign(entries.size(), false);
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
        due |= h.idle >= h.retry_after;
    }
    due = due && purse_ > 0;
    const bool hopeless = due && is_hopeless(entries);
    const int rows = plan.rows;
    for (size_t i = 0; i < entries.size() && plan.rows < most_rows_; i++) {
        const Entry& e = entries[i];
        if (riders_[i].most == riders_[i].least || chosen_.lengths[i] > 0) continue;
        History& h = *e.history;
        // A run with more rows is dear once for all: those halfway to their try come along.
        const bool starts = !again_[i] && due && 2 * h.idle >= h.retry_after;
        if (starts) {
            h.idle = 0, h.retry_after = std::min(2 * h.retry_after, kRetryMost);
            if (hopeless) continue;
            e.acceptance->doubt_acceptance();
        }
        if (!starts && !again_[i]) continue;
        h.before = e.acceptance->acceptance(0), h.tries++;
        const int most = std::min(riders_[i].most, plan.lengths[i] + most_rows_ - plan.rows);
        set(plan, i, std::max(plan.lengths[i], std::min(h.tries, most)));
    }
    if (plan.rows == rows) return;
    price(plan);
    spend(plan, loss(plan));
}

}  // namespace pillion
