#include "speculative/device_fit.h"

#include <algorithm>

#include "core/sizing_backend.h"

namespace pillion {
namespace {

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
        {
            Backend& host = find_backend("cpu");
            const int first = fit_.n_layers - n_device_layers;
            const Placement placement =
                n_device_layers == 0 ? Placement(host) : Placement(host, dry, first);
            const auto context =
                std::make_shared<Context>(r_.model->without_content(placement), r_.context);
            context->compile_all();
            std::unique_ptr<Pair> pair;
            if (r_.drafter) {
                Backend& place =
                    &draft_device_ == &device_ ? static_cast<Backend&>(dry) : draft_device_;
                pair = std::make_unique<Pair>(context, kind_of(*r_.drafter),
                                              r_.drafter->without_content(place), PairOptions());
                context->compile_all();  // with what the pair adds
            }
            const SizingBackend::Use use = dry.use();
            size_t copies = 0;  // of sliding caches: the host's, but that may be the same memory
            if (device_.memory().unified) {
                copies = context->memory().snapshots;
                if (pair) copies += pair->drafter().memory().snapshots;
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

std::string DeviceFit::to_json() const {
    char text[600];
    snprintf(text, sizeof text,
             "{\"device\": \"%s\", \"is_host\": %s, \"n_layers\": %d, \"device_layers\": %d, "
             "\"weights\": %zu, \"kv\": %zu, "
             "\"scratch\": %zu, \"total\": %zu, \"available\": %zu, \"note\": \"%s\"}",
             device.c_str(), is_host ? "true" : "false", n_layers, n_device_layers, weights, kv,
             scratch, total(), available, note.c_str());
    return text;
}

DeviceFit fit_device(const FitRequest& request) { return Fitter(request).fit(); }

int count_fitting_layers(const Model& model, const std::string& device) {
    const int all = model.hparams().n_layers;
    const MemoryInfo memory = find_backend(device).memory();
    if (memory.unified || memory.total == 0) return all;
    try {
        FitRequest request;
        request.model = &model, request.drafter = nullptr, request.device = device;
        return fit_device(request).n_device_layers;
    } catch (const Error&) {
        return all;
    }
}

}  // namespace pillion
