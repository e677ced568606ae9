// Device code shared by the attention kernels.
#pragma once

#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/device/mma.h"

namespace pillion::cuda {

// One row of K or V, read in chunks of eight values.
template <KvType KV> struct KvRow;

template <> struct KvRow<KvType::f16> {
    const half * p;
    __device__ KvRow(const void * base, const half *, size_t row, int d) : p(static_cast<const half *>(base) + row * d) {}
    __device__ __forceinline__ void load8(int chunk, float (&out)[8]) const {
        Half8 t;
        t.v = *reinterpret_cast<const uint4 *>(p + chunk * 8);
        PILLION_UNROLL
        for (int i = 0; i < 4; ++i) {
            const float2 f = __half22float2(t.h[i]);
            out[2 * i]     = f.x;
            out[2 * i + 1] = f.y;
        }
    }
};

template <> struct KvRow<KvType::q8_0> {
    const int8_t * p;
    const half   * s;
    __device__ KvRow(const void * base, const half * scale, size_t row, int d)
        : p(static_cast<const int8_t *>(base) + row * d), s(scale + row * ((d + 31) / 32)) {}
    __device__ __forceinline__ void load8(int chunk, float (&out)[8]) const {
        union { int2 v; int8_t b[8]; } t;
        t.v = *reinterpret_cast<const int2 *>(p + chunk * 8);
        const float scale = __half2float(s[chunk / 4]);
        PILLION_UNROLL
        for (int i = 0; i < 8; ++i) out[i] = scale * float(t.b[i]);
    }
};

static __device__ __forceinline__ bool visible(int kv_pos, int q_pos, int window) {
    return kv_pos >= 0 && kv_pos <= q_pos && (window <= 0 || kv_pos > q_pos - window);
}

// Can any query with a position in [q_lo, q_hi] see the cell? Cells that fail this test may hold
// anything, including NaN, and must not reach an arithmetic operation.
static __device__ __forceinline__ bool wanted(int kv_pos, int q_lo, int q_hi, int window) {
    return kv_pos >= 0 && kv_pos <= q_hi && (window <= 0 || kv_pos > q_lo - window);
}

static __device__ __forceinline__ float soft_cap(float s, float cap) { return cap > 0.0f ? cap * tanhf(s / cap) : s; }

// Softmax rescaling factor for an old maximum; a row that has seen nothing yet counts as zero.
static __device__ __forceinline__ float rescale(float m_old, float m_new) { return m_old == -INFINITY ? 0.0f : __expf(m_old - m_new); }

// Query rows are numbered token * gqa + head_in_group, so a block of rows is full for every
// GQA ratio. `q_row` is the index into q, dst, part and meta.
struct RowMap {
    int gqa, n_head, kv_head;
    __device__ __forceinline__ int token(int row) const { return row / gqa; }
    __device__ __forceinline__ size_t q_row(int row) const { return size_t(row / gqa) * n_head + kv_head * gqa + row % gqa; }
};

// KV cells [begin, end) of one split, in whole tiles of `tile` cells.
static __device__ __forceinline__ void split_range(int n_kv, int n_split, int split, int tile, int & begin, int & end) {
    const int tiles = (n_kv + tile - 1) / tile;
    const int per   = (tiles + n_split - 1) / n_split * tile;
    begin = min(n_kv, split * per);
    end   = min(n_kv, begin + per);
}

}  // namespace pillion::cuda
