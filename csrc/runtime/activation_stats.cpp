#include "runtime/activation_stats.h"

namespace pillion {

ActivationStats::ActivationStats(const Weights& weights) {
    for (const Weights::Matrix& m : weights.matrices) {
        Entry e = {m.name, m.tensor, int(m.tensor.width), int(m.tensor.depth), {}, {}};
        e.sums.resize(size_t(e.n_experts) * size_t(e.n_in));
        e.counts.resize(size_t(e.n_experts));
        entries_.push_back(std::move(e));
    }
}

int ActivationStats::number_of(const Tensor& weight) const {
    for (size_t i = 0; i < entries_.size(); i++)
        if (entries_[i].weight.buffer == weight.buffer &&
            entries_[i].weight.offset == weight.offset)
            return int(i);
    return -1;
}

void ActivationStats::observe(int number, int expert, const float* const* rows, int n_rows,
                              int begin, int end) {
    Entry& e = entries_[size_t(number)];
    if (begin == 0) e.counts[size_t(expert)] += n_rows;
    double* sums = e.sums.data() + size_t(expert) * size_t(e.n_in);
    for (int r = 0; r < n_rows; r++)
        for (int i = begin; i < end; i++) sums[i] += double(rows[r][i]) * double(rows[r][i]);
}

const std::vector<ActivationStats::Entry>& ActivationStats::entries() const {
    if (invalid_)
        fail(Status::invalid_argument,
             "a run was broken off: the activation sums hold a part of it and are of no use");
    return entries_;
}

}  // namespace pillion
