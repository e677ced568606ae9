#include "model/model.h"

#include <inttypes.h>

#include "core/log.h"
#include "model/architecture.h"

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
    hp_.arch->build(graph, *this, inputs);
    return graph;
}

}  // namespace pillion
