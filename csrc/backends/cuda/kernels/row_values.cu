#include "backends/cuda/kernels/dequantize.h"
#include "backends/cuda/kernels/row_values.h"

namespace pillion::cuda {

void row_values(DType dtype, const uint8_t* row, int width, float* out) {
    for (int i = 0; i < width; i++) out[i] = row_value(dtype, row, i);
}

}  // namespace pillion::cuda
