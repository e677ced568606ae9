// An audio tower on a device: its weights, and a plan for sounds of up to some length.
#pragma once
#include <memory>

#include "media/audio_weights.h"
#include "media/mmproj_params.h"

namespace pillion {

// Samples a second of the sound that a tower hears, and the most of one piece for gemma4a: the
// model was trained on up to 30 seconds.
constexpr int kAudioRate = 16000, kAudioSamplesMax = 30 * kAudioRate;

// Soft tokens of n_samples (16 kHz, one channel); 0: too short for one. n_projected: the width that
// AudioWeights has. Throws invalid_argument for more than one piece may have.
int64_t audio_token_count(const AudioParams& p, int n_projected, int64_t n_samples);

class AudioTower {
  public:
    // Imports the weights. The file must outlive the tower.
    AudioTower(const GgufFile& file, const AudioParams& params, const TowerDevice& device);

    // out: [audio_token_count(), n_embd_out]. Throws invalid_argument for a sound too short for a
    // token and for a sample that is not finite, cancelled where the queue's flag was set.
    void encode(const float* samples, int64_t n_samples, float* out);

  private:
    int64_t rows_of(int64_t n_tokens) const;
    void compile(int64_t n_tokens);
    void fill(const float* samples, int64_t n_samples, int64_t n_rows);

    AudioParams p_;
    TowerDevice device_;
    AudioWeights weights_;
    std::unique_ptr<Buffer> buffer_;  // of the weights
    int64_t tokens_max_ = 0;          // of the plan
    std::unique_ptr<Buffer> in_, out_;
    std::unique_ptr<Plan> plan_;
};

}  // namespace pillion
