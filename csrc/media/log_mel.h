// The log-mel spectrogram that Gemma 4's audio encoder reads (transformers' Gemma4AudioFeature-
// Extractor): 128 bands of 0 to 8 kHz, a frame of 20 ms every 10 ms of sound at 16 kHz.
#pragma once
#include <stdint.h>

namespace pillion {

constexpr int kMelBands = 128, kMelHop = 160;

// Frames of so many samples; 0 below 161.
int64_t log_mel_frames(int64_t n_samples);

// Throws invalid_argument for one that is not finite.
void check_samples(const float* samples, int64_t n_samples);

// Frames [begin, end) of these samples into out [end - begin, kMelBands]; end at most
// log_mel_frames(n_samples). M = ln(S F + 0.001) with the magnitudes S of each frame's spectrum, in
// float64 but for what is stored.
void log_mel(const float* samples, int64_t n_samples, int64_t begin, int64_t end, float* out);

}  // namespace pillion
