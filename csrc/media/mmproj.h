// An mmproj file: a vision tower, an audio tower, or both, on the CPU. Opening reads the header and
// looks at every tensor; a tower's weights are imported at its first use. Safe from any thread:
// encodings of one file run one after the other.
#pragma once
#include <memory>
#include <string>

#include "core/fork.h"
#include "media/audio_tower.h"
#include "media/image_grid.h"
#include "media/vision_tower.h"

namespace pillion {

class Mmproj {
  public:
    // n_threads 0: all cores that this process may use. Throws Error with the file's path.
    Mmproj(const std::string& path, int n_threads);

    const MmprojParams& params() const { return params_; }
    const GgufFile& file() const { return file_; }
    std::string to_json() const;

    // All four throw invalid_argument for a file without that tower.
    ImageGrid image_grid(int64_t height, int64_t width, int n_tokens) const;
    // rgb: [height, width, 3]. out: [image_grid().n(), n_embd_out]; capacity: its rows.
    // buffer_too_small: it has fewer. Throws cancelled.
    void encode_image(const uint8_t* rgb, int64_t height, int64_t width, int n_tokens, float* out,
                      int64_t capacity);
    int64_t audio_tokens(int64_t n_samples) const;
    // samples: 16 kHz, one channel, -1 .. 1. out: [audio_tokens(), n_embd_out]; as above.
    void encode_audio(const float* samples, int64_t n_samples, float* out, int64_t capacity);
    // Stops the encoding under way; from any thread.
    void cancel() { queue_->cancel.store(true); }

  private:
    class Turn;  // one encoding at a time
    const VisionParams& vision() const;
    const AudioParams& audio() const;

    GgufFile file_;
    MmprojParams params_;
    uint64_t vision_bytes_ = 0, audio_bytes_ = 0;  // in the file
    int audio_width_ = 0;                          // AudioWeights::n_projected
    Backend& backend_;
    std::unique_ptr<Queue> queue_;
    ForkMutex mutex_;
    bool is_broken_ = false;  // a fork() copied it in the middle of an encoding
    std::unique_ptr<VisionTower> vision_tower_;
    std::unique_ptr<AudioTower> audio_tower_;
};

}  // namespace pillion
