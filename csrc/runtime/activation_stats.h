// How strong the inputs of each weight are: sums of squares per input channel over all rows that
// went through it, and the number of those rows; for routed experts, of each expert apart. What an
// importance matrix is made of.
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
        int n_in, n_experts;  // n_experts: 1 but for routed weights
        // [n_experts, n_in]. Double, added in the order of the rows: the square of a float is exact
        // in it, and a sum of 2^24 of them keeps more digits than the float it is handed out as.
        // Neither threads nor the size of the runs change a bit.
        std::vector<double> sums;
        std::vector<double> counts;  // [n_experts]
    };

    explicit ActivationStats(const Weights& weights);

    int number_of(const Tensor& weight) const override;
    void observe(int number, int expert, const float* const* rows, int n_rows, int begin,
                 int end) override;

    // A run was broken off: the sums hold a part of it.
    void invalidate() { invalid_ = true; }
    // Throws when they are invalid.
    const std::vector<Entry>& entries() const;

  private:
    std::vector<Entry> entries_;
    bool invalid_ = false;
};

}  // namespace pillion
