// Instances of the matmul kernels for formats with a header for 256 inputs that core/expand.h makes
// of others.
#include "backends/cuda/kernels/matmul_quant.cuh"

namespace pillion::cuda {
template void matmul_quant<DType::iq3_xxs_x>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::iq3_s_x>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::iq2_x>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::iq1_x>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::tq2_0>(const MatmulArgs&, dim3, int, stream_t);
}  // namespace pillion::cuda
