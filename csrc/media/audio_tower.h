// An audio tower on a device: its weights, and plans by the length of the sound.
#pragma once
#include <memory>
#include <vector>

#include "media/mmproj_params.h"
#include "media/tower_tensors.h"

namespace pillion {

// Throws Error for the first tensor that is missing or wrong. Returns the bytes of all in the file.
uint64_t check_audio_tensors(const GgufFile& file, const AudioParams& p);

// Soft tokens of n_samples (16 kHz, one channel); 0: too short for one. Throws invalid_argument for
// more than one piece may have.
int64_t audio_token_count(const AudioParams& p, int64_t n_samples);

class AudioTower {
  public:
    // Imports the weights. The file must outlive the tower.
    AudioTower(const GgufFile& file, const AudioParams& params, const TowerDevice& device);
    ~AudioTower();

    // out: [audio_token_count(), n_embd_out]. Throws cancelled where the queue's flag was set.
    void encode(const float* samples, int64_t n_samples, float* out);
    size_t weight_bytes() const { return 0; }
};

}  // namespace pillion
