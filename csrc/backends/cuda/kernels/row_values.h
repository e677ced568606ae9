// Host functions for the formats of dequantize.h: the values of a row in the file's layout.
#pragma once
#include <stdint.h>

#include "core/dtype.h"

namespace pillion::cuda {

void row_values(DType dtype, const uint8_t* row, int width, float* out);

}  // namespace pillion::cuda
