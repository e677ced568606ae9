// kernels/matmul.h in its plainest form: weights stay as in the file, a warp computes one output. Stands in for the real kernels.
#include <string.h>

#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/dequantize.h"
#include "backends/cuda/kernels/matmul.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

size_t plain_row_bytes(DType dtype, int64_t width) { return row_bytes(dtype, width); }

// Output (row, slot, o) = weight row base(row, slot) + o times input row (row, slot or none).
struct Product {
    const uint8_t* weights;
    DType dtype;
    int64_t row_bytes, width;
    int64_t rows;              // of one matrix
    int64_t n_rows_all;
    const float* x;
    const int32_t* choice;     // [rows, n_slots]: which matrix of the stack; null: the first
    int n_slots, per_row;
    const int32_t* count;
    int32_t max;
    float* out;
};

__global__ void __launch_bounds__(kThreads) plain_kernel(Product p) {
    const int lane = int(threadIdx.x) % 32, slot = int(blockIdx.x) % p.n_slots, row = int(blockIdx.x) / p.n_slots;
    const int64_t o = int64_t(blockIdx.y) * kWarps + int(threadIdx.x) / 32;
    if (row >= (p.count ? min(*p.count, p.max) : p.max) || o >= p.rows) return;
    const int64_t at = (p.choice ? int64_t(p.choice[int64_t(row) * p.n_slots + slot]) : 0) * p.rows + o;
    if (at < 0 || at >= p.n_rows_all) return;
    const uint8_t* w = p.weights + at * p.row_bytes;
    const float* x = p.x + (int64_t(row) * p.per_row + (p.per_row > 1 ? slot : 0)) * p.width;
    float sum = 0.0f;
    for (int i = lane; i < p.width; i += 32) sum = fmaf(row_value(p.dtype, w, i), x[i], sum);
    sum = warp_sum(sum);
    if (lane == 0) p.out[(int64_t(row) * p.n_slots + slot) * p.rows + o] = sum;
}

void run(Product p, stream_t stream) {
    PILLION_LAUNCH(plain_kernel, dim3(p.max * p.n_slots, unsigned((p.rows + kWarps - 1) / kWarps)), dim3(kThreads), 0, stream, p);
}

__global__ void __launch_bounds__(kThreads) unpack_kernel(Product p, float scale) {
    const int row = int(blockIdx.x);
    if (row >= (p.count ? min(*p.count, p.max) : p.max)) return;
    const int64_t at = min(max((long long)(p.choice[row]), 0ll), (long long)(p.rows - 1));
    for (int i = int(threadIdx.x); i < p.width; i += kThreads)
        p.out[row * p.width + i] = row_value(p.dtype, p.weights + at * p.row_bytes, i) * scale;
}

}  // namespace

bool matmul_supports(DType dtype) {
    switch (dtype) {
        case DType::i8: case DType::i16: case DType::i32: case DType::i64: case DType::f64: return false;
        default: return true;
    }
}

size_t packed_bytes(DType dtype, int64_t rows, int64_t width) { return (row_bytes(dtype, width) * size_t(rows) + 255) / 256 * 256; }

void repack(DType dtype, const void* file_rows, int64_t begin, int64_t end, int64_t, int64_t width, void* packed) {
    const size_t row = row_bytes(dtype, width);
    memcpy(static_cast<uint8_t*>(packed) + row * size_t(begin), static_cast<const uint8_t*>(file_rows) + row * size_t(begin),
           row * size_t(end - begin));
}

InputKind input_kind(DType, int32_t) { return InputKind::f32; }
size_t input_bytes(InputKind, int32_t, int64_t) { return 0; }
void prepare_input(const MatmulInput&, RowCount, stream_t) {}

void matmul(const PackedWeight& w, const MatmulInput& input, float* out, RowCount rows, stream_t stream) {
    run({static_cast<const uint8_t*>(w.data), w.dtype, int64_t(plain_row_bytes(w.dtype, w.width)), w.width, w.rows, w.rows * w.depth, input.x,
         nullptr, 1, 1, rows.count, rows.max, out}, stream);
}

// The lists of the plain kernel: the ids themselves.
size_t moe_lists_bytes(const MoeShape& shape, int32_t rows_max) { return size_t(shape.n_used) * size_t(rows_max) * 4; }
void moe_group(const MoeShape& shape, const int32_t* ids, void* lists, RowCount rows, stream_t stream) {
    stream->copy(lists, ids, moe_lists_bytes(shape, rows.max));
}
void moe_matmul(const PackedWeight& w, const MoeShape& shape, const void* lists, const MatmulInput& input, float* out, RowCount rows,
                stream_t stream) {
    run({static_cast<const uint8_t*>(w.data), w.dtype, int64_t(plain_row_bytes(w.dtype, w.width)), w.width, w.rows, w.rows * w.depth, input.x,
         static_cast<const int32_t*>(lists), shape.n_used, shape.per_row, rows.count, rows.max, out}, stream);
}

void cluster_matmul(const PackedWeight& w, const int32_t* clusters, int32_t n_clusters, int32_t cluster_rows, const MatmulInput& input,
                    float* out, RowCount rows, stream_t stream) {
    run({static_cast<const uint8_t*>(w.data), w.dtype, int64_t(plain_row_bytes(w.dtype, w.width)), w.width, cluster_rows, w.rows, input.x,
         clusters, n_clusters, 1, rows.count, rows.max, out}, stream);
}

void unpack_rows(const PackedWeight& w, const int32_t* ids, float scale, float* out, RowCount rows, stream_t stream) {
    const Product p = {static_cast<const uint8_t*>(w.data), w.dtype, int64_t(plain_row_bytes(w.dtype, w.width)), w.width, w.rows, w.rows, nullptr,
                       ids, 1, 1, rows.count, rows.max, out};
    PILLION_LAUNCH(unpack_kernel, dim3(rows.max), dim3(kThreads), 0, stream, p, scale);
}

}  // namespace pillion::cuda
