// Device code that the attention kernels share.
#pragma once
#include <type_traits>

#include "backends/cuda/device/host.h"
#include "backends/cuda/device/mma.h"
#include "backends/cuda/kernels/attention.h"

namespace pillion::cuda {

// One row of K or V, read in chunks of eight values. `row`: slot * KV heads + KV head.
template <KvType KV>
struct KvRow;

template <>
struct KvRow<KvType::f16> {
    const half* p;
    __device__ KvRow(const uint8_t* base, const uint8_t*, size_t row, int d)
        : p(reinterpret_cast<const half*>(base) + row * d) {}
    __device__ __forceinline__ void load8(int chunk, float (&out)[8]) const {
        Half8 t;
        t.v = *reinterpret_cast<const uint4*>(p + chunk * 8);
        PILLION_UNROLL
        for (int i = 0; i < 4; i++) {
            const float2 f = __half22float2(t.h[i]);
            out[2 * i] = f.x;
            out[2 * i + 1] = f.y;
        }
    }
    __device__ __forceinline__ float at(int i) const { return __half2float(p[i]); }
};

template <>
struct KvRow<KvType::q8_0> {
    const int8_t* p;
    const half* s;
    __device__ KvRow(const uint8_t* base, const uint8_t* scale, size_t row, int d)
        : p(reinterpret_cast<const int8_t*>(base) + row * d),
          s(reinterpret_cast<const half*>(scale) + row * ((d + 31) / 32)) {}
    __device__ __forceinline__ void load8(int chunk, float (&out)[8]) const {
        union {
            int2 v;
            int8_t b[8];
        } t;
        t.v = *reinterpret_cast<const int2*>(p + chunk * 8);
        const float scale = __half2float(s[chunk / 4]);
        PILLION_UNROLL
        for (int i = 0; i < 8; i++) out[i] = scale * float(t.b[i]);
    }
    __device__ __forceinline__ float at(int i) const {
        return __half2float(s[i / 32]) * float(p[i]);
    }
};

// Positions begin .. end - 1.
struct PositionRange {
    int begin, end;
    __device__ __forceinline__ bool has(int p) const { return p >= begin && p < end; }
};

// The rows of a segment and the positions they see. Rows and vectors count from the segment's first
// row of this kind; vectors are numbered row * gqa + head in group.
struct AttnRows {
    int gqa, n_head, kv_head, segment, begin, n_vectors, position, window, past_only;
    const int32_t* until;

    __device__ __forceinline__ AttnRows(const AttnCall& a, int kv, int number)
        : gqa(a.n_head / a.n_head_kv), n_head(a.n_head), kv_head(kv), segment(number),
          window(a.window), past_only(a.past_only), until(a.until) {
        const PillionSegment s = a.rows.state->segments[number];
        const int first = a.rows.first(), skipped = max(first - s.row, 0);
        begin = max(s.row - first, 0);
        n_vectors = max(s.n_rows - skipped, 0) * gqa;
        position = s.pos + skipped;
    }

    // Index into q, out, part and meta.
    __device__ __forceinline__ size_t index(int vector) const {
        return size_t(begin + vector / gqa) * n_head + kv_head * gqa + vector % gqa;
    }
    __device__ __forceinline__ PositionRange seen_by_row(int row) const {
        const int at = position + row;
        const int end = at - past_only + 1, ahead = until ? until[begin + row] + 1 : end;
        return {window > 0 && at >= window ? at - window + 1 : 0, max(end, ahead)};
    }
    __device__ __forceinline__ PositionRange seen(int vector) const {
        return vector < n_vectors ? seen_by_row(vector / gqa) : PositionRange{0, 0};
    }
    // The positions that any of n vectors from `first` on sees. Spans of later rows begin later;
    // they end later unless rows see ahead.
    __device__ __forceinline__ PositionRange seen_by_any(int first, int n) const {
        const int last = (min(first + n, n_vectors) - 1) / gqa;
        PositionRange seen = {seen_by_row(first / gqa).begin, seen_by_row(last).end};
        if (until)
            for (int row = first / gqa; row < last; row++)
                seen.end = max(seen.end, seen_by_row(row).end);
        return seen;
    }
    __device__ __forceinline__ int first_split(int split) const {
        return split > 0 ? seen_by_row(0).begin / split : 0;
    }
};

// The rows of block `number` of attn_blocks.
template <int Size>
static __device__ __forceinline__ AttnRows rows_of_block(const AttnCall& a, int kv, int number) {
    return AttnRows(a, kv, a.rows.find(number, a.n_head / a.n_head_kv, Size, 1));
}
// Its first vector; not below n_vectors: the block has none.
template <int Size>
static __device__ __forceinline__ int first_of_block(const AttnRows& rows, int number) {
    return (number - rows.segment - rows.begin * rows.gqa / Size) * Size;
}

// The page and slot of a tile's first position.
struct KvTile {
    size_t page;  // bytes behind the first page
    int slot;
    __device__ __forceinline__ KvTile(const AttnCall& a, const AttnRows& rows, int position)
        : page(a.pages.offset(rows.segment, position)), slot(a.pages.slot(position)) {}
};

// The part of `seen` that split number `index` covers; all of it without splits.
static __device__ __forceinline__ PositionRange part_of(PositionRange seen, int split, int index) {
    return split > 0
               ? PositionRange{max(seen.begin, index * split), min(seen.end, (index + 1) * split)}
               : seen;
}

// Calls f(std::integral_constant<int, d>()) if head size d has flash attention; else returns false.
template <class F>
bool with_head_size(int d, const F& f) {
    switch (d) {
        case 64: return f(std::integral_constant<int, 64>());
        case 80: return f(std::integral_constant<int, 80>());
        case 96: return f(std::integral_constant<int, 96>());
        case 128: return f(std::integral_constant<int, 128>());
        case 256: return f(std::integral_constant<int, 256>());
        case 512: return f(std::integral_constant<int, 512>());
        default: return false;
    }
}

static __device__ __forceinline__ float soft_cap(float s, float cap) {
    return cap > 0.0f ? cap * tanhf(s / cap) : s;
}

// The factor of an old maximum's sums under a new maximum; 0 for a row without visible positions so
// far.
static __device__ __forceinline__ float rescale(float m_old, float m_new) {
    return m_old == -INFINITY ? 0.0f : __expf(m_old - m_new);
}

}  // namespace pillion::cuda
