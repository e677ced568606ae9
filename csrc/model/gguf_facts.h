// What the header of a GGUF file says, as JSON, whatever the file is for: nothing here knows a model.
#pragma once
#include <string>

#include "model/gguf.h"

namespace pillion {

// {"path", "gguf_version", "alignment", "file_bytes", "architecture" and "type" (null: absent), "n_tensors", "n_params", "tensor_bytes",
//  "tensor_types", "metadata"}, and with_tensors "tensors": [{"name", "type", "shape" (contiguous dimension first), "bytes", "offset"}].
std::string gguf_facts_json(const GgufFile& file, bool with_tensors);

std::string tensor_types_json(const GgufFile& file);    // {"Q4_0": {"tensors", "params", "bytes"}, ...}
std::string metadata_json(const GgufFile& file);        // long arrays shortened

}  // namespace pillion
