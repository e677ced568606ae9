// The one loop of every merging tokenizer: start from small symbols, and always merge the best
// adjacent pair, the leftmost of equals. The caller defines "best": the rank of a merge, the score
// of a token. Cost: n log n in the number of symbols, for any text. Candidates in the heap may
// become stale; the loop checks each one that it pops.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace pillion {

// A piece of the text. Symbols lie in text order and never overlap. A merge extends the left one
// and empties the right one.
struct Symbol {
    int32_t id;      // token, or -1: not a token
    uint32_t begin;  // offset in the text
    uint32_t bytes;  // 0: merged away
    int32_t prev, next;
};

// The result of merging a pair. The smaller order goes first.
struct Merge {
    uint32_t order;
    int32_t id;  // -1: this pair does not merge
};

struct MergeCandidate {
    // order << 32 | index of the left symbol, so that the leftmost of equals goes first
    uint64_t order_and_left;
    uint32_t bytes;
    int32_t id;
    bool operator>(const MergeCandidate& other) const {
        return order_and_left > other.order_and_left;
    }
};

inline void append_symbol(std::vector<Symbol>& symbols, int32_t id, uint32_t begin,
                          uint32_t bytes) {
    const int32_t index = int32_t(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, begin, bytes, index - 1, -1});
}

// find(left, right) -> Merge. `heap` is scratch that the caller keeps, so that short words need no
// allocation.
template <class FindMerge>
void merge_symbols(std::vector<Symbol>& symbols, std::vector<MergeCandidate>& heap,
                   const FindMerge& find) {
    const auto candidate = [&](int32_t left, MergeCandidate& out) {
        const Symbol& l = symbols[size_t(left)];
        const Symbol& r = symbols[size_t(l.next)];
        const Merge merge = find(l, r);
        out = {uint64_t(merge.order) << 32 | uint32_t(left), l.bytes + r.bytes, merge.id};
        return merge.id >= 0;
    };
    const auto consider = [&](int32_t left) {
        MergeCandidate found;
        if (left < 0 || symbols[size_t(left)].next < 0 || !candidate(left, found)) return;
        heap.push_back(found);
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
    };

    heap.clear();
    MergeCandidate found;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        if (candidate(int32_t(i), found)) heap.push_back(found);
    }
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), std::greater<>());
        const MergeCandidate best = heap.back();
        heap.pop_back();
        const int32_t index = int32_t(uint32_t(best.order_and_left));
        Symbol& left = symbols[size_t(index)];
        if (left.bytes == 0 || left.next < 0) continue;
        Symbol& right = symbols[size_t(left.next)];
        // Symbols only grow, and a left one grows by all of its right neighbour. With equal length
        // it is still the same pair.
        if (left.bytes + right.bytes != best.bytes) continue;
        left.id = best.id;
        left.bytes = best.bytes;
        left.next = right.next;
        right.bytes = 0;
        if (left.next >= 0) symbols[size_t(left.next)].prev = index;
        consider(left.prev);
        consider(index);
    }
}

}  // namespace pillion
