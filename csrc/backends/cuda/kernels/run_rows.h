// Over which rows of a run a kernel works. Counts and position are read on the device, so that
// captured launches stay valid; grids are sized for `bound` rows, and the blocks past the count
// leave at once.
#pragma once
#include <stdint.h>

#include "backends/cuda/kernels/host_device.h"
#include "core/contract/step_state.h"

namespace pillion::cuda {

struct RunRows {
    const PillionStepState* state;  // device memory
    int32_t is_out;                 // the out rows: the last of the run
    int32_t bound;                  // at least as many as there will be

    PILLION_BOTH int count() const { return is_out ? state->out_rows : state->rows; }
    PILLION_BOTH int first() const {
        return is_out ? state->rows - state->out_rows : 0;
    }  // its index in the run
    PILLION_BOTH int position() const { return state->segments[0].pos + first(); }  // of the first
};

}  // namespace pillion::cuda
