// Instances of the matmul kernels for formats with a scale in each block of 32.
#include "backends/cuda/kernels/matmul_quant.cuh"

namespace pillion::cuda {
template void matmul_quant<DType::q4_0>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q4_1>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q5_0>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q5_1>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q8_0>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::iq4_nl>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::mxfp4_x>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::nvfp4_x>(const MatmulArgs&, dim3, int, stream_t);
}  // namespace pillion::cuda
