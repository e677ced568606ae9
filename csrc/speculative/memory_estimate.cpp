#include "speculative/memory_estimate.h"

#include "core/sizing_backend.h"

namespace pillion {
namespace {

std::string field(const char* name, uint64_t value) {
    return std::string(", \"") + name + "\": " + std::to_string(value);
}

std::string kv_json(const ContextMemory::Kv& kv) {
    return "{\"layers\": " + std::to_string(kv.layers) +
           field("positions", uint64_t(kv.positions)) + field("bytes", kv.bytes) + "}";
}

size_t kv_bytes(const ContextMemory& m) { return m.full.bytes + m.sliding.bytes; }

std::string drafter_alone(const Model& placed) {
    return "{\"n_ctx\": null, \"n_batch\": null, \"kv_type\": null" +
           field("weights", placed.weight_bytes()) + field("mapped", placed.mapped_bytes()) +
           ", \"kv\": null, \"scratch\": null, \"outputs\": null, \"drafter\": null" +
           field("total", placed.weight_bytes()) + "}";
}

}  // namespace

std::string memory_json(const Model& model, const Model* drafter, const ContextOptions& options) {
    Backend& real = model.metadata_only() ? find_backend("auto") : model.backend();
    SizingBackend dry(real);  // the host takes address space only, a device would take memory
    Backend& backend = real.is_host() ? real : dry;
    const std::shared_ptr<Model> target = model.without_content(backend);
    if (target->is_drafter() && !drafter) return drafter_alone(*target);
    const auto context = std::make_shared<Context>(target, options);
    context->compile_all();
    const ContextMemory m = context->memory();
    uint64_t total = target->weight_bytes() + kv_bytes(m) + m.snapshots + m.scratch + m.outputs;
    std::string out =
        "{\"n_ctx\": " + std::to_string(context->n_ctx()) +
        field("n_batch", uint64_t(context->n_batch())) + ", \"kv_type\": \"" +
        (options.kv_type == KvType::q8_0 ? "q8_0" : "f16") + "\"" +
        field("weights", target->weight_bytes()) + field("mapped", target->mapped_bytes()) +
        ", \"kv\": {\"full\": " + kv_json(m.full) + ", \"sliding\": " + kv_json(m.sliding) +
        field("snapshots", m.snapshots) + field("bytes", kv_bytes(m)) + "}" +
        field("scratch", m.scratch) + field("outputs", m.outputs) + ", \"drafter\": ";
    if (drafter) {
        const std::shared_ptr<Model> placed = drafter->without_content(backend);
        const Pair pair(context, kind_of(*placed), placed, {});
        const ContextMemory d = pair.drafter().memory();
        const uint64_t bytes =
            placed->weight_bytes() + kv_bytes(d) + d.snapshots + d.scratch + d.outputs;
        out += std::string("{\"kind\": \"") + pair.drafter().kind() + "\", \"head\": \"" +
               pair.drafter().head() + "\"" + field("weights", placed->weight_bytes()) +
               field("mapped", placed->mapped_bytes()) + field("kv_bytes", kv_bytes(d)) +
               field("snapshots", d.snapshots) + field("scratch", d.scratch) +
               field("outputs", d.outputs) + field("bytes", bytes) + "}";
        total += bytes;
    } else {
        out += "null";
    }
    return out + field("total", total) + "}";
}

}  // namespace pillion
