// The header of a GGUF file as JSON, for any kind of file.
#pragma once
#include <string>

#include "gguf/gguf.h"

namespace pillion {

// {"path", "gguf_version", "alignment", "file_bytes", "parts" (the files, in order), "architecture"
// and "type" (null: absent), "n_tensors", "n_params", "tensor_bytes", "tensor_types", "metadata"}.
// with_tensors adds "tensors": [{"name", "type", "shape" (contiguous dimension first), "bytes",
// "offset" in its file, "part": index of its file}].
std::string gguf_json_json(const GgufFile& file, bool with_tensors);

// {"Q4_0": {"tensors", "params", "bytes"}, ...}
std::string tensor_types_json(const GgufFile& file);
// long arrays shortened; keys as in shown_keys()
std::string metadata_json(const GgufFile& file);
std::string parts_json(const GgufFile& file);  // ["NAME-00001-of-00002.gguf", ...]

}  // namespace pillion
