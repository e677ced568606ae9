// Over which rows of a run a kernel works. Counts, segments and positions are read on the device,
// so that captured launches stay valid; grids are sized for the bounds, and the blocks past the
// count leave at once.
#pragma once
#include <stdint.h>

#include "backends/cuda/kernels/host_device.h"
#include "core/contract/step_state.h"

namespace pillion::cuda {

struct RunRows {
    const PillionStepState* state;  // device memory
    int32_t is_out;                 // the out rows: the last of the run
    int32_t bound;                  // at least as many as there will be
    int32_t segments;               // the same of segments; 1: nothing is searched

    PILLION_BOTH int count() const { return is_out ? state->out_rows : state->rows; }
    PILLION_BOTH int first() const {
        return is_out ? state->rows - state->out_rows : 0;
    }  // its index in the run

    // The segment's first row of this kind.
    PILLION_BOTH int begin_of(const PillionSegment& s) const {
        const int row = s.row - first();
        return row > 0 ? row : 0;
    }
    // The last segment i with begin_of(segment) * scale / size + i * extra <= at.
    PILLION_BOTH int find(int at, int scale, int size, int extra) const {
        int low = 0;
        for (int high = segments > 1 ? state->n_segments : 1; high - low > 1;) {
            const int middle = (low + high) / 2;
            if (begin_of(state->segments[middle]) * scale / size + middle * extra <= at)
                low = middle;
            else high = middle;
        }
        return low;
    }
    struct Place { int position, segment; };
    // Of a row of this kind.
    PILLION_BOTH Place place(int row) const {
        const int i = find(row, 1, 1, 0);
        const PillionSegment& s = state->segments[i];
        return {s.pos + first() + row - s.row, i};
    }
};

}  // namespace pillion::cuda
