// The end of a pass: the most likely token, and the clusters of the assistants' centroid head
// (docs/gemma4.md section 3.3). One block per row.
#include "backends/cuda/device/host.h"
#include "backends/cuda/device/reduce.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 512, kClusterThreads = 256;

// The highest score, the lowest token among equals. A NaN never wins; if all scores are NaN, the
// first does.
__global__ void __launch_bounds__(kThreads) argmax_kernel(ArgmaxArgs a, RunRows rows) {
    PILLION_SHARED(Best, best_of, kThreads / 32);
    PILLION_SHARED(float, shared, kThreads / 32);
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    const float* x = a.scores + size_t(row) * a.width;
    const int32_t* ids = a.ids ? a.ids + row * a.ids_stride : nullptr;
    Best best = {0.0f, -1, -1};
    for (int i = int(threadIdx.x); i < a.width; i += kThreads) {
        const Best candidate = {x[i], ids ? int(ids[i]) : i, i};
        if (x[i] == x[i] && best.loses_to(candidate)) best = candidate;
    }
    best = block_best<kThreads>(best, best_of);
    if (threadIdx.x == 0) a.token[row] = best.key >= 0 ? best.key : ids ? ids[0] : 0;
    if (!a.probability) return;
    const float top = best.key < 0 || best.score == -INFINITY ? 0.0f : best.score;
    float sum = 0.0f;
    for (int i = int(threadIdx.x); i < a.width; i += kThreads) sum += expf(x[i] - top);
    sum = block_sum<kThreads>(sum, shared);
    if (threadIdx.x == 0) a.probability[row] = 1.0f / sum;
}

__global__ void __launch_bounds__(kClusterThreads)
    cluster_kernel(CentroidHeadParams p, const float* scores, const int32_t* order,
                   int cluster_rows, int32_t* clusters, int32_t* ids, RunRows rows) {
    PILLION_SHARED(Best, best_of, kClusterThreads / 32);
    PILLION_DYNAMIC_SHARED(float, left);  // the scores of clusters not chosen yet
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    scores += size_t(row) * p.n_centroids, clusters += size_t(row) * p.n_active;
    ids += size_t(row) * p.n_active * cluster_rows;
    for (int c = int(threadIdx.x); c < p.n_centroids; c += kClusterThreads)
        left[c] = scores[c] == scores[c] ? scores[c] : -INFINITY;
    for (int k = 0; k < p.n_active; k++) {
        Best best = {0.0f, -1, -1};
        for (int c = int(threadIdx.x); c < p.n_centroids; c += kClusterThreads) {
            const Best candidate = {left[c], left[c] == left[c] ? c : -1, c};
            if (best.loses_to(candidate)) best = candidate;
        }
        best = block_best<kClusterThreads>(best, best_of);
        const int chosen = best.key;
        if (chosen % kClusterThreads == int(threadIdx.x)) {
            clusters[k] = chosen;
            left[chosen] = NAN;  // taken
        }
        for (int i = int(threadIdx.x); i < cluster_rows; i += kClusterThreads)
            ids[size_t(k) * cluster_rows + i] = order[size_t(chosen) * cluster_rows + i];
    }
}

}  // namespace

void argmax(const ArgmaxArgs& args, RunRows rows, stream_t stream) {
    PILLION_LAUNCH(argmax_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, args, rows);
}

void choose_clusters(const CentroidHeadParams& p, const float* scores, const int32_t* order,
                     int cluster_rows, int32_t* clusters, int32_t* ids, RunRows rows,
                     stream_t stream) {
    PILLION_LAUNCH(cluster_kernel, dim3(rows.bound), dim3(kClusterThreads),
                   size_t(p.n_centroids) * 4, stream, p, scores, order, cluster_rows, clusters, ids,
                   rows);
}

}  // namespace pillion::cuda
