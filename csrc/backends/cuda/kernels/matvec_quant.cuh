// A few rows, quantized weights: dp4a. Sixteen lanes share a weight row; lane i takes blocks i, i +
// 16, ... A lane reads 16 bytes of codes at a time, so that sixteen lanes read 256 bytes in one
// piece. Half a warp works on kRows rows at once: the activations that it loads serve all of them,
// and the warp's other half reads the same ones in the same instruction. Without this, the first
// cache would limit nine columns: for 4-bit weights they need 18 bytes of activations per byte of
// weights.
//
// The order of a sum is a lane's blocks in order, then the lanes as a tree (8, 4, 2, 1). It depends
// only on the row.
#pragma once

#include "backends/cuda/kernels/matmul_job.h"

namespace pillion::cuda {

constexpr int kMatvecThreads = 128, kMatvecLanes = 16;

template <DType T>
struct QuantTraits {
    static constexpr Codes kCodes = packed_format(T).codes;
    static constexpr Scales kScales = packed_format(T).scales;
    static constexpr int kFactor = code_factor(kCodes);
    static constexpr int kNScales = n_scales(kScales);
    static constexpr int kNLows = n_lows(kScales);
};

// Multiplies one block of one row with one column's block: sum += scale * d * (codes . q) - low * d
// * sum of q.
template <Scales S>
static __device__ __forceinline__ float add_block(const uint32_t (&w)[8], const BlockScales<S>& b,
                                                  const int4& x0, const int4& x1,
                                                  const float2& sums, const float2& halves,
                                                  float sum) {
    int first = kSumStart;
    first = __dp4a(int(w[0]), x0.x, first);
    first = __dp4a(int(w[1]), x0.y, first);
    first = __dp4a(int(w[2]), x0.z, first);
    first = __dp4a(int(w[3]), x0.w, first);
    int second = n_scales(S) == 1 ? first : kSumStart;
    second = __dp4a(int(w[4]), x1.x, second);
    second = __dp4a(int(w[5]), x1.y, second);
    second = __dp4a(int(w[6]), x1.z, second);
    second = __dp4a(int(w[7]), x1.w, second);
    if constexpr (n_scales(S) == 1) {
        sum = fma_rn(mul_rn(sum_value(second), sums.x), b.scale[0], sum);
    } else {
        sum = fma_rn(fma_rn(sum_value(second), b.scale[1], mul_rn(sum_value(first), b.scale[0])),
                     sums.x, sum);
    }
    if constexpr (n_lows(S) == 1) sum = fma_rn(-b.low[0], sums.y, sum);
    if constexpr (n_lows(S) == 2)
        sum = fma_rn(-b.low[1], halves.y, fma_rn(-b.low[0], halves.x, sum));
    return sum;
}

static __device__ __forceinline__ float sum_of_16(float v) {
    PILLION_UNROLL
    for (int o = kMatvecLanes / 2; o > 0; o >>= 1)
        v += __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32);
    return v;
}

