// The tensors of an audio tower, in the words of the file without prefix and suffix. What is
// constant is folded in at import.
#pragma once
#include <vector>

#include "media/mmproj_params.h"
#include "media/tower_tensors.h"

namespace pillion {

// Positions that an audio row sees, itself among them, and rows of the causal convolution. No file
// says so: every Gemma 4 has them.
constexpr int kAudioWindow = 12, kAudioTaps = 5;

struct AudioFeedForward {
    Tensor norm, post_norm;  // post_norm: halved, as the branch counts half
    ClippedMatrix up, down;
};

struct AudioLayer {
    AudioFeedForward ffn[2];
    Tensor attn_pre_norm, attn_post_norm, ln2;
    ClippedMatrix attn_q, attn_k, attn_v, attn_out;
    // [head_dim]: all constants of the scores. [kAudioWindow][n_embd]: attn_k_rel times the angles
    // of each distance.
    Tensor q_scale, relative;
    Tensor conv_norm, norm_conv;       // before the convolution module, and inside it
    ClippedMatrix conv_pw1, conv_pw2;  // pw1: the rows that gate first
    Tensor conv_dw;                    // [kAudioTaps][n_embd]
};

struct AudioWeights {
    // gemma4a
    Tensor conv1d[2], conv_norm[2];  // conv1d: [frame][band][channel before][channel]
    int channels[2] = {0, 0};
    Tensor input_projection;  // [bands / 4][channel] to n_embd
    std::vector<AudioLayer> layers;
    Tensor out, out_bias;
    // both
    Tensor projection;    // the tower's rows to n_embd_out
    int n_projected = 0;  // their width; gemma4ua: samples of a row
};

// Lists what the tower needs. See tower_tensors.h.
void list_audio(TowerTensors& file, const AudioParams& p, AudioWeights& w);

}  // namespace pillion
