// Everything that changes between two runs of a plan, beside the KV cache. Plain C with a fixed
// layout: the CUDA and Hexagon backends keep it in device memory and read and write the same bytes.
#pragma once
#include <stdint.h>

enum { PILLION_STEP_TOKENS_MAX = 16 };

typedef struct PillionStepState {
    int32_t pos;       // position of row 0
    int32_t rows;      // rows of this run: positions pos .. pos + rows - 1
    int32_t out_rows;  // the last out_rows of them get hidden rows, logits and argmax_tokens
    int32_t status;    // pillion_status of the run, written by the device

    // the round (draft and verify)
    int32_t draft_length;  // drafts asked for
    int32_t draft_count;   // drafts made
    int32_t accepted;      // leading drafts that the target agreed with
    int32_t hidden_row;    // out row whose hidden state the next round starts from
    int32_t tokens[PILLION_STEP_TOKENS_MAX];  // last token, then drafts; `accept` leaves the
                                              // emitted tokens here

    // sampling on the device
    uint64_t seed;
    uint64_t counter;  // random numbers drawn so far
    float temperature, top_p, min_p;
    int32_t top_k;

    uint8_t reserved[512 - 8 * 4 - 4 * PILLION_STEP_TOKENS_MAX - 2 * 8 - 4 * 4];
} PillionStepState;

#ifdef __cplusplus
static_assert(sizeof(PillionStepState) == 512, "shared with devices");
namespace pillion {
using StepState = PillionStepState;
}
#endif
