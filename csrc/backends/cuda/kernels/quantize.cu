// Prepares activations for the products (matmul_layout.h): int8 blocks for quantized weights, f16
// or bf16 rows for float ones.
#include "backends/cuda/kernels/matmul_kernels.h"

namespace pillion::cuda {

constexpr int kThreads = 256;

// A block of 32, every step one IEEE operation, the same as on the CPU
// (backends/cpu/activations.h). top = max |x|:
//     top finite, top >= 2^-110    q = round to nearest even of x * (127 / top); d = top / 127
//     top < 2^-110                 q = 0, d = 0 (so that 127 / top stays finite)
//     an infinity or a NaN         q = 0, d and all sums a NaN: visible in every output of the row
constexpr int kTopMin = 0x08800000;  // bits of 2^-110
constexpr int kTopMax = 0x7F7FFFFF;  // bits of the largest finite float

static __device__ __forceinline__ int max_of_8(int v) {
    PILLION_UNROLL
    for (int o = 4; o > 0; o >>= 1) v = max(v, __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32));
    return v;
}

// Eight lanes per block, four values per lane. grid: x: 32 blocks each, y: rows.
static __global__ void __launch_bounds__(kThreads)
    quantize_rows_kernel(const float* x, int8_t* codes, float2* sums, float2* halves, int blocks,
                         int stride, RowCount count) {
    const int row = int(blockIdx.y);
    if (row >= rows_now(count.count, count.max, count.per_row)) return;
    const int block = int(blockIdx.x) * (kThreads / 8) + int(threadIdx.x) / 8,
              lane = int(threadIdx.x) % 8;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (block < blocks)
        v = reinterpret_cast<const float4*>(x + (size_t(row) * blocks + block) * 32)[lane];
    // Without the sign bit, floats order like their bits; infinities and NaNs are the largest.
    const int ax = __float_as_int(v.x) & 0x7FFFFFFF, ay = __float_as_int(v.y) & 0x7FFFFFFF;
    const int az = __float_as_int(v.z) & 0x7FFFFFFF, aw = __float_as_int(v.w) & 0x7FFFFFFF;
    const int top = max_of_8(max(max(ax, ay), max(az, aw)));
    const bool zero = top < kTopMin || top > kTopMax;
    const float inverse = zero ? 0.0f : div_rn(127.0f, __int_as_float(top));
    const int q0 = zero ? 0 : __float2int_rn(mul_rn(v.x, inverse)),
              q1 = zero ? 0 : __float2int_rn(mul_rn(v.y, inverse));
    const int q2 = zero ? 0 : __float2int_rn(mul_rn(v.z, inverse)),
              q3 = zero ? 0 : __float2int_rn(mul_rn(v.w, inverse));
    int sum = q0 + q1 + q2 + q3;
    sum += __shfl_xor_sync(PILLION_FULL_MASK, sum, 1, 32);
    sum += __shfl_xor_sync(PILLION_FULL_MASK, sum, 2, 32);  // of this lane's half
    const int other = __shfl_xor_sync(PILLION_FULL_MASK, sum, 4, 32);
    if (block >= stride) return;
    const float d = top > kTopMax ? __int_as_float(0x7FC00000)
                    : zero        ? 0.0f
                                  : div_rn(__int_as_float(top), 127.0f);
    const size_t at = (size_t(row) * 2 + lane / 4) * stride + block;
    reinterpret_cast<char4*>(codes)[at * 4 + lane % 4] =
        make_char4(static_cast<signed char>(q0), static_cast<signed char>(q1),
                   static_cast<signed char>(q2), static_cast<signed char>(q3));
    if (lane == 0) {
        sums[size_t(row) * stride + block] = make_float2(d, mul_rn(d, float(sum + other)));
        halves[size_t(row) * stride + block] =
            make_float2(mul_rn(d, float(sum)), mul_rn(d, float(other)));
    }
}

void quantize_rows(const MatmulInput& in, RowCount rows, stream_t stream) {
    const Q8Offsets o = q8_offsets(in.rows_max, in.width);
    uint8_t* p = static_cast<uint8_t*>(in.prepared);
    const int stride = int(q8_blocks(in.width));
    PILLION_LAUNCH(quantize_rows_kernel, dim3(unsigned(stride + 31) / 32, unsigned(in.rows_max)),
                   dim3(kThreads), 0, stream, in.x, reinterpret_cast<int8_t*>(p + o.codes),
                   reinterpret_cast<float2*>(p + o.sums), reinterpret_cast<float2*>(p + o.halves),
                   int(in.width / 32), stride, rows);
}

