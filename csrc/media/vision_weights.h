// The tensors of a vision tower, in the words of the file without prefix and suffix.
#pragma once
#include <vector>

#include "media/mmproj_params.h"
#include "media/tower_tensors.h"

namespace pillion {

struct VisionLayer {
    Tensor ln1, attn_post_norm, ln2, ffn_post_norm;  // [n_embd]
    Tensor attn_q_norm, attn_k_norm;                 // [head_dim]
    ClippedMatrix attn_q, attn_k, attn_v, attn_out, ffn_gate, ffn_up, ffn_down;
};

struct VisionWeights {
    Tensor patch_embd;     // [channel, row, column] to the tower's width
    Tensor position_embd;  // [2 * positions, width]: all columns x, then all rows y
    int64_t n_positions = 0;
    Tensor input_projection;  // tower to n_embd_out
    // gemma4v
    std::vector<VisionLayer> layers;
    Tensor std_bias, std_scale;  // optional, together
    // gemma4uv
    Tensor patch_bias;                   // [n_embd_out]
    Tensor patch_norm[3], norm_bias[3];  // before the patch matrix, behind it, behind positions
};

// Lists what the tower needs. See tower_tensors.h.
void list_vision(TowerTensors& file, const VisionParams& p, VisionWeights& w);

}  // namespace pillion
