// Sound from files: WAV, FLAC and MP3, by miniaudio (third_party/miniaudio).
#pragma once
#include <string>
#include <vector>

namespace pillion::run {

// 16 kHz, the mean of all channels, -1 .. 1. name: for sentences. Throws UsageError: no sound, a
// broken one, more than 30 minutes.
std::vector<float> decode_sound(const std::string& bytes, const std::string& name);

}  // namespace pillion::run
