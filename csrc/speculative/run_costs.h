// Times of the target's runs by their number of rows, on a machine whose speed drifts. A time is
// the product of a level, the time of one row now, and the ratio of the number of rows to it. Every
// run corrects the level, which all numbers share; ratios move slowly. A Kalman filter over the
// logarithms splits each error by what is uncertain, also between numbers that were measured at
// different speeds of the machine.
#pragma once

namespace pillion {

class RunCosts {
  public:
    static constexpr int kMost = 9;  // rows

    RunCosts();
    // A run of 1 .. kMost rows; others are ignored.
    void add(int rows, double ms);
    // Expected time. Unmeasured numbers lie between their measured neighbours, or follow the
    // nearest one by a guess. 0: nothing was measured.
    double ms(int rows) const;
    int n(int rows) const { return rows <= kMost ? n_[rows] : 0; }
    // Runs since the last one of so many rows; all of them if there was none.
    int age(int rows) const { return runs_ - at_[rows]; }

  private:
    double ratio(int rows) const;
    void correct(int rows, double error, double total);

    // log_[0]: of the level; log_[rows - 1]: of the ratio of 2 .. kMost rows
    double log_[kMost] = {}, covariance_[kMost][kMost] = {};
    int n_[kMost + 1] = {}, at_[kMost + 1] = {};
    int runs_ = 0;
};

}  // namespace pillion
