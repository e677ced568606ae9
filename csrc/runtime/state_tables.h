// What the writer and the reader of a saved state both know of a context.
#pragma once
#include <utility>
#include <vector>

#include "runtime/context.h"
#include "runtime/kv_blocks.h"
#include "runtime/sampler.h"
#include "runtime/state_format.h"

namespace pillion {

struct StateTables {
    StateHeader header;  // without checksums
    std::vector<StateStore> stores;
    std::vector<StateImage> images;
    std::vector<StateMedium> media;
};

// Of a context as it is. sampler may be null.
StateTables tables_of(const Context& context, const Sampler::State* sampler);
uint32_t header_crc(StateHeader header);
// Bytes of a file with these tables. The counts are checked: no sum of them wraps.
uint64_t state_bytes(const StateHeader& header, const std::vector<StateStore>& stores,
                     const std::vector<StateImage>& images);

// The blocks [begin, end) of a store that an image has.
inline std::pair<int, int> blocks_of(const StateImage& image, const StateStore& store) {
    const int begin = store.is_sliding ? int(image.first / KV_BLOCK) : 0;
    return {begin, n_blocks(int64_t(image.end))};
}
// Of the layer's own cache.
std::vector<KvStrip> strips_of(const KvCache& kv, int layer);
// Where the bytes of a layer's own ring begin in those of a copy (KvSnapshots).
size_t ring_offset(const KvCache& kv, int layer);

}  // namespace pillion
