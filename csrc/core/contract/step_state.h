// Everything that changes between two runs of a plan, beside the KV cache. Plain C with a fixed
// layout: the CUDA and Hexagon backends keep it in device memory and read and write the same bytes.
#pragma once
#include <stdint.h>

typedef struct PillionStepState {
    int32_t pos;       // position of row 0
    int32_t rows;      // rows of this run: positions pos .. pos + rows - 1
    int32_t out_rows;  // the last out_rows of them get hidden rows, logits and argmax_tokens
    int32_t status;    // of the run, written by the DSP: enum htp_status
} PillionStepState;

#ifdef __cplusplus
static_assert(sizeof(PillionStepState) == 16, "shared with devices");
namespace pillion {
using StepState = PillionStepState;
}
#endif
