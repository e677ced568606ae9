#include "speculative/footprint.h"

#include <algorithm>

#include "core/log.h"
#include "core/sizing_backend.h"

namespace pillion {
namespace {

// A target, its context and a drafter, on weights without content.
struct Sized {
    Sized(const Model& model, const Placement& placement)
        : target(model.without_content(placement)) {}

    void add_context(const ContextOptions& options) {
        context = std::make_shared<Context>(target, options);
        compile();
    }
    // Also the plan of long runs, which otherwise waits for the first.
    void compile() { context->runner().plans().get(context->n_batch()); }
    void add_drafter(const Model& model, Backend& backend) {
        drafter = model.without_content(backend);
        pair = std::make_unique<Pair>(context, kind_of(*drafter), drafter, PairOptions());
    }

    std::shared_ptr<Model> target, drafter;
    std::shared_ptr<Context> context;
    std::unique_ptr<Pair> pair;
};

size_t kv_bytes(const ContextMemory& m) { return m.full.bytes + m.sliding.bytes; }
size_t all_bytes(const Model& model, const ContextMemory& m) {
    return model.weight_bytes() + kv_bytes(m) + m.snapshots + m.scratch + m.outputs;
}

Json kv_json(const ContextMemory::Kv& kv) {
    return JsonObject()
        .add("layers", kv.layers)
        .add("positions", kv.positions)
        .add("bytes", kv.bytes);
}

std::string drafter_alone_json(const Model& drafter) {
    return JsonObject()
        .add("n_ctx", nullptr)
        .add("n_batch", nullptr)
        .add("kv_type", nullptr)
        .add("weights", drafter.weight_bytes())
        .add("mapped", drafter.mapped_bytes())
        .add("kv", nullptr)
        .add("scratch", nullptr)
        .add("outputs", nullptr)
        .add("drafter", nullptr)
        .add("total", drafter.weight_bytes())
        .text();
}

Json drafter_json(const Sized& sized) {
    const ContextMemory m = sized.pair->drafter().memory();
    return JsonObject()
        .add("kind", sized.pair->drafter().kind())
        .add("head", sized.pair->drafter().head())
        .add("weights", sized.drafter->weight_bytes())
        .add("mapped", sized.drafter->mapped_bytes())
        .add("kv_bytes", kv_bytes(m))
        .add("snapshots", m.snapshots)
        .add("scratch", m.scratch)
        .add("outputs", m.outputs)
        .add("bytes", all_bytes(*sized.drafter, m));
}

// What the driver takes beside our buffers: captured runs, page tables, pieces it can't hand out.
size_t usable(const MemoryInfo& memory) {
    const size_t reserve = std::max<size_t>(size_t(64) << 20, memory.total / 50);
    return memory.free > reserve ? memory.free - reserve : 0;
}

double gb(size_t bytes) { return double(bytes) / 1e9; }

class Fitter {
  public:
    explicit Fitter(const FitRequest& request)
        : r_(request), device_(find_backend(r_.device)),
          draft_device_(find_backend(draft_device(r_.device.c_str(), r_.draft_device.c_str()))) {
        fit_.device = device_.name(), fit_.is_host = device_.is_host();
        fit_.n_layers = r_.model->hparams().n_layers;
    }

    DeviceFit fit() {
        place_layers(r_.device, r_.n_gpu_layers,
                     fit_.n_layers);  // says what is wrong with the numbers
        if (fit_.is_host) return fit_;
        const int wanted =
            r_.n_gpu_layers < 0 ? fit_.n_layers : std::min(r_.n_gpu_layers, fit_.n_layers);
        const MemoryInfo memory = device_.memory();
        fit_.available = r_.device_bytes > 0 ? r_.device_bytes : usable(memory);
        measure(wanted);
        if (fit_.available == 0 && memory.total == 0) return fit_;  // it does not say
        if (fit_.total() <= fit_.available) return fit_;
        if (r_.n_gpu_layers >= 0 || memory.unified) refuse(wanted, memory.unified);
        search(wanted);
        note_fewer();
        return fit_;
    }

  private:
    // The most layers below `too_many` that fit: each needs more than the one before.
    void search(int too_many) {
        int least = 0, most = too_many;  // most does not fit; least is not known to
        while (most - least > 1) {
            const int middle = (least + most) / 2;
            measure(middle);
            (fit_.total() <= fit_.available ? least : most) = middle;
        }
        measure(least);
        if (fit_.total() > fit_.available) refuse(0, false);
    }

    void note_fewer() {
        char text[200];
        snprintf(text, sizeof text,
                 "%s holds %d of %d layers (%.2f of %.2f GB); the others are the CPU's",
                 device_.name(), fit_.n_device_layers, fit_.n_layers, gb(fit_.total()),
                 gb(fit_.available));
        fit_.note = text;
        if (r_.strict)
            fail(Status::out_of_memory, "%s: %s, which strict does not allow",
                 r_.model->file().path().c_str(), text);
    }

