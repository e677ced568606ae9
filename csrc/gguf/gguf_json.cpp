#include "gguf/gguf_json.h"

#include <map>

namespace pillion {
namespace {

Json tensors_json(const GgufFile& file) {
    JsonArray list;
    for (const GgufTensor& t : file.tensors()) {
        JsonArray shape;
        for (int d = 0; d < t.n_dims; d++) shape.add(t.dims[d]);
        list.add(JsonObject()
                     .add("name", t.name)
                     .add("type", gguf_tensor_type_name(t.dtype))
                     .add("shape", shape)
                     .add("bytes", t.bytes)
                     .add("offset", t.offset)
                     .add("part", t.part));
    }
    return list;
}

// A string, or null when the key is absent or of another type.
Json string_or_null(const GgufFile& file, const char* key) {
    const GgufValue* v = file.find(key);
    const bool is_string = v && !v->is_array && v->element == GgufType::string;
    return is_string ? Json::parsed(to_json(*v)) : nullptr;
}

}  // namespace

Json parts_json(const GgufFile& file) {
    JsonArray list;
    for (const File& part : file.files()) list.add(part.path());
    return list;
}

Json tensor_types_json(const GgufFile& file) {
    struct Sum { uint64_t tensors = 0, params = 0, bytes = 0; };
    std::map<std::string, Sum> types;
    for (const GgufTensor& t : file.tensors()) {
        Sum& s = types[gguf_tensor_type_name(t.dtype)];
        s.tensors++, s.params += uint64_t(t.n_values()), s.bytes += t.bytes;
    }
    JsonObject out;
    for (const auto& [name, s] : types)
        out.add(
            name,
            JsonObject().add("tensors", s.tensors).add("params", s.params).add("bytes", s.bytes));
    return out;
}

Json metadata_json(const GgufFile& file) {
    JsonObject out;
    const std::vector<std::string> keys = file.shown_keys();
    for (size_t i = 0; i < keys.size(); i++)
        out.add(keys[i], Json::parsed(to_json(file.values()[i], /*max_array=*/8)));
    return out;
}

std::string gguf_json(const GgufFile& file, bool with_tensors) {
    uint64_t params = 0, bytes = 0;
    for (const GgufTensor& t : file.tensors()) params += uint64_t(t.n_values()), bytes += t.bytes;
    JsonObject out;
    out.add("path", file.path())
        .add("gguf_version", file.version())
        .add("alignment", file.alignment())
        .add("file_bytes", file.file_bytes())
        .add("parts", parts_json(file))
        .add("architecture", string_or_null(file, "general.architecture"))
        .add("type", string_or_null(file, "general.type"))
        .add("n_tensors", file.tensors().size())
        .add("n_params", params)
        .add("tensor_bytes", bytes)
        .add("tensor_types", tensor_types_json(file))
        .add("metadata", metadata_json(file));
    if (with_tensors) out.add("tensors", tensors_json(file));
    return out.text();
}

}  // namespace pillion
