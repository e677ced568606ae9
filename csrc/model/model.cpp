#include "model/model.h"

#include <inttypes.h>

#include "core/log.h"
#include "gguf/gguf_json.h"

namespace pillion {

namespace {

std::string not_used(const std::vector<std::string_view>& names) {
    constexpr size_t kNamed = 3;
    if (names.size() > kNamed)
        return std::to_string(names.size()) + " tensors are unknown and not used, such as " +
               printable(names[0]);
    std::string list;
    for (const std::string_view name : names) list += (list.empty() ? "" : ", ") + printable(name);
    return names.size() == 1 ? "tensor " + list + " is unknown and not used"
                             : "tensors " + list + " are unknown and not used";
}

// One sentence for each kind of trouble, however often it occurs: a text model with the tensors of
// a vision encoder has a thousand.
std::vector<std::string> warnings_of(const TensorReport& report, const HParams& hp) {
    std::vector<std::string> out;
    const auto more = [](size_t n) {
        return n > 1 ? " (and " + std::to_string(n - 1) + " more like it)" : std::string();
    };
    if (!report.problems.empty()) out.push_back(report.problems[0] + more(report.problems.size()));
    if (!report.unknown.empty()) out.push_back(not_used(report.unknown));
    if (!hp.centroid_head_problem.empty()) out.push_back(hp.centroid_head_problem);
    return out;
}

}  // namespace

std::shared_ptr<Model> Model::open(const std::string& path, const ModelOptions& options) {
    if (!options.metadata_only)
        find_backend(options.device);  // a wrong device fails before the file
    auto file = std::make_shared<const GgufFile>(GgufFile::open(path, options.use_mmap));
    HParams hp = read_hparams(*file);
    TensorReport report =
        options.metadata_only ? inspect_tensors(*file, hp) : check_tensors(*file, hp);
    std::shared_ptr<Model> model(new Model(std::move(file), std::move(hp)));
    model->warnings_ = warnings_of(report, model->hp_);
    // Who looks at a file before loading it says what it found; a load says it once.
    if (!options.metadata_only)
        for (const std::string& w : model->warnings_)
            log(LogLevel::warning, "%s: %s", path.c_str(), w.c_str());
    model->tensors_ = std::move(report);
    if (!options.metadata_only) {
        // An assistant is too small to be divided: what is asked of layers is about its target.
        const bool is_whole = model->is_drafter() && options.n_gpu_layers != 0;
        std::function<int()> count;
        if (!is_whole && options.count_fitting)
            count = [&] { return options.count_fitting(*model); };
        model->placement_ = place_layers(options.device, is_whole ? -1 : options.n_gpu_layers,
                                         model->hp_.n_layers, count);
        model->weights_ = load_weights(model->file(), model->hp_, model->tensors_,
                                       model->placement_, options.n_threads, options.progress);
    }
    return model;
}

std::shared_ptr<Model> Model::without_content(const Placement& placement) const {
    std::shared_ptr<Model> model(new Model(file_, hp_));
    model->tensors_ = check_tensors(file(), hp_);
    model->placement_ = placement;
    model->weights_ = place_weights(file(), hp_, model->tensors_, placement);
    return model;
}

const Placement& Model::placement() const {
    if (metadata_only())
        fail(Status::invalid_argument,
             "model %s was opened for its metadata only, it has no weights", file().path().c_str());
    return placement_;
}

uint64_t Model::n_params() const {
    uint64_t n = 0;
    for (const GgufTensor& t : file().tensors()) n += uint64_t(t.n_values());
    return n;
}

Graph Model::build_graph(const GraphInputs& inputs) const {
    Graph graph(inputs.rows_max, inputs.out_rows_max);
    if (placement_.is_split()) graph.second_part_from(placement_.first_back);
    switch (hp_.arch) {
        case Arch::gemma4: build_gemma4(graph, *this, inputs); break;
        case Arch::gemma3: build_gemma3(graph, *this, inputs); break;
        case Arch::llama: build_llama(graph, *this, inputs); break;
        case Arch::gemma4_assistant:
            fail(Status::pairing,
                 "%s is a Gemma 4 assistant: it has no cache of its own and runs only as the "
                 "drafter of a target",
                 file().path().c_str());
    }
    return graph;
}

namespace {

std::string layers_json(const HParams& hp) {
    std::string out = "[";
    for (const LayerParams& l : hp.layers) {
        char text[256];
        snprintf(text, sizeof text,
                 "%s{\"kind\": \"%s\", \"heads\": %d, \"kv_heads\": %d, \"head_dim\": %d, \"ff\": "
                 "%d, \"kv_source\": %d, \"moe\": %s}",
                 out.size() > 1 ? ", " : "", l.sliding ? "sliding" : "full", l.n_heads,
                 l.n_kv_heads, l.head_dim, l.ff, l.kv_source, l.moe ? "true" : "false");
        out += text;
    }
    return out + "]";
}

template <class Strings>
std::string list_json(const Strings& list) {
    std::string out = "[";
    for (const auto& text : list) out += (out.size() > 1 ? ", " : "") + json_string(text);
    return out + "]";
}

// What its target must have, and its head. The layers of one kind read one cache: the first of them
// speaks for it.
std::string drafter_json(const HParams& hp) {
    static constexpr const char* kForms[] = {"null", "\"tensors\"", "\"keys\""};
    std::string out =
        "{\"target_n_embd\": " + std::to_string(hp.n_embd_out) + ", \"head\": \"" +
        (hp.centroid_head == CentroidHead::none ? "dense" : "ordered") + "\", \"head_problem\": " +
        (hp.centroid_head_problem.empty() ? "null" : json_string(hp.centroid_head_problem)) +
        ", \"n_centroids\": " + std::to_string(hp.n_centroids) +
        ", \"centroid_top_k\": " + std::to_string(hp.centroid_top_k) +
        ", \"centroid_form\": " + kForms[int(hp.centroid_head)] + ", \"reads\": {";
    for (const bool sliding : {true, false}) {
        for (const LayerParams& l : hp.layers) {
            if (l.sliding != sliding) continue;
            out += std::string(out.back() == '{' ? "\"" : ", \"") + (sliding ? "sliding" : "full") +
                   "\": {\"kv_heads\": " + std::to_string(l.n_kv_heads) +
                   ", \"head_dim\": " + std::to_string(l.head_dim) + "}";
            break;
        }
    }
    return out + "}}";
}

}  // namespace

std::string Model::to_json() const {
    const auto number = [](const char* key, double v) {
        return std::string(", \"") + key + "\": " + json_number(v);
    };
    std::string out = "{\"path\": " + json_string(file().path()) + ", \"arch\": \"" +
                      arch_name(hp_.arch) + "\", \"name\": " + json_string(hp_.name) +
                      ", \"gguf_version\": " + std::to_string(file().version());
    out +=
        number("n_params", double(n_params())) + number("file_bytes", double(file().file_bytes()));
    out += number("weight_bytes", double(weight_bytes())) +
           number("mapped_bytes", double(mapped_bytes()));
    out += number("n_layers", hp_.n_layers) + number("n_embd", hp_.n_embd) +
           number("n_vocab", hp_.n_vocab);
    out += number("n_ctx_train", hp_.n_ctx_train) + number("window", hp_.window) +
           number("softcap", double(hp_.softcap));
    out += number("per_layer_width", hp_.ple_width) + number("n_experts", hp_.n_experts);
    out += number("n_experts_used", hp_.n_experts_used);
    if (is_drafter()) out += ", \"drafter\": " + drafter_json(hp_);
    out += ", \"parts\": " + parts_json(file()) +
           ", \"tensor_types\": " + tensor_types_json(file()) + ", \"layers\": " + layers_json(hp_);
    out += ", \"warnings\": " + list_json(warnings_) +
           ", \"problems\": " + list_json(tensors_.problems);
    out += ", \"unknown_tensors\": " + list_json(tensors_.unknown) +
           ", \"ignored_tensors\": " + list_json(tensors_.ignored);
    out += ", \"unread_keys\": " + list_json(hp_.unread_keys);
    return out + ", \"metadata\": " + metadata_json(file()) + "}";
}

}  // namespace pillion
