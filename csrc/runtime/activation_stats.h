// Collects how strong the inputs of each weight are: the sum of squares of each input channel over
// all rows that went through the weight, and the number of those rows. Routed weights have both for
// each expert. An importance matrix is made of them.
#pragma once
#include <string>
#include <vector>

#include "core/backend.h"
#include "model/weights.h"

namespace pillion {

class ActivationStats final : public MatmulObserver {
  public:
    struct Entry {
        std::string name;  // of the weight, as in the file
        Tensor weight;
        int n_in, n_experts;  // n_experts: 1 for a weight without routing
        // [n_experts, n_in]. Doubles, added in the order of the rows. A double holds the square of
        // a float exactly, and a sum of 2^24 squares still has more digits than the float that
        // callers get. Neither threads nor the size of the runs change a bit.
        std::vector<double> sums;
        std::vector<double> counts;  // [n_experts]
    };

    explicit ActivationStats(const Weights& weights);

    int number_of(const Tensor& weight) const override;
    void observe(int number, int expert, const float* const* rows, int n_rows, int begin,
                 int end) override;

    // Marks the sums as incomplete: a run was interrupted, and they contain a part of it.
    void invalidate() { invalid_ = true; }
    // Throws Error if the sums are incomplete.
    const std::vector<Entry>& entries() const;

  private:
    std::vector<Entry> entries_;
    bool invalid_ = false;
};

}  // namespace pillion
