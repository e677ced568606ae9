// The host's entry to the formats of dequantize.h: values of a row in the layout of the file.
#pragma once
#include <stdint.h>

#include "core/dtype.h"

namespace pillion::cuda {

void row_values(DType dtype, const uint8_t* row, int width, float* out);

}  // namespace pillion::cuda
