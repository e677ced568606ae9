#include "speculative/run_costs.h"

#include <algorithm>
#include <cmath>

namespace pillion {
namespace {

constexpr double square(double x) { return x * x; }

// Variances, of logarithms. The first run of a number of rows is often slow for once.
constexpr double kNoise = square(0.08), kFirstNoise = square(0.2);
// What level and ratios drift by from run to run.
constexpr double kLevelDrift = square(0.015), kRatioDrift = square(0.006);
// What is known before anything is measured.
constexpr double kLevelVariance = square(10), kRatioVariance = square(0.7);
// A run that is slower by more standard deviations counts as by this many: somebody else had the
// machine. If that goes on, the machine has become slower.
constexpr double kOutlier = 2, kSlower = square(0.05);
// Guess: what a further row adds.
constexpr double kRowGuess = 0.05;

}  // namespace

RunCosts::RunCosts() {
    covariance_[0][0] = kLevelVariance;
    for (int i = 1; i < kMost; i++) covariance_[i][i] = kRatioVariance;
}

void RunCosts::add(int rows, double ms) {
    if (rows < 1 || rows > kMost || !(ms > 0)) return;
    const int i = rows - 1;
    if (i > 0 && n_[rows] == 0) log_[i] = std::log(ratio(rows));
    covariance_[0][0] += kLevelDrift;
    for (int k = 1; k < kMost; k++) covariance_[k][k] += n_[k + 1] > 0 ? kRatioDrift : 0;
    const double noise = n_[rows] == 0 && (i > 0 || runs_ == 0) ? kFirstNoise : kNoise;
    double total = covariance_[0][0] + noise;
    if (i > 0) total += covariance_[i][i] + 2 * covariance_[0][i];
    const double error = std::log(ms) - log_[0] - (i > 0 ? log_[i] : 0);
    // Of a new number of rows anything is possible.
    const double most = n_[rows] == 0 ? HUGE_VAL : kOutlier * std::sqrt(total);
    if (error > most) correct(rows, error, total * error / most), covariance_[0][0] += kSlower;
    else correct(rows, error, total);
    // A row beside others costs no more than alone.
    for (int k = 1; k < kMost; k++) log_[k] = std::min(log_[k], std::log(k + 1.0));
    runs_++, n_[rows]++, at_[rows] = runs_;
}

void RunCosts::correct(int rows, double error, double total) {
    const int i = rows - 1;
    double seen[kMost];
    for (int k = 0; k < kMost; k++) seen[k] = covariance_[k][0] + (i > 0 ? covariance_[k][i] : 0);
    for (int k = 0; k < kMost; k++) {
        log_[k] += seen[k] / total * error;
        for (int j = 0; j < kMost; j++) covariance_[k][j] -= seen[k] * seen[j] / total;
    }
}

double RunCosts::ms(int rows) const { return runs_ == 0 ? 0 : std::exp(log_[0]) * ratio(rows); }

double RunCosts::ratio(int rows) const {
    if (rows <= 1) return 1;
    const auto measured = [&](int i) { return i == 1 || n_[i] > 0; };
    int below = rows, above = rows;
    while (!measured(below)) below--;
    while (above <= kMost && !measured(above)) above++;
    const double low = below == 1 ? 1 : std::exp(log_[below - 1]);
    if (below == rows) return low;
    if (above > kMost) return low * (1 + kRowGuess * (rows - below));
    const double high = std::exp(log_[above - 1]);
    return low + (high - low) * (rows - below) / (above - below);
}

}  // namespace pillion
