// Imports weights into the DSP's layouts, directly into shared memory.
#pragma once
#include "core/backend.h"

namespace pillion::htp {

// Bytes of a weight in the DSP's layout.
size_t weight_size(const WeightSource& source);
// Writes the weight. False if `cancel` was set.
bool write_weight(const WeightSource& source, int n_threads, const std::atomic<bool>& cancel,
                  uint8_t* to);

}  // namespace pillion::htp
