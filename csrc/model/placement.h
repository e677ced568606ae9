// Which backend holds which layers of a model: all on one, or the last ones on a device and the
// rest on the host.
#pragma once
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

// What a user asked for, as backends: `n_layers` of the model on `device`, from the last one down
// (-1: all of them). Throws Error{no_backend}, or Error{invalid_argument} where layers are asked
// for a device that the machine does not have.
Placement place_layers(const std::string& device, int n_device_layers, int n_layers);

}  // namespace pillion
