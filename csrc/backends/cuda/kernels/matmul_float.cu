// Many rows, F16 and BF16 weights: tensor-core tiles of 128 weight rows by kColumns columns, f32
// sums. F16 inputs are scaled rows. BF16 inputs have two terms and a product for each. The warps
// divide the work as in matmul_quant.cuh.
#include "backends/cuda/kernels/matmul_job.h"

namespace pillion::cuda {

constexpr int kThreads = 256, kInputs = 32;  // inputs of a stage
// Halves between staged rows: 8 rows of 16 bytes fill all banks once.
constexpr int kRow = kInputs + 8;
static_assert(kInputs == kFloatUnit, "packed rows end with a stage");

template <DType T, int kColumns>
struct FloatStage {
    static constexpr int kTerms = T == DType::bf16 ? 2 : 1;
    static constexpr int kHalves = (kTileRows + kTerms * kColumns) * kRow;
    static constexpr int kShared = 2 * kHalves * int(sizeof(half));
};

// Copies 16-byte pieces of 32 inputs of the tile's weight rows and columns.
template <DType T, int kColumns>
struct FloatLoader {
    using S = FloatStage<T, kColumns>;
    static constexpr int kWeightPieces = kTileRows * 4 / kThreads;
    static constexpr int kInputPieces = (S::kTerms * kColumns * 4 + kThreads - 1) / kThreads;

    const half* weight[kWeightPieces];
    const half* input[kInputPieces];

