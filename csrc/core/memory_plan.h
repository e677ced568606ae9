// Places values with known lifetimes into one scratch buffer. Two values share bytes only if their
// lifetimes do not overlap.
#pragma once
#include <stddef.h>

#include <vector>

namespace pillion {

struct MemoryRequest {
    size_t bytes = 0;
    int first = -1;     // first node that writes it; -1: unused
    int last = -1;      // last node that reads it
    size_t offset = 0;  // result
};

// Places the largest first, each at the lowest free offset that is a multiple of `alignment` (a
// power of two). Returns the bytes of the whole buffer, a multiple of it too.
size_t plan_memory(std::vector<MemoryRequest>& requests, size_t alignment = 64);

}  // namespace pillion
