#include "speculative/row_budget.h"

#include <algorithm>
#include <cmath>

namespace pillion {
namespace {

using View = CountCosts::View;

// Guesses until two counts are measured: a further row in times of the run, a further sequence of
// a draft step in times of the step, a step in times of a plain run.
constexpr double kRowGuess = 0.05, kSequenceGuess = 0.3, kStepGuess = 0.03;
// Most rows beyond the greatest measured number: so many, or half of it, or one per sequence.
constexpr int kGrow = 3;

// Numbers of rows of about equal efficiency share a class.
constexpr int kSizeClasses = 16;
int size_class(int rows) {
    int size = 1;
    while (rows > 1 && size < kSizeClasses) rows /= 2, size++;
    return size;
}

}  // namespace

RowBudget::RowBudget() : run_(kRowGuess), step_(kSequenceGuess), mixed_(0) {}

RowBudget::Asked& RowBudget::asked(int rows) {
    if (rows >= int(asked_.size())) asked_.resize(size_t(rows) + 1);
    return asked_[size_t(rows)];
}

void RowBudget::update(const Outcome& o) {
    runs_++;
    fill_purse(o.run_ms + o.draft_ms);
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
    const Plan& plan = look_again() || look() ? looked_ : chosen_;
    lengths = retry(entries, plan) ? tried_.lengths : plan.lengths;
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
void RowBudget::grow(Plan& plan, int rows, const std::function<void(const Plan&)>& visit) const {
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
    if (least_share(plan) >= kNewFloor) best = plan;
    else if (lift(plan) && lifted_.value > best.value) best = lifted_;
}

// As many rows as `from` has, with what every sequence needs to reach the floor given first.
bool RowBudget::lift(const Plan& from) {
    lifted_ = plain_;
    const double needed = kNewFloor * from.ms / plain_.ms;
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
    return least_share(lifted_) >= kNewFloor;
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

}  // namespace pillion
