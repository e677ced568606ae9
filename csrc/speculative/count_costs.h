// Times of work by its count (rows of a run, sequences of a draft step), measured on real runs.
// The count's time may also depend on the positions that attention reads.
#pragma once
#include <vector>

namespace pillion {

class CountCosts {
  public:
    // A count that was measured less often may owe its time to cold caches or to other processes.
    static constexpr int kSure = 3;

    // guess: before a second count is measured, each further one costs this share of the known one.
    explicit CountCosts(double guess) : guess_(guess) {}

    // ms: of one run; positions: the sum over its sequences. A count below 1 is ignored.
    void add(int count, double ms, double positions = 0);
    // times that the count was measured
    int n(int count) const { return count < int(costs_.size()) ? costs_[count].n : 0; }
    int last() const { return last_; }  // the greatest measured count; 0: none
    // True if smaller and greater counts were measured.
    bool encloses(int count) const { return first_ > 0 && first_ < count && count < last_; }

    // measured: all that is known. hopeful: without counts below kSure, and those between rise by a
    // small part of what is expected.
    enum class View { measured, hopeful };
    // Fills ms[1 ..]: the time of each count at these positions. Unmeasured counts lie between
    // their neighbours; beyond the last the slope goes on. Nothing measured: the first costs 1.
    void curve(double positions, View view, std::vector<double>& ms) const;
    double per_position() const { return per_position_; }  // ms

  private:
    struct Cost {
        double ms = 0, positions = 0;  // means
        int n = 0;
        bool doubtful = false;  // see find_doubtful()
    };
    double at(const Cost& cost, double positions) const;
    double slope(int last, double positions) const;
    void find_doubtful(double positions);
    void learn_slope(double positions, double ms, double residual);

    double guess_;
    std::vector<Cost> costs_;  // by count
    int first_ = 0, last_ = 0;
    // sums over runs, of distances from the count's means
    double sum_xx_ = 0, sum_xy_ = 0, noise_ = 0;
    double per_position_ = 0;
};

}  // namespace pillion
