// A plan is an array of steps. A step knows how many chunks a run of given size has and executes
// one of them; chunks of a step are independent, so any thread may take any of them. A step with
// one chunk runs on the thread that finished the step before, without a barrier.
#pragma once
#include <stdint.h>

#include "core/contract/step_state.h"
#include "core/op.h"

namespace pillion::cpu {

struct RunInfo {
    int32_t rows, out_rows, n_segments;
    const Segment* segments;  // [n_segments]
    explicit RunInfo(const StepState& s)
        : rows(s.rows), out_rows(s.out_rows), n_segments(s.n_segments), segments(s.segments) {}

    int32_t count(Rows kind) const { return kind == Rows::out ? out_rows : rows; }
    // Index in the run of the first row of this kind: out rows are the last of the run.
    int32_t first_row(Rows kind) const { return kind == Rows::out ? rows - out_rows : 0; }
    // The segment of the run's row.
    const Segment& segment_of(int32_t row) const {
        int32_t low = 0;
        for (int32_t high = n_segments; high - low > 1;) {
            const int32_t middle = (low + high) / 2;
            if (segments[middle].row <= row) low = middle;
            else high = middle;
        }
        return segments[low];
    }
    struct Place { int32_t position, table; };
    // Of a row of this kind.
    Place place(Rows kind, int32_t row) const {
        row += first_row(kind);
        const Segment& s = segment_of(row);
        return {s.pos + row - s.row, s.table};
    }
};

class CpuStep {
  public:
    CpuStep(Op op, int layer) : op_(op), layer_(layer) {}
    virtual ~CpuStep() = default;
    virtual const char* kernel() const = 0;  // for reports
    // 0: nothing to do. Called once in a run, before its chunks, while no thread runs this step: so
    // a step may prepare here what its chunks read.
    virtual int chunks(const RunInfo& run) const = 0;
    virtual void run(const RunInfo& run, int chunk, int worker) const = 0;
    Op op() const { return op_; }
    int layer() const { return layer_; }

  private:
    Op op_;
    int layer_;
};

}  // namespace pillion::cpu