    // Rows and columns past the end repeat the last one.
    __device__ FloatLoader(const MatmulArgs& a, const Job& job, int row0) {
        const int tid = int(threadIdx.x), inner = tid % 4 * 8;
        const size_t stride = size_t((int(a.width) + kFloatUnit - 1) / kFloatUnit * kFloatUnit);
        PILLION_UNROLL
        for (int i = 0; i < kWeightPieces; i++) {
            const int row = min(row0 + (tid + kThreads * i) / 4, int(a.rows) - 1);
            weight[i] = reinterpret_cast<const half*>(a.weight.codes) +
                        (job.weight_row + size_t(row)) * stride + inner;
        }
        PILLION_UNROLL
        for (int i = 0; i < kInputPieces; i++) {
            const int piece = (tid + kThreads * i) / 4, term = piece / kColumns % S::kTerms;
            const size_t row = size_t(term) * size_t(a.input_rows) +
                               size_t(job.input_row(min(piece % kColumns, job.columns - 1)));
            input[i] = static_cast<const half*>(a.values) + row * stride + inner;
        }
    }
    __device__ __forceinline__ void start(smem<half> stage, int first) const {
        const int tid = int(threadIdx.x), inner = tid % 4 * 8;
        PILLION_UNROLL
        for (int i = 0; i < kWeightPieces; i++)
            cp_async16(stage + ((tid + kThreads * i) / 4 * kRow + inner), weight[i] + first);
        PILLION_UNROLL
        for (int i = 0; i < kInputPieces; i++) {
            const int piece = (tid + kThreads * i) / 4;
            if (piece < S::kTerms * kColumns)
                cp_async16(stage + ((kTileRows + piece) * kRow + inner), input[i] + first);
        }
        cp_async_commit();
    }
};

template <DType T, int kColumns>
static __device__ __forceinline__ void multiply_stage(const smem<half>& stage, int row0,
                                                      int column0, FragC (&sum)[2][kColumns / 16]) {
    PILLION_UNROLL
    for (int k = 0; k < kInputs; k += 16) {
        FragA weight[2];
        PILLION_UNROLL
        for (int m = 0; m < 2; m++) load_a(weight[m], stage + ((row0 + 16 * m) * kRow + k), kRow);
        PILLION_UNROLL
        for (int term = 0; term < FloatStage<T, kColumns>::kTerms; term++) {
            PILLION_UNROLL
            for (int n = 0; n < kColumns / 16; n++) {
                FragB x;
                load_b_by_column(
                    x, stage + ((kTileRows + term * kColumns + column0 + 8 * n) * kRow + k), kRow);
                PILLION_UNROLL
                for (int m = 0; m < 2; m++) {
                    if constexpr (T == DType::bf16) mma_bf16(sum[m][n], weight[m], x);
                    else mma(sum[m][n], weight[m], x);
                }
            }
        }
    }
}

template <DType T, int kColumns>
static __global__ void __launch_bounds__(kThreads, 2) matmul_float_kernel(MatmulArgs a) {
    using S = FloatStage<T, kColumns>;
    const Job job = make_job(a, int(blockIdx.x), 0);
    if (job.columns == 0) return;
    PILLION_DYNAMIC_SHARED(half, shared);
    const int row0 = int(blockIdx.y) * kTileRows, warp = int(threadIdx.x) / 32;
    const int warp_row = warp / 2 * 32, warp_column = warp % 2 * (kColumns / 2);
    const FloatLoader<T, kColumns> loader(a, job, row0);
    FragC sum[2][kColumns / 16];
    PILLION_UNROLL
    for (int m = 0; m < 2; m++) {
        PILLION_UNROLL
        for (int n = 0; n < kColumns / 16; n++) sum[m][n] = FragC{{0.0f, 0.0f, 0.0f, 0.0f}};
    }
    loader.start(shared, 0);
    int at = 0;
    for (int first = 0; first < int(a.width); first += kInputs) {
        cp_async_wait<0>();
        __syncthreads();  // the stage is complete, and the other one is read
        if (first + kInputs < int(a.width))
            loader.start(shared + (S::kHalves - at * S::kHalves), first + kInputs);
        multiply_stage<T, kColumns>(shared + at * S::kHalves, warp_row, warp_column, sum);
        at ^= 1;
    }
    PILLION_UNROLL
    for (int n = 0; n < kColumns / 16; n++) {
        PILLION_UNROLL
        for (int i = 0; i < 2; i++) {
            const int column = warp_column + 8 * n + frag_c_col(i);
            if (column >= job.columns) continue;
            float* out = job.out + size_t(job.out_row(column)) * size_t(a.out_stride);
            const float by = T == DType::bf16 ? 1.0f : a.value_scales[job.input_row(column)];
            PILLION_UNROLL
            for (int m = 0; m < 4; m++) {
                const int row = row0 + warp_row + 16 * (m / 2) + frag_c_row(2 * (m & 1));
                if (row < a.rows) out[row] = mul_rn(sum[m / 2][n].x[2 * (m & 1) + i], by);
            }
        }
    }
}

template <DType T>
void matmul_float(const MatmulArgs& a, dim3 grid, int columns, stream_t stream) {
    const dim3 block(kThreads);
    if (columns == 32)
        PILLION_LAUNCH((matmul_float_kernel<T, 32>), grid, block, (FloatStage<T, 32>::kShared),
                       stream, a);
    else if (columns == 64)
        PILLION_LAUNCH((matmul_float_kernel<T, 64>), grid, block, (FloatStage<T, 64>::kShared),
                       stream, a);
    else
        PILLION_LAUNCH((matmul_float_kernel<T, 128>), grid, block, (FloatStage<T, 128>::kShared),
                       stream, a);
}

static __global__ void __launch_bounds__(kThreads)
    scale_rows_kernel(float* out, const float* scales, int64_t width) {
    const int64_t i = int64_t(blockIdx.x) * kThreads + int64_t(threadIdx.x);
    float* const at = out + size_t(blockIdx.y) * size_t(width) + size_t(i);
    if (i < width) *at = mul_rn(*at, scales[blockIdx.y]);
}

void scale_rows(float* out, const float* scales, int n, int64_t width, stream_t stream) {
    PILLION_LAUNCH(scale_rows_kernel,
                   dim3(unsigned((width + kThreads - 1) / kThreads), unsigned(n)), dim3(kThreads),
                   0, stream, out, scales, width);
}

template void matmul_float<DType::f16>(const MatmulArgs&, dim3, int, stream_t);
template void matmul_float<DType::bf16>(const MatmulArgs&, dim3, int, stream_t);

}  // namespace pillion::cuda
