#include "model/placement.h"

namespace pillion {

Placement place_layers(const std::string& device, int n_device_layers, int n_layers) {
    Backend& back = find_backend(device);
    if (n_device_layers < -1)
        fail(Status::invalid_argument, "n_gpu_layers %d, allowed are -1 (all), 0 and more",
             n_device_layers);
    if (back.is_host()) {
        if (n_device_layers > 0)
            fail(Status::no_backend, "n_gpu_layers %d asked, but device \"%s\" is the %s here",
                 n_device_layers, device.c_str(), back.name());
        return back;
    }
    if (n_device_layers < 0 || n_device_layers >= n_layers) return back;
    Backend& host = find_backend("cpu");
    if (n_device_layers == 0) return host;
    return {host, back, n_layers - n_device_layers};
}

}  // namespace pillion
