// RMS norms of rows, one block per row. The sum of squares runs in 256 strided chains, then as a
// tree.
#include "backends/cuda/device/host.h"
#include "backends/cuda/device/reduce.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float inverse_rms(const float* x, int n, float eps, smem<float> shared) {
    float sum = 0.0f;
    for (int i = int(threadIdx.x); i < n; i += kThreads) sum = fmaf(x[i], x[i], sum);
    return 1.0f / sqrtf(block_sum<kThreads>(sum, shared) / float(n) + eps);
}

__global__ void __launch_bounds__(kThreads)
    norm_kernel(const float* x, const float* w, float* y, int n, float eps, float scale,
                RunRows rows) {
    PILLION_SHARED(float, shared, kThreads / 32);
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    x += size_t(row) * n, y += size_t(row) * n;
    const float inverse = inverse_rms(x, n, eps, shared);
    for (int i = int(threadIdx.x); i < n; i += kThreads) {
        const float v = w ? x[i] * inverse * w[i] : x[i] * inverse;
        y[i] = scale != 1.0f ? v * scale : v;
    }
}

__global__ void __launch_bounds__(kThreads)
    norm_add_kernel(const float* branch, const float* w, const float* residual, float* y, int n,
                    float eps, float scale, RunRows rows) {
    PILLION_SHARED(float, shared, kThreads / 32);
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    branch += size_t(row) * n, residual += size_t(row) * n, y += size_t(row) * n;
    const float inverse = inverse_rms(branch, n, eps, shared);
    for (int i = int(threadIdx.x); i < n; i += kThreads) {
        const float v = w ? branch[i] * inverse * w[i] : branch[i] * inverse;
        y[i] = (residual[i] + v) * scale;
    }
}

}  // namespace

void norm(const float* x, const float* weight, float* y, int width, float eps, float scale,
          RunRows rows, stream_t stream) {
    PILLION_LAUNCH(norm_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, x, weight, y, width,
                   eps, scale, rows);
}

void norm_add(const float* branch, const float* weight, const float* residual, float* y, int width,
              float eps, float scale, RunRows rows, stream_t stream) {
    PILLION_LAUNCH(norm_add_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, branch, weight,
                   residual, y, width, eps, scale, rows);
}

}  // namespace pillion::cuda
