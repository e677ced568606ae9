// Weights into the DSP's layouts, straight into shared memory.
#pragma once
#include "core/backend.h"

namespace pillion::htp {

// Bytes of a weight as the DSP keeps it.
size_t weight_size(const WeightSource& source);
// Writes it. False: `cancel` was set.
bool write_weight(const WeightSource& source, int n_threads, const std::atomic<bool>& cancel,
                  uint8_t* to);

}  // namespace pillion::htp
