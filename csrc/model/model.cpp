#include "model/model.h"

#include <inttypes.h>

#include <map>

#include "core/log.h"
#include "model/tensor_check.h"

namespace pillion {

std::shared_ptr<Model> Model::open(const std::string& path, const ModelOptions& options) {
    Backend* backend = options.metadata_only ? nullptr : &find_backend(options.device);    // a wrong device fails before the file
    GgufFile file = GgufFile::open(path, options.use_mmap);
    HParams hp = read_hparams(file);
    const TensorReport report = options.metadata_only ? inspect_tensors(file, hp) : check_tensors(file, hp);
    std::shared_ptr<Model> model(new Model(std::move(file), std::move(hp)));
    for (const std::string& p : report.problems) model->warnings_.push_back(p);
    for (std::string_view name : report.unknown) model->warnings_.push_back("tensor " + printable(name) + " is unknown and not used");
    if (!model->hp_.masked_head_problem.empty()) model->warnings_.push_back(model->hp_.masked_head_problem);
    for (const std::string& w : model->warnings_) log(LogLevel::warning, "%s: %s", path.c_str(), w.c_str());
    if (backend) {
        model->backend_ = backend;
        model->weights_ = load_weights(model->file_, model->hp_, *backend, options.n_threads, options.progress);
    }
    return model;
}

Backend& Model::backend() const {
    if (!backend_) fail(Status::invalid_argument, "model %s was opened for its metadata only, it has no weights", file_.path().c_str());
    return *backend_;
}

uint64_t Model::n_params() const {
    uint64_t n = 0;
    for (const GgufTensor& t : file_.tensors()) n += uint64_t(t.n_values());
    return n;
}

Graph Model::build_graph(const GraphInputs& inputs) const {
    Graph graph(inputs.rows_max, inputs.out_rows_max);
    switch (hp_.arch) {
        case Arch::gemma4: build_gemma4(graph, *this, inputs); break;
        case Arch::gemma3: build_gemma3(graph, *this, inputs); break;
        case Arch::llama: build_llama(graph, *this, inputs); break;
        case Arch::gemma4_assistant:
            fail(Status::pairing, "%s is a Gemma 4 assistant: it has no cache of its own and runs only as the drafter of a target",
                 file_.path().c_str());
    }
    return graph;
}

namespace {

std::string tensor_types_json(const GgufFile& file) {
    std::map<std::string, std::pair<uint64_t, uint64_t>> types;    // name -> count, bytes
    for (const GgufTensor& t : file.tensors()) {
        auto& e = types[info(t.dtype).name];
        e.first++, e.second += t.bytes;
    }
    std::string out = "{";
    for (const auto& [name, e] : types)
        out += (out.size() > 1 ? ", \"" : "\"") + name + "\": {\"tensors\": " + std::to_string(e.first) +
               ", \"bytes\": " + std::to_string(e.second) + "}";
    return out + "}";
}

std::string layers_json(const HParams& hp) {
    std::string out = "[";
    for (const LayerParams& l : hp.layers) {
        char text[256];
        snprintf(text, sizeof text,
                 "%s{\"kind\": \"%s\", \"heads\": %d, \"kv_heads\": %d, \"head_dim\": %d, \"ff\": %d, \"kv_source\": %d, \"moe\": %s}",
                 out.size() > 1 ? ", " : "", l.sliding ? "sliding" : "full", l.n_heads, l.n_kv_heads, l.head_dim, l.ff, l.kv_source,
                 l.moe ? "true" : "false");
        out += text;
    }
    return out + "]";
}

}  // namespace

std::string Model::to_json() const {
    const auto number = [](const char* key, double v) { return std::string(", \"") + key + "\": " + json_number(v); };
    std::string out = "{\"path\": " + json_string(file_.path()) + ", \"arch\": \"" + arch_name(hp_.arch) + "\", \"name\": " +
                      json_string(hp_.name) + ", \"gguf_version\": " + std::to_string(file_.version());
    out += number("n_params", double(n_params())) + number("file_bytes", double(file_.file().size()));
    out += number("weight_bytes", double(weight_bytes()));
    out += number("n_layers", hp_.n_layers) + number("n_embd", hp_.n_embd) + number("n_vocab", hp_.n_vocab);
    out += number("n_ctx_train", hp_.n_ctx_train) + number("window", hp_.window) + number("softcap", double(hp_.softcap));
    out += number("per_layer_width", hp_.ple_width) + number("n_experts", hp_.n_experts);
    out += number("n_experts_used", hp_.n_experts_used);
    if (is_drafter()) {
        const char* head = hp_.masked_head == MaskedHead::none ? "dense" : "ordered";
        out += std::string(", \"drafter\": {\"target_n_embd\": ") + std::to_string(hp_.n_embd_out) + ", \"head\": \"" + head +
               "\", \"n_centroids\": " + std::to_string(hp_.n_centroids) + ", \"centroid_top_k\": " + std::to_string(hp_.centroid_top_k) +
               "}";
    }
    out += ", \"tensor_types\": " + tensor_types_json(file_) + ", \"layers\": " + layers_json(hp_) + ", \"warnings\": [";
    for (size_t i = 0; i < warnings_.size(); i++) out += (i ? ", " : "") + json_string(warnings_[i]);
    out += "], \"metadata\": {";
    bool first = true;
    for (const GgufValue& v : file_.values()) {
        out += (first ? "" : ", ") + json_string(v.key) + ": " + pillion::to_json(v, /*max_array=*/8);
        first = false;
    }
    return out + "}}";
}

}  // namespace pillion
