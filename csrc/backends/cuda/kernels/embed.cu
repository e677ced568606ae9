// Embedding rows from tables in the file's layout, and the per-layer embeddings of the small Gemma
// 4 models (docs/gemma4.md section 2.3).
#include "backends/cuda/device/host.h"
#include "backends/cuda/device/reduce.h"
#include "backends/cuda/kernels/dequantize.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 256, kSliceThreads = 128;

__global__ void __launch_bounds__(kThreads)
    embed_kernel(RowTable table, const int32_t* tokens, float scale, float* out, RunRows rows) {
    const int row = int(blockIdx.x);
    if (row >= rows.count()) return;
    const int token = min(max(int(tokens[row]), 0), table.n_rows - 1);
    const uint8_t* from = table.data + size_t(token) * size_t(table.row_bytes);
    for (int i = int(threadIdx.x); i < table.width; i += kThreads)
        out[size_t(row) * table.width + i] = row_value(table.dtype, from, i) * scale;
}

// Rows whose token is below 0 become those of `media`.
__global__ void __launch_bounds__(kThreads)
    media_kernel(const float* media, const int32_t* tokens, int width, float* out, RunRows rows) {
    const int row = int(blockIdx.x);
    if (row >= rows.count() || tokens[row] >= 0) return;
    const float* from = media + size_t(min(-1 - tokens[row], rows.bound - 1)) * width;
    for (int i = int(threadIdx.x); i < width; i += kThreads) out[size_t(row) * width + i] = from[i];
}

// One block per layer's slice of a row.
__global__ void __launch_bounds__(kSliceThreads)
    per_layer_kernel(PerLayerEmbedParams p, float* e, const float* proj, const float* w,
                     RunRows rows) {
    PILLION_SHARED(float, shared, kSliceThreads / 32);
    const int row = int(blockIdx.x), layer = int(blockIdx.y), n = p.width;
    if (row >= rows.count()) return;
    const size_t at = (size_t(row) * p.n_layers + layer) * n;
    float sum = 0.0f;
    for (int i = int(threadIdx.x); i < n; i += kSliceThreads) {
        const float b = proj[at + i] * p.proj_scale;
        sum = fmaf(b, b, sum);
    }
    const float inverse = 1.0f / sqrtf(block_sum<kSliceThreads>(sum, shared) / float(n) + p.eps);
    for (int i = int(threadIdx.x); i < n; i += kSliceThreads) {
        const float b = proj[at + i] * p.proj_scale * inverse;
        e[at + i] = (e[at + i] * p.table_scale + (w ? b * w[i] : b)) * p.out_scale;
    }
}

}  // namespace

void embed_rows(const RowTable& table, const int32_t* tokens, float scale, float* out, RunRows rows,
                stream_t stream) {
    PILLION_LAUNCH(embed_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, table, tokens, scale,
                   out, rows);
}

void media_rows(const float* media, const int32_t* tokens, int width, float* out, RunRows rows,
                stream_t stream) {
    PILLION_LAUNCH(media_kernel, dim3(rows.bound), dim3(kThreads), 0, stream, media, tokens, width,
                   out, rows);
}

void per_layer_embed(const PerLayerEmbedParams& p, float* e, const float* proj, const float* norm,
                     RunRows rows, stream_t stream) {
    PILLION_LAUNCH(per_layer_kernel, dim3(rows.bound, p.n_layers), dim3(kSliceThreads), 0, stream,
                   p, e, proj, norm, rows);
}

}  // namespace pillion::cuda