// ---- f16 and bf16 rows ----

static __device__ __forceinline__ uint32_t pair_bits(half a, half b) {
    return __half_as_ushort(a) | uint32_t(__half_as_ushort(b)) << 16;
}

// Scales the largest magnitude of a row to [2^14, 2^15): nothing overflows, and values that
// underflow are below 2^-38 of it. A row with an infinity or a NaN keeps it.
static __global__ void __launch_bounds__(kThreads)
    round_rows_f16_kernel(const float* x, uint32_t* values, float* scales, int width, int stride,
                          RowCount count) {
    const int row = int(blockIdx.x), tid = int(threadIdx.x);
    if (row >= rows_now(count.count, count.max, count.per_row)) return;
    PILLION_SHARED(int, warp_top, kThreads / 32);
    const float* in = x + size_t(row) * width;
    int top = 0;
    for (int i = tid; i < width; i += kThreads) top = max(top, __float_as_int(in[i]) & 0x7FFFFFFF);
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1) top = max(top, __shfl_xor_sync(PILLION_FULL_MASK, top, o, 32));
    if (tid % 32 == 0) warp_top[tid / 32] = top;
    __syncthreads();
    for (int w = 0; w < kThreads / 32; w++) top = max(top, warp_top[w]);
    const int shift = top == 0 || top > kTopMax ? 0 : min(14 - ((top >> 23) - 127), 120);
    const float factor = __int_as_float((127 + shift) << 23);
    for (int i = tid; i < stride / 2; i += kThreads) {
        const float a = 2 * i < width ? in[2 * i] * factor : 0.0f,
                    b = 2 * i + 1 < width ? in[2 * i + 1] * factor : 0.0f;
        values[size_t(row) * (stride / 2) + i] = pair_bits(__float2half_rn(a), __float2half_rn(b));
    }
    if (tid == 0) scales[row] = __int_as_float((127 - shift) << 23);
}

// Bits of the bf16 nearest to x, ties to even; NaN stays NaN.
static __device__ __forceinline__ uint32_t bf16_bits(float x) {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return bits >> 16 | 64;
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

static __global__ void __launch_bounds__(kThreads)
    round_rows_bf16_kernel(const float* x, uint32_t* values, int width, int stride, int rows_max,
                           RowCount count) {
    const int row = int(blockIdx.x);
    if (row >= rows_now(count.count, count.max, count.per_row)) return;
    const float* in = x + size_t(row) * width;
    uint32_t* first = values + size_t(row) * (stride / 2);
    uint32_t* second = first + size_t(rows_max) * (stride / 2);
    for (int i = int(threadIdx.x); i < stride / 2; i += kThreads) {
        const float a = 2 * i < width ? in[2 * i] : 0.0f,
                    b = 2 * i + 1 < width ? in[2 * i + 1] : 0.0f;
        const uint32_t ah = bf16_bits(a), bh = bf16_bits(b);
        first[i] = ah | bh << 16;
        // An infinity has no remainder (inf - inf is a NaN).
        const float ra = (ah & 0x7FFF) >= 0x7F80 ? 0.0f : a - __uint_as_float(ah << 16);
        const float rb = (bh & 0x7FFF) >= 0x7F80 ? 0.0f : b - __uint_as_float(bh << 16);
        second[i] = bf16_bits(ra) | bf16_bits(rb) << 16;
    }
}

void round_rows(const MatmulInput& in, RowCount rows, stream_t stream) {
    uint8_t* p = static_cast<uint8_t*>(in.prepared);
    const int width = int(in.width), stride = int(float_stride(in.width));
    uint32_t* values = reinterpret_cast<uint32_t*>(p);
    if (in.kind == InputKind::f16)
        PILLION_LAUNCH(round_rows_f16_kernel, dim3(unsigned(in.rows_max)), dim3(kThreads), 0,
                       stream, in.x, values,
                       reinterpret_cast<float*>(p + f16_scales_offset(in.rows_max, in.width)),
                       width, stride, rows);
    else
        PILLION_LAUNCH(round_rows_bf16_kernel, dim3(unsigned(in.rows_max)), dim3(kThreads), 0,
                       stream, in.x, values, width, stride, in.rows_max, rows);
}

}  // namespace pillion::cuda
