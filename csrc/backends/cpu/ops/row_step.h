// Ops that treat each row by itself: embeddings, norms, rotation, cache store, gates, gathers. When
// decoding they are microseconds of work and run on one thread between the matmuls; when prefilling
// their rows are cut into chunks.
#pragma once
#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {

class RowStep : public CpuStep {
  public:
    RowStep(const StepArgs& a, int64_t cost_per_row)
        : CpuStep(a.node.op, a.node.layer), table_(a.table), rows_(a.node.rows),
          cost_(cost_per_row), n_threads_(a.n_threads) {}
    const char* kernel() const override { return info(op()).name; }
    int chunks(const RunInfo& run) const final {
        const int n = run.count(rows_);
        if (n <= 1 || n_threads_ == 1 || n * cost_ < kParallelElements) return n > 0 ? 1 : 0;
        return n < 8 * n_threads_ ? n : 8 * n_threads_;
    }
    void run(const RunInfo& run, int chunk, int worker) const final {
        const int n = run.count(rows_), cut = chunks(run);
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step without chunks is not run
        const int begin = int(int64_t(n) * chunk / cut), end = int(int64_t(n) * (chunk + 1) / cut);
        for (int row = begin; row < end; row++) row_step(run, row, worker);
    }

  protected:
    virtual void row_step(const RunInfo& run, int row, int worker) const = 0;
    const KernelTable& table_;
    const Rows rows_;

  private:
    static constexpr int64_t kParallelElements =
        32768;  // about the work that pays for waking a thread
    int64_t cost_;
    int n_threads_;
};

}  // namespace pillion::cpu
