// Asks whether the device can run this module, and measures the best that it can do.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/device/runtime.h"

namespace pillion::cuda {

// no_backend with a readable sentence where the module holds neither code for the device nor PTX
// that its driver can translate. It asks for one kernel: all are compiled for the same list.
Result<void> check_code(int device_index, const DeviceInfo& device);

// Reads all of `bytes` (a multiple of 16) once, with every multiprocessor. `sums` gets 8 words per
// block, so that the compiler keeps every read.
void read_all(const uint8_t* bytes, size_t n, uint32_t* sums, int sm_count, stream_t stream);
constexpr int kReadBlocksPerSm = 8;

}  // namespace pillion::cuda
