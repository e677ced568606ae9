// Measures the best that the device can do.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/device/runtime.h"

namespace pillion::cuda {

// Reads all of `bytes` (a multiple of 16) once, with every multiprocessor. `sums` gets 8 words per
// block, so that the compiler keeps every read.
void read_all(const uint8_t* bytes, size_t n, uint32_t* sums, int sm_count, stream_t stream);
constexpr int kReadBlocksPerSm = 8;

}  // namespace pillion::cuda
