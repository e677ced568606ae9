#include "model/gguf_facts.h"

#include <map>

namespace pillion {
namespace {

std::string tensors_json(const GgufFile& file) {
    std::string out = "[";
    for (const GgufTensor& t : file.tensors()) {
        out += (out.size() > 1 ? ", " : "") + std::string("{\"name\": ") + json_string(t.name) + ", \"type\": \"" + info(t.dtype).name +
               "\", \"shape\": [";
        for (int d = 0; d < t.n_dims; d++) out += (d ? ", " : "") + std::to_string(t.dims[d]);
        out += "], \"bytes\": " + std::to_string(t.bytes) + ", \"offset\": " + std::to_string(t.offset) + "}";
    }
    return out + "]";
}

// A string, or null when the key is absent or of another type.
std::string string_or_null(const GgufFile& file, const char* key) {
    const GgufValue* v = file.find(key);
    return v && !v->is_array && v->element == GgufType::string ? to_json(*v) : "null";
}

}  // namespace

std::string tensor_types_json(const GgufFile& file) {
    struct Sum {
        uint64_t tensors = 0, params = 0, bytes = 0;
    };
    std::map<std::string, Sum> types;
    for (const GgufTensor& t : file.tensors()) {
        Sum& s = types[info(t.dtype).name];
        s.tensors++, s.params += uint64_t(t.n_values()), s.bytes += t.bytes;
    }
    std::string out = "{";
    for (const auto& [name, s] : types)
        out += (out.size() > 1 ? ", \"" : "\"") + name + "\": {\"tensors\": " + std::to_string(s.tensors) +
               ", \"params\": " + std::to_string(s.params) + ", \"bytes\": " + std::to_string(s.bytes) + "}";
    return out + "}";
}

std::string metadata_json(const GgufFile& file) {
    std::string out = "{";
    for (const GgufValue& v : file.values())
        out += (out.size() > 1 ? ", " : "") + json_string(v.key) + ": " + to_json(v, /*max_array=*/8);
    return out + "}";
}

std::string gguf_facts_json(const GgufFile& file, bool with_tensors) {
    uint64_t params = 0, bytes = 0;
    for (const GgufTensor& t : file.tensors()) params += uint64_t(t.n_values()), bytes += t.bytes;
    std::string out = "{\"path\": " + json_string(file.path()) + ", \"gguf_version\": " + std::to_string(file.version()) +
                      ", \"alignment\": " + std::to_string(file.alignment()) +
                      ", \"file_bytes\": " + std::to_string(file.file().size()) +
                      ", \"architecture\": " + string_or_null(file, "general.architecture") +
                      ", \"type\": " + string_or_null(file, "general.type") + ", \"n_tensors\": " + std::to_string(file.tensors().size()) +
                      ", \"n_params\": " + std::to_string(params) + ", \"tensor_bytes\": " + std::to_string(bytes) +
                      ", \"tensor_types\": " + tensor_types_json(file) + ", \"metadata\": " + metadata_json(file);
    if (with_tensors) out += ", \"tensors\": " + tensors_json(file);
    return out + "}";
}

}  // namespace pillion
