// The numbers of an mmproj: what its metadata says of the vision tower and of the audio tower.
// Facts that no file holds (the rope's base, the window of audio attention, the sample rate) follow
// from the projector type and stand where they are used.
#pragma once
#include <stdint.h>

#include "gguf/gguf.h"

namespace pillion {

enum class VisionKind : uint8_t { none, gemma4v, gemma4uv };
enum class AudioKind : uint8_t { none, gemma4a, gemma4ua };
const char* name_of(VisionKind kind);  // as in the file; "none"
const char* name_of(AudioKind kind);

constexpr int kImageTokensMax = 1120;

struct VisionParams {
    VisionKind kind = VisionKind::none;
    int n_embd_out = 0;    // projection_dim: width of a soft row, the target's n_embd
    int patch = 0;         // pixels of a patch's side
    int pool = 0;          // patches of a soft token's side
    int image_tokens = 0;  // most soft tokens of an image, unless somebody asks for another number
    int n_embd = 0, n_ff = 0, n_layers = 0, n_heads = 0, head_dim = 0;  // gemma4uv: 0
    float eps = 0;
    // Side of the square of pixels that becomes a soft token.
    int unit() const { return patch * pool; }
    explicit operator bool() const { return kind != VisionKind::none; }
};

struct AudioParams {
    AudioKind kind = AudioKind::none;
    int n_embd_out = 0;
    int n_embd = 0, n_ff = 0, n_layers = 0, n_heads = 0, n_mel = 0;  // gemma4ua: 0
    explicit operator bool() const { return kind != AudioKind::none; }
};

struct MmprojParams {
    VisionParams vision;
    AudioParams audio;
    int n_embd_out() const { return vision ? vision.n_embd_out : audio.n_embd_out; }
};

// Throws Error: unsupported_model for a file that is no mmproj, and for a projector that this
// library does not have; file_corrupt for a key that is missing, of another type or out of range.
MmprojParams read_mmproj_params(const GgufFile& file);

}  // namespace pillion
