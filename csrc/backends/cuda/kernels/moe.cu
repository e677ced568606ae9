// Routes rows to experts, and sums the experts' outputs.
#include "backends/cuda/device/host.h"
#include "backends/cuda/device/reduce.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kSumThreads = 256;

// One warp per row: n_used rounds choose the best expert not taken yet, then the softmax over
// those. The denominator of the softmax over all experts cancels in the renormalisation.
__global__ void __launch_bounds__(kThreads)
    route_kernel(MoeParams p, const float* logits, const float* expert_scale, int32_t* ids,
                 float* gates, RunRows rows) {
    const int row = int(blockIdx.x) * kWarps + int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    if (row >= rows.count()) return;
    logits += size_t(row) * p.n_experts, ids += size_t(row) * p.n_used,
        gates += size_t(row) * p.n_used;
    for (int k = 0; k < p.n_used; k++) {
        Best best = {0.0f, -1, -1};
        for (int e = lane; e < p.n_experts; e += 32) {
            bool taken = false;
            for (int j = 0; j < k; j++) taken |= ids[j] == e;
            const Best candidate = {logits[e], e, e};
            if (!taken && best.loses_to(candidate)) best = candidate;
        }
        best = warp_best(best);
        if (lane == 0) ids[k] = best.key;
        __syncwarp();
    }
    if (lane != 0) return;
    float sum = 0.0f;
    for (int k = 0; k < p.n_used; k++) {
        gates[k] = expf(logits[ids[k]] - logits[ids[0]]);
        sum += gates[k];
    }
    for (int k = 0; k < p.n_used; k++)
        gates[k] = gates[k] / sum * (expert_scale ? expert_scale[ids[k]] : 1.0f);
}

__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(int n_used, const float* x, const float* gates, float* y, int width, RunRows rows) {
    const int row = int(blockIdx.x), i = int(blockIdx.y) * kSumThreads + int(threadIdx.x);
    if (row >= rows.count() || i >= width) return;
    x += size_t(row) * n_used * width, gates += size_t(row) * n_used;
    float sum = x[i] * gates[0];
    for (int k = 1; k < n_used; k++) sum = fmaf(x[size_t(k) * width + i], gates[k], sum);
    y[size_t(row) * width + i] = sum;
}

}  // namespace

void moe_route(const MoeParams& p, const float* logits, const float* expert_scale, int32_t* ids,
               float* gates, RunRows rows, stream_t stream) {
    PILLION_LAUNCH(route_kernel, dim3((rows.bound + kWarps - 1) / kWarps), dim3(kThreads), 0,
                   stream, p, logits, expert_scale, ids, gates, rows);
}

void moe_sum(const MoeParams& p, const float* x, const float* gates, float* y, int width,
             RunRows rows, stream_t stream) {
    PILLION_LAUNCH(sum_kernel, dim3(rows.bound, (width + kSumThreads - 1) / kSumThreads),
                   dim3(kSumThreads), 0, stream, p.n_used, x, gates, y, width, rows);
}

}  // namespace pillion::cuda
