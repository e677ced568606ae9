#include "model/placement.h"

#include <string.h>

namespace pillion {

Placement place_layers(const std::string& device, int n_gpu_layers, int n_layers,
                       const std::function<int()>& count_fitting) {
    Backend& back = find_backend(device);
    if (n_gpu_layers < -1)
        fail(Status::invalid_argument,
             "n_gpu_layers %d, allowed are -1 (as many as fit), 0 (none) and more", n_gpu_layers);
    if (back.is_host()) {
        if (n_gpu_layers > 0)
            fail(Status::no_backend, "n_gpu_layers %d asked, but device \"%s\" is the %s here",
                 n_gpu_layers, device.c_str(), back.name());
        return back;
    }
    if (n_gpu_layers < 0) n_gpu_layers = count_fitting ? count_fitting() : n_layers;
    if (n_gpu_layers >= n_layers) return back;
    Backend& host = find_backend("cpu");
    if (n_gpu_layers == 0) return host;
    return {host, back, n_layers - n_gpu_layers};
}

const char* draft_device(const char* target_device, const char* asked) {
    if (asked && *asked && strcmp(asked, "auto") != 0) return asked;
    if (!target_device || !*target_device) return "auto";
    const bool is_htp = strcmp(target_device, "htp") == 0 || strncmp(target_device, "htp:", 4) == 0;
    return is_htp ? "cpu" : target_device;
}

}  // namespace pillion
