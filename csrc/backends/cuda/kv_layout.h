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

}  // namespace pillion::cuda
