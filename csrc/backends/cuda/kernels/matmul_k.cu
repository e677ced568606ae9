// Instances of the matmul kernels for formats with a header for 256 inputs.
#include "backends/cuda/kernels/matmul_quant.cuh"

namespace pillion::cuda {
template void matmul_quant<DType::q2_k>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q3_k>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q4_k>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q5_k>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::q6_k>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_quant<DType::iq4_xs>(const MatmulArgs&, dim3, int, stream_t);
}  // namespace pillion::cuda
