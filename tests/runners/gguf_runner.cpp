// gguf_runner FILE [--no-mmap] [--max-array N] [--data]
// Prints the reader's view of a file as one JSON object: metadata, tensors, hparams and tensor
// report, or {"code": ..., "error": ...}. The exit code is 0 in both cases; any other is a crash.
//
// gguf_runner FILE --drop
// Reads the tensors, drops them, reads them again. Prints resident kilobytes and whether the bytes
// are the same.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <string>

#include "core/json.h"
#include "gguf/gguf.h"
#include "model/centroid_head.h"
#include "model/hparams.h"
#include "model/tensor_check.h"

using namespace pillion;

namespace {

std::string field(const char* name, const std::string& json) {
    return json_string(name) + ": " + json;
}
std::string field(const char* name, int64_t value) { return field(name, std::to_string(value)); }
std::string field(const char* name, int value) { return field(name, std::to_string(value)); }
std::string field(const char* name, bool value) {
    return field(name, std::string(value ? "true" : "false"));
}
std::string field(const char* name, float value) { return field(name, json_number(value)); }

std::string join(std::initializer_list<std::string> fields) {
    std::string out;
    for (const std::string& f : fields) out += (out.empty() ? "{" : ", ") + f;
    return out + "}";
}

template <class Items, class F>
std::string list(const Items& items, F f) {
    std::string out = "[";
    for (const auto& item : items) out += (out.size() > 1 ? ", " : "") + f(item);
    return out + "]";
}

std::string error_json(const Error& e) {
    return join({field("code", int(e.code())), field("error", json_string(e.what()))});
}

std::string hex(const uint8_t* p, size_t n) {
    std::string out;
    char text[3];
    for (size_t i = 0; i < n; ++i) {
        snprintf(text, sizeof text, "%02x", unsigned(p[i]));
        out += text;
    }
    return json_string(out);
}

std::string tensor_json(const GgufTensor& t, bool with_data) {
    std::string dims;
    for (int d = 0; d < t.n_dims; ++d) dims += (d ? ", " : "") + std::to_string(t.dims[d]);
    return join({field("name", json_string(t.name)),
                 field("type", json_string(gguf_tensor_type_name(t.dtype))),
                 field("dims", "[" + dims + "]"), field("bytes", int64_t(t.bytes)),
                 field("offset", int64_t(t.offset)),
                 field("data", with_data ? hex(t.data, t.bytes) : "null")});
}

std::string layer_json(const LayerParams& l) {
    return join({field("sliding", l.sliding), field("n_heads", l.n_heads),
                 field("n_kv_heads", l.n_kv_heads), field("head_dim", l.head_dim),
                 field("ff", l.ff), field("owns_kv", l.owns_kv), field("kv_source", l.kv_source),
                 field("v_from_k", l.v_from_k), field("moe", l.moe)});
}

std::string hparams_json(const HParams& h) {
    return join(
        {field("arch", json_string(h.arch_name())),
         field("name", json_string(h.name)),
         field("n_layers", h.n_layers),
         field("n_embd", h.n_embd),
         field("n_vocab", h.n_vocab),
         field("n_ctx_train", h.n_ctx_train),
         field("window", h.window),
         field("rms_eps", h.rms_eps),
         field("softcap", h.softcap),
         field("rope_base", h.rope_base),
         field("rope_base_swa", h.rope_base_swa),
         field("rope_scale", h.rope_scale),
         field("rope_scale_swa", h.rope_scale_swa),
         field("rope_dims", h.rope_dims),
         field("rope_dims_swa", h.rope_dims_swa),
         field("rope_interleaved", h.rope_interleaved),
         field("attention_scale", h.attention_scale),
         field("embed_scale", h.embed_scale),
         field("ple_width", h.ple_width),
         field("n_experts", h.n_experts),
         field("n_experts_used", h.n_experts_used),
         field("expert_ff", h.expert_ff),
         field("activation", json_string(h.activation == Activation::silu ? "silu" : "gelu_tanh")),
         field("n_embd_out", h.n_embd_out),
         field("centroid_head", int(h.centroid_head)),
         field("n_centroids", h.n_centroids),
         field("centroid_top_k", h.centroid_top_k),
         field("centroid_head_problem", json_string(h.centroid_head_problem)),
         field("layers", list(h.layers, layer_json))});
}

std::string model_json(const GgufFile& file) {
    try {
        const HParams h = read_hparams(file);
        const TensorReport r = inspect_tensors(file, h);
        std::string checked = "null", order = "null";
        try {
            check_tensors(file, h);
        } catch (const Error& e) {
            checked = error_json(e);
        }
        if (h.centroid_head != CentroidHead::none)
            order =
                list(read_centroid_order(file, h), [](int32_t id) { return std::to_string(id); });
        return join({field("hparams", hparams_json(h)),
                     field("problems", list(r.problems, json_string)),
                     field("unknown", list(r.unknown, json_string)),
                     field("ignored", list(r.ignored, json_string)), field("check_error", checked),
                     field("centroid_order", order)});
    } catch (const Error& e) {
        return error_json(e);
    }
}

std::string file_json(const char* path, bool use_mmap, size_t max_array, bool with_data) {
    try {
        const auto start = std::chrono::steady_clock::now();
        const GgufFile file = GgufFile::open(path, use_mmap);
        const auto us = std::chrono::duration_cast<std::chrono::microseconds>(
                            std::chrono::steady_clock::now() - start)
                            .count();
        std::string metadata, types;
        for (const GgufValue& v : file.values()) {
            metadata +=
                (metadata.empty() ? "" : ", ") + json_string(v.key) + ": " + to_json(v, max_array);
            types +=
                (types.empty() ? "" : ", ") + json_string(v.key) + ": " +
                json_string(std::string(v.is_array ? "array of " : "") + gguf_type_name(v.element));
        }
        return join(
            {field("version", int64_t(file.version())),
             field("alignment", int64_t(file.alignment())), field("open_us", int64_t(us)),
             field("metadata", "{" + metadata + "}"), field("types", "{" + types + "}"),
             field("tensors", list(file.tensors(),
                                   [&](const GgufTensor& t) { return tensor_json(t, with_data); })),
             field("model", model_json(file))});
    } catch (const Error& e) {
        return error_json(e);
    }
}

int64_t resident_kb() {
    FILE* f = fopen("/proc/self/statm", "r");
    long long total = 0, resident = 0;
    if (!f || fscanf(f, "%lld %lld", &total, &resident) != 2) return -1;
    fclose(f);
    return resident * 4;
}

uint64_t checksum(const GgufFile& file) {
    uint64_t sum = 0;
    for (const GgufTensor& t : file.tensors())
        for (size_t i = 0; i < t.bytes; ++i) sum = sum * 31 + t.data[i];
    return sum;
}

std::string drop_json(const char* path, bool use_mmap) {
    const GgufFile file = GgufFile::open(path, use_mmap);
    const int64_t opened = resident_kb();
    const uint64_t before = checksum(file);
    const int64_t read = resident_kb();
    for (const GgufTensor& t : file.tensors()) file.drop(t, 0, t.bytes);
    const int64_t dropped = resident_kb();
    return join({field("opened_kb", opened), field("read_kb", read), field("dropped_kb", dropped),
                 field("same", before == checksum(file))});
}

}  // namespace

int main(int argc, char** argv) {
    const char* path = nullptr;
    bool use_mmap = true, with_data = false, drop = false;
    size_t max_array = SIZE_MAX;
    for (int i = 1; i < argc; ++i) {
        if (!strcmp(argv[i], "--no-mmap")) use_mmap = false;
        else if (!strcmp(argv[i], "--drop")) drop = true;
        else if (!strcmp(argv[i], "--data")) with_data = true;
        else if (!strcmp(argv[i], "--max-array") && i + 1 < argc)
            max_array = strtoull(argv[++i], nullptr, 10);
        else path = argv[i];
    }
    if (!path) {
        fprintf(stderr, "usage: gguf_runner FILE [--no-mmap] [--max-array N] [--data]\n");
        return 2;
    }
    puts((drop ? drop_json(path, use_mmap) : file_json(path, use_mmap, max_array, with_data))
             .c_str());
    return 0;
}
