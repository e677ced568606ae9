// Writes new keys and values into their slots. One warp per
// block of 32 values, which is also the unit of a q8_0 scale.
#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/ops.h"
#include "backends/cuda/kv_layout.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

struct Plane {
    uint8_t* values;
    uint8_t* scales;
    __device__ __forceinline__ Plane at(size_t offset) const {
        return {values + offset, scales + offset};
    }
};

// Keeps NaN: a false comparison returns the second operand.
__device__ __forceinline__ float saturated(float x) {
    x = 65504.0f < x ? 65504.0f : x;
    return -65504.0f > x ? -65504.0f : x;
}

__device__ __forceinline__ void store_q8(const Plane& to, size_t at, size_t scale_at, float x,
                                         bool inside) {
    const unsigned lane = threadIdx.x % 32;
    // Magnitudes order as integers, NaN above all.
    unsigned bits = inside ? __float_as_uint(x) & 0x7fffffffu : 0u;
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1)
        bits = max(bits, __shfl_xor_sync(PILLION_FULL_MASK, bits, o, 32));
    const float top = __uint_as_float(bits), inverse = top > 0.0f ? 127.0f / top : 0.0f;
    float c = x * inverse;
    c = 127.0f < c ? 127.0f : c;
    c = -127.0f > c ? -127.0f : c;
    if (inside)
        reinterpret_cast<int8_t*>(to.values)[at] = c == c ? int8_t(__float2int_rn(c)) : int8_t(0);
    if (lane == 0)
        reinterpret_cast<half*>(to.scales)[scale_at] = __float2half_rn(saturated(top / 127.0f));
}

template <KvType KV>
__global__ void __launch_bounds__(kThreads)
    kv_store_kernel(KvSpec s, KvPages pages, Plane keys, Plane values, const float* k,
                    const float* v, RunRows rows) {
    const int row = int(blockIdx.x), lane = int(threadIdx.x) % 32;
    if (row >= rows.count()) return;
    const int blocks = (s.head_dim + 31) / 32,
              unit = int(blockIdx.y) * kWarps + int(threadIdx.x) / 32;
    if (unit >= 2 * s.n_kv_heads * blocks) return;
    const bool is_value = unit >= s.n_kv_heads * blocks;
    const int head = unit / blocks % s.n_kv_heads, block = unit % blocks, i = block * 32 + lane;
    const RunRows::Place place = rows.place(row);
    const size_t kv_row = size_t(pages.slot(place.position)) * s.n_kv_heads + head;
    const Plane to = (is_value ? values : keys).at(pages.offset(place.segment, place.position));
    const float* from = (is_value ? v : k) + (size_t(row) * s.n_kv_heads + head) * s.head_dim;
    const bool inside = i < s.head_dim;
    const float x = inside ? from[i] : 0.0f;
    if constexpr (KV == KvType::f16) {
        if (inside)
            reinterpret_cast<half*>(to.values)[kv_row * s.head_dim + i] =
                __float2half_rn(saturated(x));
    } else {
        store_q8(to, kv_row * s.head_dim + i, kv_row * blocks + block, x, inside);
    }
}

}  // namespace

void kv_store(const KvSpec& s, const KvPages& pages, uint8_t* store, const float* k, const float* v,
              RunRows rows, stream_t stream) {
    const KvPlanes p = kv_planes(s.one_page());
    const Plane keys = {store + p.k, store + p.k_scale};
    const Plane values = {store + p.v, store + p.v_scale};
    const int units = 2 * s.n_kv_heads * kv_scales(s.head_dim);
    const dim3 grid(rows.bound, (units + kWarps - 1) / kWarps);
    if (s.type == KvType::q8_0)
        PILLION_LAUNCH(kv_store_kernel<KvType::q8_0>, grid, dim3(kThreads), 0, stream, s, pages,
                       keys, values, k, v, rows);
    else
        PILLION_LAUNCH(kv_store_kernel<KvType::f16>, grid, dim3(kThreads), 0, stream, s, pages,
                       keys, values, k, v, rows);
}

}  // namespace pillion::cuda
