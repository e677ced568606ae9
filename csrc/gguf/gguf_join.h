// Joins and splits models. One file and several files hold the same keys and the same tensor bytes.
// Both functions stream through the tensors, read the result back, and only then rename it, so that
// a failed or cancelled run leaves no file.
#pragma once
#include <functional>
#include <string>

#include "gguf/gguf.h"

namespace pillion {

// Receives bytes; false cancels.
using CopyProgress = std::function<bool(uint64_t done, uint64_t total)>;

// Joins the parts of a model into one file. part: any part, or parts joined by cat. Throws
// Error{invalid_argument} if the model already is one file.
void join_gguf(const std::string& part, const std::string& out, const CopyProgress& progress);

struct SplitLimits {
    uint64_t max_bytes = 0;    // of a part's file; 0: unlimited
    uint64_t max_tensors = 0;  // of a part; 0: unlimited
};

// Splits a model (one file, or parts to be divided anew) into PREFIX-00001-of-00003.gguf and so on;
// a ".gguf" at the end of the prefix is dropped. Returns the number of parts. The first part has
// all keys; tensors keep their order. Throws Error{invalid_argument} if a tensor does not fit a
// part.
size_t split_gguf(const std::string& in, const std::string& prefix, const SplitLimits& limits,
                  const CopyProgress& progress);

}  // namespace pillion
