// A plan is an array of steps. A step knows how many chunks a run of given size has and executes
// one of them; chunks of a step are independent, so any thread may take any of them. A step with
// one chunk runs on the thread that finished the step before, without a barrier.
#pragma once
#include <stdint.h>

#include "core/contract/step_state.h"
#include "core/op.h"

namespace pillion::cpu {

struct RunInfo {
    int32_t pos, rows, out_rows;
    int32_t count(Rows kind) const { return kind == Rows::out ? out_rows : rows; }
    // Index in the run of the first row of this kind: out rows are the last of the run.
    int32_t first_row(Rows kind) const { return kind == Rows::out ? rows - out_rows : 0; }
};

class CpuStep {
  public:
    CpuStep(Op op, int layer) : op_(op), layer_(layer) {}
    virtual ~CpuStep() = default;
    virtual const char* kernel() const = 0;            // for reports
    virtual int chunks(const RunInfo& run) const = 0;  // 0: nothing to do
    virtual void run(const RunInfo& run, int chunk, int worker) const = 0;
    Op op() const { return op_; }
    int layer() const { return layer_; }

  private:
    Op op_;
    int layer_;
};

}  // namespace pillion::cpu
