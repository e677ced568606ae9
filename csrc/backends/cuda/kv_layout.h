// How the CUDA backend keeps the keys and values of a layer: planes of slots, so that a KV head's
// rows are read with aligned loads of 8 and 16 bytes whatever the head size (80 included), and q8_0
// is read in place.
//
//   values   [slot][kv head][head_dim]                half, or int8
//   scales   [slot][kv head][ceil(head_dim / 32)]     q8_0 only: half, value = scale * code
//
// Keys, values, then the scales of each. A page has planes of its own, and slots 0 .. page - 1.
// Rounding as in core/contract/kv_lanes.h: to nearest even, f16 saturates at 65504.
#pragma once
#include <stddef.h>

#include <vector>

#include "backends/cuda/kernels/host_device.h"
#include "core/tensor.h"

namespace pillion::cuda {

inline int kv_scales(int head_dim) { return (head_dim + 31) / 32; }

struct KvPlanes {  // byte offsets in a page
    size_t k, v, k_scale, v_scale, bytes;
};
inline KvPlanes kv_planes(const KvSpec& s) {
    const auto round = [](size_t n) { return (n + 255) / 256 * 256; };
    const size_t rows = size_t(s.page_slots()) * size_t(s.n_kv_heads);
    const size_t values = round(rows * size_t(s.head_dim) * (s.type == KvType::q8_0 ? 1 : 2));
    const size_t scales =
        s.type == KvType::q8_0 ? round(rows * size_t(kv_scales(s.head_dim)) * 2) : 0;
    return {0, values, 2 * values, 2 * values + scales, 2 * (values + scales)};
}

inline std::vector<KvStrip> kv_plane_strips(const KvSpec& s) {
    const KvPlanes planes = kv_planes(s);
    const bool is_q8 = s.type == KvType::q8_0;
    const size_t rows = KV_BLOCK * size_t(s.n_kv_heads);
    const size_t values = rows * size_t(s.head_dim) * (is_q8 ? 1 : 2);
    const size_t scales = rows * size_t(kv_scales(s.head_dim)) * 2;
    std::vector<KvStrip> strips = {{planes.k, values}, {planes.v, values}};
    if (is_q8) strips.insert(strips.end(), {{planes.k_scale, scales}, {planes.v_scale, scales}});
    return strips;
}

// Where the positions of a run's segments lie, for kernels. Pages are multiples of every kernel's
// tile of positions, so a tile lies in one page.
struct KvPages {
    // [segments of the run][stride], device memory; null: the store is one page
    const int32_t* numbers;
    int32_t stride, entries;
    int32_t slots;  // of a page
    size_t bytes;   // of a page

    // How far the position's page lies behind the first.
    PILLION_BOTH size_t offset(int segment, int position) const {
        if (!numbers) return 0;
        return bytes * size_t(numbers[int64_t(segment) * stride + position / slots % entries]);
    }
    PILLION_BOTH int slot(int position) const { return position % slots; }
};

}  // namespace pillion::cuda
