#include <string.h>

#include <algorithm>

#include "api/handles.h"
#include "gguf/gguf_json.h"
#include "speculative/footprint.h"

using namespace pillion;
using namespace pillion::api;

namespace pillion::api {

bool on_device(const Model& model) {
    return !model.metadata_only() &&
           !(model.placement().front->is_host() && model.placement().back->is_host());
}

SharedModel::~SharedModel() {
    if (model && origin.is_parent() && on_device(*model))
        new std::shared_ptr<Model>(std::move(model));  // never freed
}

const std::shared_ptr<Model>& SharedModel::to_run() const {
    origin.check(on_device(*model), "this model");
    return model;
}

}  // namespace pillion::api

extern "C" {

void pillion_model_config_init(pillion_model_config* config, size_t size) {
    init_layers_config(config, size);
}

pillion_status pillion_model_open(const char* path, const pillion_model_config* config,
                                  pillion_model** model) {
    return guard([&] {
        need(path, "path"), need(model, "model");
        const pillion_model_config c =
            read_config(config, pillion_model_config_init, "pillion_model_config");
        ModelOptions o;
        o.use_mmap = !c.no_mmap;
        o.metadata_only = c.metadata_only != 0;
        o.n_threads = c.n_threads;
        if (c.n_threads < 0)
            fail(Status::invalid_argument, "n_threads %d must not be negative", c.n_threads);
        if (c.device) o.device = c.device;
        o.n_gpu_layers = c.n_gpu_layers;
        o.count_fitting = [&](const Model& m) { return count_fitting_layers(m, o.device); };
        if (c.progress)
            o.progress = [&c](uint64_t done, uint64_t total) {
                return c.progress(done, total, c.progress_user) == 0;
            };
        auto shared = std::make_shared<SharedModel>();
        shared->model = Model::open(path, o);
        *model = new pillion_model{std::move(shared)};
    });
}

void pillion_model_free(pillion_model* model) { delete model; }

const char* pillion_draft_device(const char* device, const char* asked) {
    return draft_device(device, asked);
}

pillion_status pillion_model_get_info(const pillion_model* model, pillion_model_info* info,
                                      size_t size) {
    return guard([&] {
        const Model& m = *need(model, "model").shared->model;
        const HParams& hp = m.hparams();
        pillion_model_info i = {};
        i.n_layers = hp.n_layers, i.n_embd = hp.n_embd, i.n_vocab = hp.n_vocab,
        i.n_ctx_train = hp.n_ctx_train;
        i.n_heads = hp.layers[0].n_heads, i.window = hp.window;
        i.is_drafter = m.is_drafter();
        i.n_params = m.n_params(), i.file_bytes = m.file().file_bytes(),
        i.weight_bytes = m.weight_bytes();
        i.takes_media = hp.takes_media, i.image_bidirectional = hp.image_bidirectional;
        snprintf(i.arch, sizeof i.arch, "%s", hp.arch_name());
        write_info(info, size, &i, sizeof i);
    });
}

pillion_status pillion_model_json(const pillion_model* model, char* out, size_t capacity,
                                  size_t* needed) {
    return guard(
        [&] { write_text(need(model, "model").shared->model->to_json(), out, capacity, needed); });
}

pillion_status pillion_file_json(const char* path, int32_t with_tensors, char* out, size_t capacity,
                                 size_t* needed) {
    return guard([&] {
        write_text(gguf_json(GgufFile::open(&need(path, "path")), with_tensors != 0), out, capacity,
                   needed);
    });
}

pillion_status pillion_model_metadata(const pillion_model* model, const char* key, char* out,
                                      size_t capacity, size_t* needed) {
    return guard([&] {
        const GgufFile& file = need(model, "model").shared->model->file();
        const GgufValue* v = file.find_shown(&need(key, "key"));
        if (!v)
            fail(Status::invalid_argument, "%s has no metadata key %s", file.path().c_str(),
                 printable(key).c_str());
        const bool text = !v->is_array && v->element == GgufType::string;
        write_text(text ? std::string(file.string(v->key)) : to_json(*v), out, capacity, needed);
    });
}

pillion_status pillion_model_tokenizer(pillion_model* model, pillion_tokenizer** tokenizer) {
    return guard([&] {
        need(tokenizer, "tokenizer");
        const auto& shared = need(model, "model").shared;
        *tokenizer = new pillion_tokenizer{shared, shared->tokenizer()};
    });
}

pillion_status pillion_model_add_media(pillion_model* model, const uint8_t* digest,
                                       const float* rows, size_t n_rows, size_t n_embd,
                                       int32_t sees_itself, int32_t* first) {
    return guard([&] {
        const Model& m = *need(model, "model").shared->model;
        need(digest, "digest"), need(first, "first");
        const HParams& hp = m.hparams();
        if (!hp.takes_media)
            fail(Status::unsupported_model,
                 "%s: a model of architecture %s takes no images or sounds",
                 m.file().path().c_str(), hp.arch_name());
        if (n_embd != size_t(hp.n_embd))
            fail(Status::invalid_argument, "rows of width %zu, this model's n_embd is %d", n_embd,
                 hp.n_embd);
        MediumDigest key;
        std::copy(digest, digest + key.size(), key.begin());
        *first = m.media().add(key, rows, n_rows, sees_itself != 0);
    });
}

pillion_status pillion_model_drop_media(pillion_model* model, int32_t first) {
    return guard([&] {
        if (!need(model, "model").shared->model->media().drop(first))
            fail(Status::invalid_argument, "no medium's first id is %d", first);
    });
}

pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter,
                                    const pillion_context_config* config, char* out,
                                    size_t capacity, size_t* needed) {
    return guard([&] {
        const Model& m = *need(model, "model").shared->to_run();
        const Model* other = drafter ? drafter->shared->to_run().get() : nullptr;
        write_text(memory_json(m, other, context_options(config)), out, capacity, needed);
    });
}

void pillion_fit_config_init(pillion_fit_config* config, size_t size) {
    init_layers_config(config, size);
}

pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_fit_config* config, int32_t* n_gpu_layers, char* out,
                                 size_t capacity, size_t* needed) {
    return guard([&] {
        const pillion_fit_config c =
            read_config(config, pillion_fit_config_init, "pillion_fit_config");
        FitRequest r;
        r.model = need(model, "model").shared->to_run().get();
        r.drafter = drafter ? drafter->shared->to_run().get() : nullptr;
        r.context = context_options(context);
        if (c.device) r.device = c.device;
        if (c.draft_device) r.draft_device = c.draft_device;
        r.n_gpu_layers = c.n_gpu_layers;
        r.device_bytes = size_t(c.device_bytes), r.strict = c.strict != 0;
        const DeviceFit fit = fit_device(r);
        write_text(fit.to_json(), out, capacity, needed);
        if (n_gpu_layers) *n_gpu_layers = fit.n_device_layers;
    });
}

}  // extern "C"