// Columns first .. first + kColumns - 1 of the job.
template <DType T, int kColumns, int kRows>
static __device__ __forceinline__ void matvec_quant_columns(const MatmulArgs& a, const Job& job,
                                                            int row, int first) {
    using F = QuantTraits<T>;
    const int lane = int(threadIdx.x) % kMatvecLanes;
    const int4* codes = reinterpret_cast<const int4*>(a.codes);
    size_t at[kRows];
    RawCodes<F::kCodes> raw[kRows];
    RawScales raw_scales[kRows];
    float sum[kRows][kColumns];
    // index of a column's first block
    int input[kColumns];
    PILLION_UNROLL
    for (int c = 0; c < kColumns; c++) input[c] = job.input_row(first + c) * a.input_blocks;
    PILLION_UNROLL
    for (int r = 0; r < kRows; r++) {
        at[r] = (job.weight_row + size_t(min(row + r, int(a.rows) - 1))) * size_t(a.blocks);
        PILLION_UNROLL
        for (int c = 0; c < kColumns; c++) sum[r][c] = 0.0f;
        if (lane < a.blocks) {
            load_codes<F::kCodes>(raw[r], a.weight, at[r] + size_t(lane));
            load_scales<F::kScales>(raw_scales[r], a.weight, at[r] + size_t(lane));
        }
    }
    // One block is loaded ahead already; more would cost registers that nine columns do not have.
    PILLION_NO_UNROLL
    for (int b = lane; b < a.blocks; b += kMatvecLanes) {
        uint32_t w[kRows][8];
        BlockScales<F::kScales> scales[kRows];
        PILLION_UNROLL
        for (int r = 0; r < kRows; r++) {
            decode_block<F::kCodes>(raw[r], w[r]);
            decode_scales<F::kScales, F::kFactor>(raw_scales[r], b & 7, scales[r]);
            // Loads the next block's bytes while this one is multiplied.
            const size_t next = at[r] + size_t(min(b + kMatvecLanes, a.blocks - 1));
            load_codes<F::kCodes>(raw[r], a.weight, next);
            load_scales<F::kScales>(raw_scales[r], a.weight, next);
        }
        PILLION_UNROLL
        for (int c = 0; c < kColumns; c++) {
            const size_t i = size_t(2 * input[c] + b);
            const int4 x0 = codes[i], x1 = codes[i + size_t(a.input_blocks)];
            const float2 sums = a.sums[input[c] + b];
            float2 halves = make_float2(0.0f, 0.0f);
            if constexpr (F::kNLows == 2) halves = a.halves[input[c] + b];
            PILLION_UNROLL
            for (int r = 0; r < kRows; r++)
                sum[r][c] = add_block<F::kScales>(w[r], scales[r], x0, x1, sums, halves, sum[r][c]);
        }
    }
    PILLION_UNROLL
    for (int c = 0; c < kColumns; c++) {
        PILLION_UNROLL
        for (int r = 0; r < kRows; r++) {
            const float v = sum_of_16(sum[r][c]);
            // Lanes take turns, so that a half warp's stores are in flight together.
            if (lane == (c * kRows + r) % kMatvecLanes && row + r < a.rows)
                job.out[size_t(job.out_row(first + c)) * size_t(a.out_stride) + size_t(row + r)] =
                    v;
        }
    }
}

// grid x: row tiles; y: column tiles, or rows of the run for clusters; z: clusters. If there are
// more columns than an instance has, the same block takes them in equal parts, one after the other:
// its first reads are still in the second cache.
template <DType T, int kColumnsMax>
static __global__ void __launch_bounds__(kMatvecThreads) matvec_quant_kernel(MatmulArgs a) {
    constexpr int kRows = matvec_rows(kColumnsMax) / (kMatvecThreads / kMatvecLanes);
    const Job job = make_job(a, int(blockIdx.y), int(blockIdx.z));
    const int row =
        (int(blockIdx.x) * (kMatvecThreads / kMatvecLanes) + int(threadIdx.x) / kMatvecLanes) *
        kRows;
    if constexpr (kColumnsMax == 1) {
        for (int first = 0; first < job.columns; first++)
            matvec_quant_columns<T, 1, kRows>(a, job, row, first);
    } else {
        const int step = job.columns_at_once();
        for (int first = 0; first < job.columns; first += step) {
            switch (min(job.columns - first, step)) {
                case 1: matvec_quant_columns<T, 1, kRows>(a, job, row, first); break;
                case 2: matvec_quant_columns<T, 2, kRows>(a, job, row, first); break;
                case 3: matvec_quant_columns<T, 3, kRows>(a, job, row, first); break;
                case 4: matvec_quant_columns<T, 4, kRows>(a, job, row, first); break;
                case 5: matvec_quant_columns<T, 5, kRows>(a, job, row, first); break;
                case 6: matvec_quant_columns<T, 6, kRows>(a, job, row, first); break;
                case 7: matvec_quant_columns<T, 7, kRows>(a, job, row, first); break;
                case 8: matvec_quant_columns<T, 8, kRows>(a, job, row, first); break;
                default: matvec_quant_columns<T, 9, kRows>(a, job, row, first); break;
            }
        }
    }
}

template <DType T>
void matvec_quant(const MatmulArgs& a, dim3 grid, int columns_max, stream_t stream) {
    if (columns_max == 1)
        PILLION_LAUNCH((matvec_quant_kernel<T, 1>), grid, dim3(kMatvecThreads), 0, stream, a);
    else
        PILLION_LAUNCH((matvec_quant_kernel<T, kMatvecColumns>), grid, dim3(kMatvecThreads), 0,
                       stream, a);
}

}  // namespace pillion::cuda
