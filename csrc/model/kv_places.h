// Where the keys and values of each layer lie: in the cache of the layer, and in copies for whoever
// runs on a device that cannot read it. A graph reads and writes them only through this.
#pragma once
#include "core/graph.h"
#include "model/placement.h"

namespace pillion {

// Arrays by layer. Of `own` the owning layers are set, of the others those that exist.
struct KvPlaces {
    const KvStore* own = nullptr;
    // Null without any: of the front's caches, for layers of the back that read them.
    const KvStore* device_copies = nullptr;
    // Null without any: for a drafter that can read neither of the two.
    const KvStore* replicas = nullptr;

    // The cache of `layer` as nodes of `part` read it.
    const KvStore& reader(int layer, int part) const {
        const bool copied = part == Part::back && device_copies && device_copies[layer].buffer;
        return copied ? device_copies[layer] : own[layer];
    }

    // The rows go into the layer's cache, on the graph's part, and into each copy, on the copy's.
    void store_all(Graph& g, int layer, Value k, Value v) const {
        g.kv_store(g.kv(own[layer]), k, v);
        const int own_part = g.part();
        for (const int part : {Part::back, Part::drafter}) {
            const KvStore* copies = part == Part::back ? device_copies : replicas;
            if (!copies || !copies[layer].buffer) continue;
            g.set_part(part);
            g.kv_store(g.kv(copies[layer]), k, v);
        }
        g.set_part(own_part);
    }
};

}  // namespace pillion
