// The sampling settings that a model's makers recommend in its file (general.sampling.*).
#pragma once
#include "gguf/gguf.h"
#include "runtime/sampler.h"

namespace pillion {

// The file's settings; where it has none, those of llama-cpp-python. penalty_last_n 0: the file
// switches the penalties off. Throws Error{file_corrupt} with path, key, value and limit.
SamplerOptions file_sampling(const GgufFile& file);

}  // namespace pillion
