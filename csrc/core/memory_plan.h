// Places values with known lifetimes into one scratch buffer: two values share bytes only if no
// node needs both.
#pragma once
#include <stddef.h>

#include <vector>

namespace pillion {

struct MemoryRequest {
    size_t bytes = 0;
    int first = -1;     // node that writes it first; -1: never used
    int last = -1;      // node that reads it last
    size_t offset = 0;  // filled in
};

// Greedy by size, each at the lowest free offset that is a multiple of `alignment` (a power of
// two). Returns the bytes of the whole buffer, a multiple of it too.
size_t plan_memory(std::vector<MemoryRequest>& requests, size_t alignment = 64);

}  // namespace pillion
