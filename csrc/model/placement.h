// Which backend holds which layers of a model: all on one, or the last ones on a device and the
// rest on the host.
#pragma once
#include <functional>
#include <string>

#include "core/backend.h"

namespace pillion {

// The devices of a graph's nodes, in the order in which they run (core/graph_split.h). Without a
// split all nodes are of the front, which is then the same backend as the back.
struct Part {
    enum : int { front, back, drafter };
};

struct Placement {
    Backend* front = nullptr;  // embeddings, and the layers before first_back
    Backend* back = nullptr;   // the other layers and the head; the device that was asked for
    int first_back = 0;        // 0: everything lies on `back`, and `front` is the same

    Placement() = default;
    Placement(Backend& all) : front(&all), back(&all) {}  // NOLINT: one backend is a placement
    Placement(Backend& host, Backend& device, int first_device_layer)
        : front(&host), back(&device), first_back(first_device_layer) {
        if (first_back == 0) front = back;
    }
    bool is_split() const { return front != back; }
    int part_of(int layer) const { return layer >= first_back ? Part::back : Part::front; }
    Backend& of_layer(int layer) const { return layer >= first_back ? *back : *front; }
};

// Where the layers of a model of `n_layers` lie. n_gpu_layers: on `device`, from the last one down.
// -1: as many as fit, which `count_fitting` counts (null: all of them); 0: none; n: that many, at
// most all. Throws Error{no_backend} for a device that the machine does not have, or for layers on
// a device that is the CPU; Error{invalid_argument} below -1.
Placement place_layers(const std::string& device, int n_gpu_layers, int n_layers,
                       const std::function<int()>& count_fitting = nullptr);

// Where a drafter runs. `asked` names a device; null or "auto": that of its target, but the CPU
// for a target on the Hexagon NPU, where a drafter's short steps cost more than they do there.
// Returns one of its arguments or a constant.
const char* draft_device(const char* target_device, const char* asked);

}  // namespace pillion
