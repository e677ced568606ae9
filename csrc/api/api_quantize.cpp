#include <stdio.h>

#include "api/handles.h"
#include "quantize/quantize.h"

using namespace pillion;
using namespace pillion::api;

struct pillion_quantization {
    std::unique_ptr<Quantization> plan;
    pillion::Occupancy inside;
};

extern "C" {

void pillion_quantize_config_init(pillion_quantize_config* config, size_t size) {
    init_config(config, size);
}

pillion_status pillion_quantization_new(const char* path, const pillion_quantize_config* config,
                                        pillion_quantization** quantization) {
    return guard([&] {
        need(path, "path"), need(quantization, "quantization");
        const pillion_quantize_config c =
            read_config(config, pillion_quantize_config_init, "pillion_quantize_config");
        QuantizeOptions o;
        o.type = &need(c.type, "type");
        if (c.imatrix) o.imatrix = c.imatrix;
        if (c.n_overrides > 0)
            need(c.override_names, "override_names"), need(c.override_types, "override_types");
        for (uint64_t i = 0; i < c.n_overrides; i++)
            o.overrides.push_back({&need(c.override_names[i], "override name"),
                                   &need(c.override_types[i], "override type")});
        o.pure = c.pure != 0, o.allow_requantize = c.allow_requantize != 0,
        o.n_threads = c.n_threads;
        auto handle = std::make_unique<pillion_quantization>();
        handle->plan = std::make_unique<Quantization>(path, o);
        *quantization = handle.release();
    });
}

void pillion_quantization_free(pillion_quantization* quantization) {
    if (quantization && !quantization->inside.orphaned()) delete quantization;
}

pillion_status pillion_quantization_count(const pillion_quantization* quantization, size_t* n,
                                          uint64_t* bytes) {
    return guard([&] {
        const Quantization& q = *need(quantization, "quantization").plan;
        if (n) *n = q.tensors().size();
        if (bytes) *bytes = q.bytes();
    });
}

pillion_status pillion_quantization_tensor(const pillion_quantization* quantization, size_t i,
                                           pillion_quantized_tensor* tensor, size_t size) {
    return guard([&] {
        const Quantization& q = *need(quantization, "quantization").plan;
        need(tensor, "tensor");
        if (i >= q.tensors().size())
            fail(Status::invalid_argument, "tensor %zu, there are %zu", i, q.tensors().size());
        const PlannedTensor& t = q.tensors()[i];
        pillion_quantized_tensor o = {};
        o.n_values = uint64_t(t.source->n_values()), o.source_bytes = t.source->bytes,
        o.target_bytes = t.bytes, o.error = t.error;
        snprintf(o.name, sizeof o.name, "%s", printable(t.source->name, sizeof o.name - 1).c_str());
        snprintf(o.source_type, sizeof o.source_type, "%s", info(t.source->dtype).name);
        snprintf(o.target_type, sizeof o.target_type, "%s", info(t.target).name);
        snprintf(o.reason, sizeof o.reason, "%s", t.reason.c_str());
        write_info(tensor, size, &o, sizeof o);
    });
}

pillion_status pillion_quantization_run(pillion_quantization* quantization, const char* out,
                                        pillion_progress_callback progress, void* user) {
    return guard([&] {
        pillion_quantization& q = need(quantization, "quantization");
        need(out, "out");
        const Claim claim(q.inside);
        q.plan->run(out, [&](uint64_t done, uint64_t total) {
            return !progress || progress(done, total, user) == 0;
        });
    });
}

}  // extern "C"
