// Shows a matmul's input to an observer. Threads share the inputs, not the rows: each input meets
// its rows in order, so what an observer adds up doesn't depend on the number of threads.
#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {
namespace {

class ObserveStep final : public CpuStep {
  public:
    ObserveStep(const MatmulInput& in, MatmulObserver& observer, std::vector<int> numbers)
        : CpuStep(Op::matmul, in.layer), rows_(in.rows), x_(in.x), inputs_(in.inputs),
          observer_(observer), numbers_(std::move(numbers)) {}
    const char* kernel() const override { return "observe"; }
    int chunks(const RunInfo& run) const override {
        return run.count(rows_) > 0 ? (inputs_ + kInputs - 1) / kInputs : 0;
    }
    void run(const RunInfo& run, int chunk, int) const override {
        const int n = run.count(rows_), begin = chunk * kInputs,
                  end = begin + kInputs < inputs_ ? begin + kInputs : inputs_;
        const float* x[kRows];
        for (int first = 0; first < n; first += kRows) {
            const int rows = n - first < kRows ? n - first : kRows;
            for (int i = 0; i < rows; i++) x[i] = x_.row(first + i);
            for (const int number : numbers_)
                observer_.observe(number, /*expert=*/0, x, rows, begin, end);
        }
    }

  private:
    static constexpr int kRows = 64,
                         kInputs = 512;  // a few KB of sums, read and written once per row
    Rows rows_;
    RowView x_;
    int inputs_;
    MatmulObserver& observer_;
    std::vector<int> numbers_;
};

}  // namespace

void add_observe_step(StepList& steps, const MatmulInput& in, MatmulObserver& observer,
                      std::vector<int> numbers) {
    steps.push_back(std::make_unique<ObserveStep>(in, observer, std::move(numbers)));
}

}  // namespace pillion::cpu