    void measure(int n_device_layers) {
        SizingBackend dry(device_);
        {  // what is made on `dry` goes before it
            Backend& host = find_backend("cpu");
            const int first = fit_.n_layers - n_device_layers;
            const Placement placement =
                n_device_layers == 0 ? Placement(host) : Placement(host, dry, first);
            Sized sized(*r_.model, placement);
            sized.add_context(r_.context);
            if (r_.drafter) {
                const bool beside = &draft_device_ == &device_;
                sized.add_drafter(*r_.drafter, beside ? dry : draft_device_);
                sized.compile();  // with what the pair adds
            }
            const SizingBackend::Use use = dry.use();
            size_t copies = 0;  // of sliding caches: the host's, but that may be the same memory
            if (device_.memory().unified) {
                copies = memory_of(*sized.context).snapshots;
                if (sized.pair) copies += sized.pair->drafter().memory().snapshots;
            }
            fit_.weights = use.of(BufferKind::weights), fit_.kv = use.of(BufferKind::kv) + copies,
            fit_.scratch = use.of(BufferKind::scratch);
        }
        fit_.n_device_layers = n_device_layers;
    }

    [[noreturn]] void refuse(int n_device_layers, bool unified) const {
        fail(Status::out_of_memory,
             "%s: %d of %d layers%s take %.2f GB on %s (weights %.2f, KV cache %.2f, scratch "
             "%.2f), %.2f GB can be used%s. "
             "Smaller: n_ctx, kv_type q8_0, n_batch, n_gpu_layers, a file with fewer bits",
             r_.model->file().path().c_str(), n_device_layers, fit_.n_layers,
             r_.drafter ? " and the drafter" : "", gb(fit_.total()), device_.name(),
             gb(fit_.weights), gb(fit_.kv), gb(fit_.scratch), gb(fit_.available),
             unified ? "; the CPU's memory is the same" : "");
    }

    const FitRequest& r_;
    Backend &device_, &draft_device_;
    DeviceFit fit_;
};

}  // namespace

std::string memory_json(const Model& model, const Model* drafter, const ContextOptions& options) {
    Backend& real = model.metadata_only() ? find_backend("auto") : model.backend();
    SizingBackend dry(real);  // the host takes address space only, a device would take memory
    Backend& backend = real.is_host() ? real : dry;
    Sized sized(model, backend);
    const Model& target = *sized.target;
    if (target.is_drafter() && !drafter) return drafter_alone_json(target);
    sized.add_context(options);
    const ContextMemory m = memory_of(*sized.context);
    if (drafter) sized.add_drafter(*drafter, backend);
    JsonObject kv, out;
    kv.add("full", kv_json(m.full))
        .add("sliding", kv_json(m.sliding))
        .add("snapshots", m.snapshots)
        .add("bytes", kv_bytes(m));
    size_t total = all_bytes(target, m);
    if (drafter) total += all_bytes(*sized.drafter, sized.pair->drafter().memory());
    return out.add("n_ctx", sized.context->n_ctx())
        .add("n_batch", sized.context->n_batch())
        .add("kv_type", options.kv_type == KvType::q8_0 ? "q8_0" : "f16")
        .add("weights", target.weight_bytes())
        .add("mapped", target.mapped_bytes())
        .add("kv", kv)
        .add("scratch", m.scratch)
        .add("outputs", m.outputs)
        .add("drafter", drafter ? drafter_json(sized) : nullptr)
        .add("total", total)
        .text();
}

std::string DeviceFit::to_json() const {
    return JsonObject()
        .add("device", device)
        .add("is_host", is_host)
        .add("n_layers", n_layers)
        .add("device_layers", n_device_layers)
        .add("weights", weights)
        .add("kv", kv)
        .add("scratch", scratch)
        .add("total", total())
        .add("available", available)
        .add("note", note)
        .text();
}

DeviceFit fit_device(const FitRequest& request) { return Fitter(request).fit(); }

int count_fitting_layers(const Model& model, const std::string& device) {
    const int all = model.hparams().n_layers;
    const MemoryInfo memory = find_backend(device).memory();
    if (memory.unified || memory.total == 0) return all;
    try {
        FitRequest request;
        request.model = &model, request.drafter = nullptr, request.device = device;
        const DeviceFit fit = fit_device(request);
        if (!fit.note.empty())
            log(LogLevel::warning, "%s: %s", model.file().path().c_str(), fit.note.c_str());
        return fit.n_device_layers;
    } catch (const Error&) {
        return all;
    }
}

}  // namespace pillion
