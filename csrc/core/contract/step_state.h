// Everything that changes between two runs of a plan, beside the KV cache. Plain C with a fixed
// layout: the CUDA and Hexagon backends keep it in device memory and read and write the same bytes.
#pragma once
#include <stdint.h>

enum { PILLION_SEGMENTS_MAX = 124 };

// Rows row .. row + n_rows - 1 of a run belong to one sequence and stand at its positions pos ..
// pos + n_rows - 1. table: the sequence's row of the page tables (KvTable in core/tensor.h).
typedef struct PillionSegment { int32_t row, n_rows, pos, table; } PillionSegment;

// The segments cover rows 0 .. rows - 1 in order. A sequence may have several: all keys and values
// of a layer are stored before its attention begins.
typedef struct PillionStepState {
    int32_t rows;        // of this run
    int32_t out_rows;    // the last out_rows of them get hidden rows, logits and argmax_tokens
    int32_t n_segments;  // 1 .. PILLION_SEGMENTS_MAX
    int32_t status;      // of the run, written by the DSP: enum htp_status
    int32_t reserved[12];
    PillionSegment segments[PILLION_SEGMENTS_MAX];
} PillionStepState;

#ifdef __cplusplus
static_assert(sizeof(PillionStepState) == 2048, "shared with devices");
namespace pillion {
using Segment = PillionSegment;
using StepState = PillionStepState;

// The state of a run of one sequence.
inline StepState one_segment(int pos, int rows, int out_rows, int table = 0) {
    StepState state = {};
    state.rows = rows, state.out_rows = out_rows, state.n_segments = 1;
    state.segments[0] = {0, rows, pos, table};
    return state;
}
}  // namespace pillion
#endif
