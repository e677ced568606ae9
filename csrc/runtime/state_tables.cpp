#include "runtime/state_tables.h"

#include <stddef.h>
#include <string.h>

#include <algorithm>
#include <set>

#include "core/crc32.h"
#include "model/fingerprint.h"

namespace pillion {
namespace {

template <size_t N>
void copy_name(char (&to)[N], const char* name) {
    memset(to, 0, N);
    memcpy(to, name, std::min(strlen(name), N - 1));
}

StateStore store_of(const KvCache& kv, int layer) {
    const auto [backend, store] = kv.pool().places_of(layer).front();
    StateStore s = {};
    s.layer = layer, s.n_kv_heads = store->spec.n_kv_heads, s.head_dim = store->spec.head_dim;
    s.is_sliding = kv.pool().is_sliding(layer);
    copy_name(s.layout, backend->kv_layout());
    for (const KvStrip& strip : strips_of(kv, layer)) s.block_bytes += strip.block_bytes;
    return s;
}

// The ring's rows from where all of a copy's blocks can be had.
StateImage image_of(const KvCache& kv, const KvSnapshots::View& copy) {
    const int first = KvCache::first_row(kv.pool().ring_capacity(), copy.high, copy.to);
    return {uint64_t(first), uint64_t(copy.to)};
}

// Each medium of the text once.
std::vector<StateMedium> media_of(const Context& context) {
    std::vector<StateMedium> media;
    std::set<int32_t> known;
    Medium m;
    for (const int32_t id : context.tokens()) {
        if (id >= 0) continue;
        if (!m || id > m.first || m.index(id) >= m.n_rows) m = context.model().media().find(id);
        if (!known.insert(m.first).second) continue;
        StateMedium out = {m.first, m.n_rows, m.is_block, 0, {}};
        std::copy(m.digest.begin(), m.digest.end(), out.digest);
        media.push_back(out);
    }
    return media;
}

}  // namespace

uint32_t header_crc(StateHeader header) {
    header.header_crc = 0;
    return crc32(0, &header, sizeof header);
}

uint64_t state_bytes(const StateHeader& h, const std::vector<StateStore>& stores,
                     const std::vector<StateImage>& images) {
    uint64_t bytes = sizeof h + stores.size() * sizeof(StateStore) +
                     images.size() * sizeof(StateImage) + 4 * (h.n_tokens + h.n_accepted) +
                     h.n_media * sizeof(StateMedium);
    for (size_t i = 0; i < images.size(); i++)
        for (const StateStore& s : stores) {
            if (i > 0 && !s.is_sliding) continue;
            const auto [begin, end] = blocks_of(images[i], s);
            bytes += uint64_t(end - begin) * s.block_bytes;
        }
    return bytes;
}

StateTables tables_of(const Context& context, const Sampler::State* sampler) {
    const HParams& hp = context.model().hparams();
    const KvCache& kv = context.kv();
    StateTables t = {};
    StateHeader& h = t.header;
    memcpy(h.magic, kStateMagic, sizeof h.magic);
    h.version = kStateVersion, h.byte_order = kStateByteOrder, h.header_bytes = sizeof h;
    copy_name(h.architecture, hp.arch_name());
    h.fingerprint = fingerprint(context.model().file());
    h.kv_type = uint32_t(context.options().kv_type), h.block_slots = KV_BLOCK;
    h.n_layers = hp.n_layers, h.n_embd = hp.n_embd, h.n_vocab = hp.n_vocab, h.window = hp.window;
    h.n_tokens = uint64_t(context.length()), h.prompt_end = uint64_t(context.prompt_end());
    if (sampler) {
        h.has_sampler = 1, h.n_accepted = sampler->accepted.size();
        h.drawn = sampler->drawn, h.seed = sampler->seed;
    }
    for (int l = 0; l < int(hp.layers.size()); l++)
        if (hp.layers[size_t(l)].owns_kv) t.stores.push_back(store_of(kv, l));
    t.images.push_back({uint64_t(kv.first_held()), h.n_tokens});
    for (const KvSnapshots::View& copy : kv.snapshots().copies())
        t.images.push_back(image_of(kv, copy));
    t.media = media_of(context);
    h.n_media = uint32_t(t.media.size());
    h.n_stores = uint32_t(t.stores.size()), h.n_images = uint32_t(t.images.size());
    h.file_bytes = state_bytes(h, t.stores, t.images);
    return t;
}

std::vector<KvStrip> strips_of(const KvCache& kv, int layer) {
    const auto [backend, store] = kv.pool().places_of(layer).front();
    return backend->kv_strips(store->spec.one_page());
}

size_t ring_offset(const KvCache& kv, int layer) {
    size_t offset = 0;
    for (const KvSnapshots::Ring& ring : kv.snapshots().rings()) {
        if (ring.layer == layer) return offset;
        offset += ring.bytes;
    }
    fail(Status::internal, "layer %d has no ring", layer);
}

}  // namespace pillion
