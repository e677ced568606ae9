#include "core/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace pillion {

size_t plan_memory(std::vector<MemoryRequest>& requests, size_t alignment) {
    const auto round_up = [&](size_t bytes) {
        return (bytes + alignment - 1) / alignment * alignment;
    };
    std::vector<size_t> order(requests.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return requests[a].bytes > requests[b].bytes; });

    size_t total = 0;
    std::vector<const MemoryRequest*> placed, clashing;
    for (size_t i : order) {
        MemoryRequest& r = requests[i];
        if (r.first < 0) continue;
        clashing.clear();
        for (const MemoryRequest* p : placed)
            if (p->first <= r.last && r.first <= p->last) clashing.push_back(p);
        std::sort(clashing.begin(), clashing.end(),
                  [](auto* a, auto* b) { return a->offset < b->offset; });
        size_t at = 0;
        for (const MemoryRequest* p : clashing) {
            if (at + r.bytes <= p->offset) break;
            at = std::max(at, round_up(p->offset + p->bytes));
        }
        r.offset = at;
        total = std::max(total, at + r.bytes);
        placed.push_back(&r);
    }
    return round_up(total);
}

}  // namespace pillion
