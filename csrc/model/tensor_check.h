// Does a file hold the tensors its metadata promises? The architecture's rules (tensor_rules.h) say
// which names, which shapes, which are optional; weights.cpp can then load by the same rules
// without asking again.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gguf/gguf.h"
#include "model/hparams.h"

namespace pillion {

struct TensorReport {
    // missing tensors, wrong shapes, wrong types: sentences without the path
    std::vector<std::string> problems;
    Status code = Status::ok;  // of the first problem
    // tensors no rule mentions; harmless, `inspect` shows them
    std::vector<std::string_view> unknown;
    // for each tensor of the file: a rule asked for it, so shape and type were compared
    std::vector<uint8_t> used;
    // known and not used: K and V of layers that borrow their cache
    std::vector<std::string_view> ignored;
};

TensorReport inspect_tensors(const GgufFile& file, const HParams& hparams);

// The same, throwing Error with the first problem (and how many more there are).
TensorReport check_tensors(const GgufFile& file, const HParams& hparams);

}  // namespace pillion
