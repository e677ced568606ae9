// Weights on their way from the file to the device.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "core/backend.h"

namespace pillion::cuda {

bool is_weight_type(DType dtype);
size_t weight_size(const WeightSource& source);    // of its place in the weight buffer; 0: it stays in the file
// What lies there, made on the host: packed (matrix), f32 (vector), or the file's bytes (table). False when `cancel` was seen.
bool make_weight(const WeightSource& source, int n_threads, const std::atomic<bool>& cancel, std::vector<uint8_t>& bytes);

}  // namespace pillion::cuda
