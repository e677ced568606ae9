// A few rows, float weights, everything in f32. As in matvec_quant.cuh, sixteen lanes share a
// weight row, eight inputs a lane. F32 weights use this kernel for any number of rows.
#include "backends/cuda/kernels/matmul_job.h"

namespace pillion::cuda {

constexpr int kThreads = 128, kLanes = 16, kInputs = 8;

static __device__ __forceinline__ void load_weights(const float* p, float (&w)[kInputs]) {
    const uint4 a = load_once(reinterpret_cast<const uint4*>(p)),
                b = load_once(reinterpret_cast<const uint4*>(p) + 1);
    w[0] = __uint_as_float(a.x), w[1] = __uint_as_float(a.y), w[2] = __uint_as_float(a.z),
    w[3] = __uint_as_float(a.w);
    w[4] = __uint_as_float(b.x), w[5] = __uint_as_float(b.y), w[6] = __uint_as_float(b.z),
    w[7] = __uint_as_float(b.w);
}
template <bool Brain>
static __device__ __forceinline__ void widen(uint32_t pair, float& a, float& b) {
    a = Brain ? __uint_as_float(pair << 16) : half_value(pair & 0xFFFF);
    b = Brain ? __uint_as_float(pair & 0xFFFF0000) : half_value(pair >> 16);
}
template <bool Brain>
static __device__ __forceinline__ void load_weights(const uint16_t* p, float (&w)[kInputs]) {
    const uint4 v = load_once(reinterpret_cast<const uint4*>(p));
    widen<Brain>(v.x, w[0], w[1]);
    widen<Brain>(v.y, w[2], w[3]);
    widen<Brain>(v.z, w[4], w[5]);
    widen<Brain>(v.w, w[6], w[7]);
}

// The packed rows are padded with zeros, and x is not: a NaN may lie behind a row.
static __device__ __forceinline__ void load_inputs(const float* x, int i, int width, bool aligned,
                                                   float (&v)[kInputs]) {
    if (aligned && i + kInputs <= width) {
        const float4 a = reinterpret_cast<const float4*>(x + i)[0],
                     b = reinterpret_cast<const float4*>(x + i)[1];
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
        PILLION_UNROLL
        for (int k = 0; k < kInputs; k++) v[k] = i + k < width ? x[i + k] : 0.0f;
    }
}

template <DType T>
struct Value {
    using type = uint16_t;
};
template <>
struct Value<DType::f32> {
    using type = float;
};

// Multiplies columns first .. first + kColumns - 1 of the job. Columns past the job's end repeat
// the last one; columns of the next part are computed again there.
template <DType T, int kColumns, int kRows>
static __device__ __forceinline__ void matvec_float_columns(const MatmulArgs& a, const Job& job,
                                                            int row, int first) {
    using V = typename Value<T>::type;
    const int lane = int(threadIdx.x) % kLanes, width = int(a.width);
    const size_t stride = size_t((width + kFloatUnit - 1) / kFloatUnit * kFloatUnit);
    const bool aligned = width % 4 == 0;
    const V* weight[kRows];
    const float* x[kColumns];
    float sum[kRows][kColumns];
    PILLION_UNROLL
    for (int c = 0; c < kColumns; c++)
        x[c] = a.x + size_t(job.input_row(min(first + c, job.columns - 1))) * size_t(width);
    PILLION_UNROLL
    for (int r = 0; r < kRows; r++) {
        weight[r] = reinterpret_cast<const V*>(a.weight.codes) +
                    (job.weight_row + size_t(min(row + r, int(a.rows) - 1))) * stride;
        PILLION_UNROLL
        for (int c = 0; c < kColumns; c++) sum[r][c] = 0.0f;
    }
    for (int i = lane * kInputs; i < width; i += kLanes * kInputs) {
        float w[kRows][kInputs];
        PILLION_UNROLL
        for (int r = 0; r < kRows; r++) {
            if constexpr (T == DType::f32) load_weights(weight[r] + i, w[r]);
            else load_weights<T == DType::bf16>(weight[r] + i, w[r]);
        }
        PILLION_UNROLL
        for (int c = 0; c < kColumns; c++) {
            float v[kInputs];
            load_inputs(x[c], i, width, aligned, v);
            PILLION_UNROLL
            for (int r = 0; r < kRows; r++) {
                PILLION_UNROLL
                for (int k = 0; k < kInputs; k++) sum[r][c] = fma_rn(w[r][k], v[k], sum[r][c]);
            }
        }
    }
    PILLION_UNROLL
    for (int c = 0; c < kColumns; c++) {
        PILLION_UNROLL
        for (int r = 0; r < kRows; r++) {
            float v = sum[r][c];
            PILLION_UNROLL
            for (int o = kLanes / 2; o > 0; o >>= 1)
                v += __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32);
            if (lane == (c * kRows + r) % kLanes && first + c < job.columns && row + r < a.rows)
                job.out[size_t(job.out_row(first + c)) * size_t(a.out_stride) + size_t(row + r)] =
                    v;
        }
    }
}

template <DType T, int kColumnsMax>
static __global__ void __launch_bounds__(kThreads) matvec_float_kernel(MatmulArgs a) {
    constexpr int kRows = matvec_rows(kColumnsMax) / (kThreads / kLanes);
    const Job job = make_job(a, int(blockIdx.y), int(blockIdx.z));
    const int row = (int(blockIdx.x) * (kThreads / kLanes) + int(threadIdx.x) / kLanes) * kRows;
    const int step = kColumnsMax == 1 ? 1 : job.columns_at_once();
    for (int first = 0; first < job.columns; first += step) {
        const int n = min(job.columns - first, step);
        if (kColumnsMax == 1 || n == 1) matvec_float_columns<T, 1, kRows>(a, job, row, first);
        else if (n == 2) matvec_float_columns<T, 2, kRows>(a, job, row, first);
        else if (n <= 4) matvec_float_columns<T, 4, kRows>(a, job, row, first);
        else if (n <= 6) matvec_float_columns<T, 6, kRows>(a, job, row, first);
        else matvec_float_columns<T, kColumnsMax, kRows>(a, job, row, first);
    }
}

template <DType T>
void matvec_float(const MatmulArgs& a, dim3 grid, int columns_max, stream_t stream) {
    if (columns_max == 1)
        PILLION_LAUNCH((matvec_float_kernel<T, 1>), grid, dim3(kThreads), 0, stream, a);
    else
        PILLION_LAUNCH((matvec_float_kernel<T, kMatvecColumns>), grid, dim3(kThreads), 0, stream,
                       a);
}

template void matvec_float<DType::f32>(const MatmulArgs&, dim3, int, stream_t);
template void matvec_float<DType::f16>(const MatmulArgs&, dim3, int, stream_t);
template void matvec_float<DType::bf16>(const MatmulArgs&, dim3, int, stream_t);

}  // namespace pillion::cuda
