#include "speculative/count_costs.h"

#include <algorithm>
#include <cmath>

namespace pillion {
namespace {

// Weight of a new time in a mean of many.
constexpr double kSmooth = 0.05;
// A time counts as at most this many times the expected one, with the weight of one among many:
// another process had the core.
constexpr double kOutlier = 1.3;
// Among the first few times, one that is faster than the mean by the factor replaces it: caches
// were cold, and pages were untouched.
constexpr int kWarmUp = 4;
constexpr double kCold = 1.25;
// The guessed slope is at most this part of the mean time of one.
constexpr double kGuessMost = 0.5;
// Hopeful: the share of the expected rise that an unmeasured count may have.
constexpr double kHope = 0.2;
// A greater count that was measured so often cannot take less time.
constexpr int kSettled = 8;
constexpr double kDoubt = 1.05;
// Weight of the past in the slope over positions.
constexpr double kForget = 0.999;
// Most of a time that the correction for positions may take away.
constexpr double kLeast = 0.25;

}  // namespace

double CountCosts::at(const Cost& cost, double positions) const {
    return std::max(kLeast * cost.ms, cost.ms + per_position_ * (positions - cost.positions));
}

void CountCosts::add(int count, double ms, double positions) {
    if (count < 1 || !(ms > 0) || !std::isfinite(ms)) return;
    if (count >= int(costs_.size())) costs_.resize(size_t(count) + 1);
    Cost& cost = costs_[size_t(count)];
    const double expected = at(cost, positions);
    if (cost.n == 0 || (cost.n < kWarmUp && ms * kCold < expected)) {
        cost = {ms, positions, 1, false};
        first_ = first_ == 0 ? count : std::min(first_, count), last_ = std::max(last_, count);
        return find_doubtful(positions);
    }
    const bool is_outlier = ms > expected * kOutlier;
    ms = std::clamp(ms, expected / kOutlier, expected * kOutlier);
    learn_slope(positions - cost.positions, ms - cost.ms, ms - expected);
    const double weight = is_outlier ? kSmooth : std::max(kSmooth, 1.0 / (cost.n + 1));
    cost.ms += weight * (ms - cost.ms);
    cost.positions += weight * (positions - cost.positions);
    cost.n++;
    find_doubtful(positions);
}

// A rarely measured count that seems to take more time than a greater one was measured wrong:
// outliers came together.
void CountCosts::find_doubtful(double positions) {
    double least = INFINITY;  // of the settled counts above
    for (int i = last_; i >= first_; i--) {
        Cost& cost = costs_[size_t(i)];
        const double ms = at(cost, positions);
        cost.doubtful = i > first_ && cost.n < kSettled && ms > kDoubt * least;
        if (cost.n >= kSettled) least = std::min(least, ms);
    }
}

// The slope is as large as the runs prove: the estimate less its standard error, or 0.
void CountCosts::learn_slope(double positions, double ms, double residual) {
    sum_xx_ = kForget * sum_xx_ + positions * positions;
    sum_xy_ = kForget * sum_xy_ + positions * ms;
    noise_ += kSmooth * (residual * residual - noise_);
    if (sum_xx_ > 0)
        per_position_ = std::max(0.0, (sum_xy_ - std::sqrt(noise_ * sum_xx_)) / sum_xx_);
}

// Time of a further count beyond `last`. Two counts side by side differ by little more than the
// noise, so the slope spans the upper half.
double CountCosts::slope(int last, double positions) const {
    const double ms = at(costs_[size_t(last)], positions);
    if (first_ >= last) return std::min(guess_, kGuessMost / last) * ms;
    int from = std::max(first_, last / 2);
    while (costs_[size_t(from)].n == 0) from--;
    return std::max(0.0, ms - at(costs_[size_t(from)], positions)) / (last - from);
}

void CountCosts::curve(double positions, View view, std::vector<double>& ms) const {
    const int end = int(ms.size());
    int below = 0;  // the last count that is known
    double low = 0;
    const double share = view == View::hopeful ? kHope : 1;
    const int least = view == View::hopeful ? kSure : 1;
    const auto fill = [&](int to, double high) {
        for (int i = below + 1; i < std::min(to, end); i++) {
            const double between = low + (high - low) * (i - below) / (to - below);
            ms[size_t(i)] = below == 0 ? high : low + (between - low) * share;
        }
    };
    for (int i = first_; i > 0 && i <= last_; i++) {
        if (costs_[size_t(i)].n < (i > first_ ? least : 1) || costs_[size_t(i)].doubtful) continue;
        const double high = at(costs_[size_t(i)], positions);
        fill(i, high);
        if (i < end) ms[size_t(i)] = high;
        below = i, low = high;
    }
    double step = guess_;
    if (below > 0) step = slope(below, positions) * share;
    else if (end > 1) ms[1] = low = 1, below = 1;
    for (int i = below + 1; i < end; i++) ms[size_t(i)] = low + step * (i - below);
}

}  // namespace pillion
