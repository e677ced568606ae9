// The header of a GGUF file as JSON, for any kind of file.
#pragma once
#include <string>

#include "core/json.h"
#include "gguf/gguf.h"

namespace pillion {

// {"path", "gguf_version", "alignment", "file_bytes", "parts" (the files, in order), "architecture"
// and "type" (null: absent), "n_tensors", "n_params", "tensor_bytes", "tensor_types", "metadata"}.
// with_tensors adds "tensors": [{"name", "type", "shape" (contiguous dimension first), "bytes",
// "offset" in its file, "part": index of its file}].
std::string gguf_json(const GgufFile& file, bool with_tensors);

Json tensor_types_json(const GgufFile& file);  // {"Q4_0": {"tensors", "params", "bytes"}, ...}
// Long arrays shortened; keys as in shown_keys().
Json metadata_json(const GgufFile& file);
Json parts_json(const GgufFile& file);  // ["NAME-00001-of-00002.gguf", ...]

}  // namespace pillion
