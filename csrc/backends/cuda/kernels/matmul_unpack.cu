// Rows of a packed matrix as f32.
#include "backends/cuda/kernels/matmul_kernels.h"

namespace pillion::cuda {

constexpr int kThreads = 128;

// The exact value of a format: one product of code and scale, one subtraction.
template <DType T>
static __device__ __forceinline__ void unpack_words(const MatmulArgs& a, size_t block, int t,
                                                    float scale, float* out) {
    constexpr PackedFormat f = packed_format(T);
    RawCodes<f.codes> raw;
    RawScales raw_scales;
    BlockScales<f.scales> s;
    load_codes<f.codes>(raw, a.weight, block);
    load_scales<f.scales>(raw_scales, a.weight, block);
    decode_scales<f.scales, code_factor(f.codes)>(raw_scales, int(block & 7), s);
    uint32_t w[8];
    decode_block<f.codes>(raw, w);
    PILLION_UNROLL
    for (int j = 0; j < 8; j++) {
        if (j % 4 != t) continue;
        const float by = s.scale[n_scales(f.scales) == 2 ? j / 4 : 0];
        PILLION_UNROLL
        for (int b = 0; b < 4; b++) {
            float v = mul_rn(by, signed_byte(w[j] >> (8 * b) & 0xFF));
            if constexpr (n_lows(f.scales) > 0)
                v = sub_rn(v, s.low[n_lows(f.scales) == 2 ? j / 4 : 0]);
            out[4 * j + b] = mul_rn(v, scale);
        }
    }
}

template <DType T>
static __global__ void __launch_bounds__(kThreads)
    unpack_kernel(MatmulArgs a, const int32_t* ids, float scale) {
    const int c = int(blockIdx.x), width = int(a.width);
    if (c >= rows_now(a.count.count, a.count.max, a.count.per_row)) return;
    const size_t row = size_t(max(0, min(ids[c], int(a.rows) - 1)));
    float* out = a.out + size_t(c) * size_t(width);
    if constexpr (packed_format(T).float_bytes == 0) {
        for (int i = int(threadIdx.x); i < a.blocks * 4; i += kThreads)
            unpack_words<T>(a, row * size_t(a.blocks) + size_t(i / 4), i % 4, scale,
                            out + i / 4 * 32);
    } else {
        const size_t at = row * size_t((width + kFloatUnit - 1) / kFloatUnit * kFloatUnit);
        for (int i = int(threadIdx.x); i < width; i += kThreads) {
            float v;
            if constexpr (T == DType::f32) {
                v = reinterpret_cast<const float*>(a.weight.codes)[at + i];
            } else {
                const uint32_t bits = reinterpret_cast<const uint16_t*>(a.weight.codes)[at + i];
                v = T == DType::bf16 ? __uint_as_float(bits << 16) : half_value(bits);
            }
            out[i] = mul_rn(v, scale);
        }
    }
}

template <DType T>
void unpack(const MatmulArgs& a, const int32_t* ids, float scale, stream_t stream) {
    PILLION_LAUNCH(unpack_kernel<T>, dim3(unsigned(a.count.max)), dim3(kThreads), 0, stream, a, ids,
                   scale);
}

#define PILLION_INSTANCE(T) \
    template void unpack<DType::T>(const MatmulArgs&, const int32_t*, float, stream_t);
PILLION_CUDA_QUANT_FORMATS(PILLION_INSTANCE)
PILLION_INSTANCE(f32) PILLION_INSTANCE(f16) PILLION_INSTANCE(bf16)

}  // namespace pillion::cuda
