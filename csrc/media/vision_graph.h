// The forward pass of a vision tower.
#pragma once
#include "core/graph.h"
#include "media/vision_weights.h"

namespace pillion {

// Where a run finds its picture, and leaves its rows. P: patches, T: soft tokens.
struct VisionInputs {
    int patches_max, tokens_max;
    Tensor patches;     // f32 [P, inputs of the patch matrix]
    Tensor x, y;        // i32 [P, 1]: column and row of each patch
    Tensor position_y;  // i32 [P, 1]: its row's row of position_embd
    Tensor groups;      // i32 [T, pool * pool], gemma4v: the patches of each token
    Tensor rows;        // f32 [T, n_embd_out]: the result
};

Graph build_vision_graph(const VisionParams& p, const VisionWeights& w, const VisionInputs& in);

}  // namespace pillion
