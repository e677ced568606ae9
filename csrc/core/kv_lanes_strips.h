// The strips (tensor.h) of the cache layout "lanes32" (contract/kv_lanes.h).
#pragma once
#include <vector>

#include "core/tensor.h"

namespace pillion {

inline std::vector<KvStrip> kv_lanes_strips(const KvSpec& s) {
    const auto dim = uint32_t(s.head_dim), capacity = uint32_t(s.capacity);
    std::vector<KvStrip> strips;
    for (int head = 0; head < s.n_kv_heads; head++) {
        const size_t keys = kv_head_bytes(s.type, dim, capacity) * size_t(head);
        const size_t values = keys + kv_k_bytes(s.type, dim, capacity);
        strips.push_back({keys, kv_k_block_bytes(s.type, dim)});
        strips.push_back({values, KV_BLOCK * kv_v_row_bytes(s.type, dim)});
    }
    return strips;
}

}  // namespace pillion
