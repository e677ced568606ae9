// Where blocks of positions lie in a layer's store: the only place that a saved state asks.
#pragma once
#include <algorithm>

#include "core/tensor.h"

namespace pillion {

// A block is KV_BLOCK positions, block b from position b * KV_BLOCK on.
inline int n_blocks(int64_t positions) { return int((positions + KV_BLOCK - 1) / KV_BLOCK); }

// The pages of a layer's rows of one sequence, in their order. Position p lies in entry p /
// page_slots % n_entries.
struct KvPages {
    int page_slots, n_entries;
    size_t page_bytes;
    const int* pages;  // by entry; null: entry e is page e

    size_t at(int entry) const { return page_bytes * size_t(pages ? pages[entry] : entry); }
};

// Calls part(offset, bytes) for the parts of a strip that hold the blocks [begin, end), in their
// order. The offsets count from page 0. At most as many blocks as the pages have.
template <class F>
void for_each_part(const KvPages& pages, const KvStrip& strip, int begin, int end, const F& part) {
    const int in_page = pages.page_slots / KV_BLOCK;
    while (begin < end) {
        const int slot = begin % in_page, n = std::min(end - begin, in_page - slot);
        const size_t page = pages.at(begin / in_page % pages.n_entries);
        part(page + strip.offset + size_t(slot) * strip.block_bytes, size_t(n) * strip.block_bytes);
        begin += n;
    }
}

}  // namespace pillion
