#include "gguf/gguf_json.h"

#include <map>

namespace pillion {
namespace {

std::string tensors_json(const GgufFile& file) {
    std::string out = "[";
    for (const GgufTensor& t : file.tensors()) {
        out += (out.size() > 1 ? ", " : "") + std::string("{\"name\": ") + json_string(t.name) +
               ", \"type\": \"" + gguf_tensor_type_name(t.dtype) + "\", \"shape\": [";
        for (int d = 0; d < t.n_dims; d++) out += (d ? ", " : "") + std::to_string(t.dims[d]);
        out += "], \"bytes\": " + std::to_string(t.bytes) +
               ", \"offset\": " + std::to_string(t.offset) +
               ", \"part\": " + std::to_string(t.part) + "}";
    }
    return out + "]";
}

// A JSON string; null if the key is absent or has another type.
std::string string_or_null(const GgufFile& file, const char* key) {
    const GgufValue* v = file.find(key);
    return v && !v->is_array && v->element == GgufType::string ? to_json(*v) : "null";
}

}  // namespace

std::string parts_json(const GgufFile& file) {
    std::string out = "[";
    for (const File& part : file.files())
        out += (out.size() > 1 ? ", " : "") + json_string(part.path());
    return out + "]";
}

std::string tensor_types_json(const GgufFile& file) {
    struct Sum { uint64_t tensors = 0, params = 0, bytes = 0; };
    std::map<std::string, Sum> types;
    for (const GgufTensor& t : file.tensors()) {
        Sum& s = types[gguf_tensor_type_name(t.dtype)];
        s.tensors++, s.params += uint64_t(t.n_values()), s.bytes += t.bytes;
    }
    std::string out = "{";
    for (const auto& [name, s] : types)
        out += (out.size() > 1 ? ", \"" : "\"") + name +
               "\": {\"tensors\": " + std::to_string(s.tensors) +
               ", \"params\": " + std::to_string(s.params) +
               ", \"bytes\": " + std::to_string(s.bytes) + "}";
    return out + "}";
}

std::string metadata_json(const GgufFile& file) {
    std::string out = "{";
    const std::vector<std::string> keys = file.shown_keys();
    for (size_t i = 0; i < keys.size(); i++)
        out += (i ? ", " : "") + json_string(keys[i]) + ": " +
               to_json(file.values()[i], /*max_array=*/8);
    return out + "}";
}

std::string gguf_json_json(const GgufFile& file, bool with_tensors) {
    uint64_t params = 0, bytes = 0;
    for (const GgufTensor& t : file.tensors()) params += uint64_t(t.n_values()), bytes += t.bytes;
    std::string out = "{\"path\": " + json_string(file.path()) +
                      ", \"gguf_version\": " + std::to_string(file.version()) +
                      ", \"alignment\": " + std::to_string(file.alignment()) +
                      ", \"file_bytes\": " + std::to_string(file.file_bytes()) +
                      ", \"parts\": " + parts_json(file) +
                      ", \"architecture\": " + string_or_null(file, "general.architecture") +
                      ", \"type\": " + string_or_null(file, "general.type") +
                      ", \"n_tensors\": " + std::to_string(file.tensors().size()) +
                      ", \"n_params\": " + std::to_string(params) +
                      ", \"tensor_bytes\": " + std::to_string(bytes) +
                      ", \"tensor_types\": " + tensor_types_json(file) +
                      ", \"metadata\": " + metadata_json(file);
    if (with_tensors) out += ", \"tensors\": " + tensors_json(file);
    return out + "}";
}

}  // namespace pillion
