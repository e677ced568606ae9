// Rotation: computes its table once per run, then norms and rotates query and key heads in place,
// one warp per head.
#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

__global__ void __launch_bounds__(kThreads)
    rope_table_kernel(const float* frequency, int half, float* out, RunRows rows) {
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    const double position = double(rows.place(row).position);
    for (int i = int(threadIdx.x); i < half; i += kThreads) {
        const double angle = position * double(frequency[i]);
        out[size_t(row) * 2 * half + i] = float(cos(angle));
        out[size_t(row) * 2 * half + half + i] = float(sin(angle));
    }
}

__device__ __forceinline__ void norm_head(float* x, const float* w, int n, float eps, int lane) {
    float sum = 0.0f;
    for (int i = lane; i < n; i += 32) sum = fmaf(x[i], x[i], sum);
    const float inverse = 1.0f / sqrtf(warp_sum(sum) / float(n) + eps);
    for (int i = lane; i < n; i += 32) x[i] = w ? x[i] * inverse * w[i] : x[i] * inverse;
    __syncwarp();  // the rotation reads what other lanes wrote
}

__device__ __forceinline__ void rotate_head(float* x, const float* table, int dims,
                                            bool interleaved, int lane) {
    const int half = dims / 2;
    for (int i = lane; i < half; i += 32) {
        float& first = x[interleaved ? 2 * i : i];
        float& second = x[interleaved ? 2 * i + 1 : i + half];
        const float a = first, b = second, c = table[i], s = table[half + i];
        first = fmaf(-b, s, a * c);
        second = fmaf(a, s, b * c);
    }
}

// Query heads first, then KV heads. A value may start as a copy of its key, so one warp handles
// both.
__global__ void __launch_bounds__(kThreads) qkv_kernel(QkvArgs a, RunRows rows) {
    const int row = int(blockIdx.x), lane = int(threadIdx.x) % 32,
              unit = int(blockIdx.y) * kWarps + int(threadIdx.x) / 32;
    if (row >= rows.count()) return;
    const int n = a.p.head_dim, n_queries = a.q ? a.p.n_heads : 0,
              n_keys = a.k || a.v ? a.p.n_kv_heads : 0;
    // Whole warps return, and the block has no barrier.
    if (unit >= n_queries + n_keys) return;
    const float* table = a.rope + size_t(a.rope_is_run ? rows.first() + row : row) * a.p.rope_dims;
    if (unit < n_queries) {
        float* q = a.q + (size_t(row) * a.p.n_heads + unit) * n;
        if (a.q_norm) norm_head(q, a.q_norm, n, a.p.eps, lane);
        return rotate_head(q, table, a.p.rope_dims, a.p.interleaved != 0, lane);
    }
    const size_t at = (size_t(row) * a.p.n_kv_heads + (unit - n_queries)) * n;
    if (a.v) {
        if (a.p.v_from_k)
            for (int i = lane; i < n; i += 32) a.v[at + i] = a.k[at + i];
        __syncwarp();  // before another lane rotates the key
        if (a.p.norm_v) norm_head(a.v + at, nullptr, n, a.p.eps, lane);
    }
    if (!a.k) return;
    if (a.k_norm) norm_head(a.k + at, a.k_norm, n, a.p.eps, lane);
    rotate_head(a.k + at, table, a.p.rope_dims, a.p.interleaved != 0, lane);
}

}  // namespace

void rope_table(const float* frequency, int half, float* out, RunRows rows, stream_t stream) {
    PILLION_LAUNCH(rope_table_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, frequency, half,
                   out, rows);
}

void qkv_norm_rope(const QkvArgs& args, RunRows rows, stream_t stream) {
    const int units = (args.q ? args.p.n_heads : 0) + (args.k || args.v ? args.p.n_kv_heads : 0);
    PILLION_LAUNCH(qkv_kernel, dim3(rows.bound, (units + kWarps - 1) / kWarps), dim3(kThreads), 0,
                   stream, args, rows);
}

}  // namespace pillion::cuda
