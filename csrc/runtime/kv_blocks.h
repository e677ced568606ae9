// Where blocks of positions lie in a layer's store: the only place that a saved state asks.
#pragma once
#include <algorithm>

#include "core/tensor.h"

namespace pillion {

// A block is KV_BLOCK positions, block b from position b * KV_BLOCK on.
inline int n_blocks(int64_t positions) { return int((positions + KV_BLOCK - 1) / KV_BLOCK); }

// Calls part(offset, bytes) for the parts of a strip that hold the blocks [begin, end), in their
// order. The offsets count from the store's. At most as many blocks as the store has.
template <class F>
void for_each_part(const KvSpec& spec, const KvStrip& strip, int begin, int end, const F& part) {
    const int n_slots = spec.capacity / KV_BLOCK;
    while (begin < end) {
        const int slot = begin % n_slots, n = std::min(end - begin, n_slots - slot);
        part(strip.offset + size_t(slot) * strip.block_bytes, size_t(n) * strip.block_bytes);
        begin += n;
    }
}

}  // namespace pillion
