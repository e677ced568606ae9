// One model in one file or in several: the same keys and the same bytes of tensors either way.
// Streams through the tensors, reads the result back, and only then gives it its name or names:
// what fails or is cancelled leaves nothing.
#pragma once
#include <functional>
#include <string>

#include "gguf/gguf.h"

namespace pillion {

using CopyProgress = std::function<bool(uint64_t done, uint64_t total)>;  // of bytes; false cancels

// Any part (or parts joined by cat) to one file. Throws invalid_argument when the model is in one
// file as it is.
void join_gguf(const std::string& part, const std::string& out, const CopyProgress& progress);

struct SplitLimits {
    uint64_t max_bytes = 0;    // of a part's file; 0: any
    uint64_t max_tensors = 0;  // of a part; 0: any
};

// One file (or parts, to be divided anew) to PREFIX-00001-of-00003.gguf and so on; ".gguf" at the
// end of the prefix is left out. Returns how many. The first part has all keys, tensors stay in
// order. Throws invalid_argument when a tensor does not fit a part.
size_t split_gguf(const std::string& in, const std::string& prefix, const SplitLimits& limits,
                  const CopyProgress& progress);

}  // namespace pillion
