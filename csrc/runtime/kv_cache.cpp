#include "runtime/kv_cache.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

int round_up(int64_t n) {
    return int((n + kKvCapacityUnit - 1) / kKvCapacityUnit * kKvCapacityUnit);
}

int blocks_for(int rows) { return (rows + KV_BLOCK - 1) / KV_BLOCK; }

}  // namespace

KvCache::KvCache(const HParams& hp, const Placement& placement, KvType type, int n_ctx,
                 int rows_per_run, bool swa_full, int n_snapshots)
    : placement_(placement), stores_(hp.layers.size()), sliding_(hp.layers.size()),
      rings_(hp.layers.size()), snapshots_(n_snapshots), window_(hp.window) {
    for (size_t l = 0; l < hp.layers.size(); l++) {
        const LayerParams& p = hp.layers[l];
        sliding_[l] = p.sliding;
        if (!p.owns_kv) continue;
        int capacity = round_up(n_ctx);
        const int ring = round_up(int64_t(hp.window) - 1 + rows_per_run);
        if (p.sliding && !swa_full && ring < capacity) {
            capacity = ring_capacity_ = ring;
            rings_[l] = true;
        }
        stores_[l].spec = {type, p.n_kv_heads, p.head_dim, capacity};
    }
    for (size_t l = 0; l < hp.layers.size() && placement.is_split(); l++) {
        const int source = hp.layers[l].kv_source;
        if (hp.layers[l].owns_kv || placement.part_of(int(l)) == placement.part_of(source))
            continue;
        device_copies_.resize(stores_.size());
        device_copies_[size_t(source)].spec = stores_[size_t(source)].spec;
    }
    char what[48];
    snprintf(what, sizeof what, "KV cache for n_ctx %d", n_ctx);
    if (placement.is_split()) allocate(stores_, *placement.front, what);
    allocate(stores_, *placement.back, what);
    allocate(device_copies_, *placement.back, what);
    list_rings();
}

// Lists everything that a rewind must restore: the layers' own rings and their copies on other
// devices.
void KvCache::list_rings() {
    std::vector<KvSnapshots::Ring> rings;
    for (size_t l = 0; l < stores_.size(); l++) {
        if (!rings_[l]) continue;
        for (const auto& [backend, store] : places_of(int(l)))
            rings.push_back(
                {int(l), backend, store->buffer, store->offset, backend->kv_bytes(store->spec)});
    }
    snapshots_.set_rings(std::move(rings));
}

std::vector<KvCache::Place> KvCache::places_of(int layer) const {
    std::vector<Place> places;
    const auto add = [&](const std::vector<KvStore>& stores, Backend* backend) {
        if (!stores.empty() && stores[size_t(layer)].buffer)
            places.push_back({backend, &stores[size_t(layer)]});
    };
    add(stores_, &placement_.of_layer(layer));
    add(device_copies_, placement_.back);
    add(replicas_, replica_backend_);
    return places;
}

// Allocates the stores of the layers that lie on this backend. Copies have no own backend: they lie
// on the requested one.
void KvCache::allocate(std::vector<KvStore>& stores, Backend& backend, const char* what) {
    size_t total = 0;
    std::vector<KvStore*> placed;
    for (size_t l = 0; l < stores.size(); l++) {
        KvStore& s = stores[l];
        if (s.spec.capacity == 0 ||
            (&stores == &stores_ && &placement_.of_layer(int(l)) != &backend))
            continue;
        s.offset = total;
        total += (backend.kv_bytes(s.spec) + 63) / 64 * 64;
        placed.push_back(&s);
    }
    if (placed.empty()) return;
    std::unique_ptr<Buffer> buffer = backend.allocate(total, BufferKind::kv).value_or_throw(what);
    for (KvStore* s : placed) s->buffer = buffer.get();
    buffers_.push_back(std::move(buffer));
}

KvView KvCache::last_view(bool sliding) const {
    KvView view;
    for (size_t l = 0; l < stores_.size(); l++)
        if (stores_[l].buffer && sliding_[l] == sliding) view = view_of(stores_[l], int(l));
    return view;
}

KvView KvCache::last_view_on(Backend& backend, bool sliding) const {
    const KvView own = last_view(sliding);
    if (own.layer < 0) return own;
    const size_t l = size_t(own.layer);
    const Backend& owner = placement_.of_layer(own.layer);
    const bool in_place = backend.is_host() && own.store.buffer->host() &&
                          strcmp(backend.kv_layout(), owner.kv_layout()) == 0;
    if (&owner == &backend || in_place) return own;
    if (!device_copies_.empty() && device_copies_[l].buffer && placement_.back == &backend)
        return view_of(device_copies_[l], own.layer);
    return view_of(replica_backend_ == &backend ? replicas_[l] : KvStore(), own.layer);
}

void KvCache::add_replicas(Backend& backend) {
    if (replica_backend_ && replica_backend_ != &backend)
        fail(Status::pairing, "the context has a drafter on %s, another one can't run on %s",
             replica_backend_->name(), backend.name());
    if (replica_backend_) return;
    std::vector<KvStore> replicas(stores_.size());
    bool any = false;
    for (const bool sliding : {true, false}) {
        const KvView view = last_view_on(backend, sliding);
        if (view.layer < 0 || view.store.buffer) continue;
        replicas[size_t(view.layer)].spec = stores_[size_t(view.layer)].spec;
        any = true;
    }
    if (!any) return;
    allocate(replicas, backend, "copy of the KV cache for the drafter");
    replicas_ = std::move(replicas);
    replica_backend_ = &backend;
    list_rings();
}

void KvCache::drop_replicas() {
    if (!replica_backend_) return;
    replicas_.clear();
    replica_backend_ = nullptr;
    // The last one made.
    buffers_.pop_back();
    list_rings();
}

size_t KvCache::bytes() const {
    size_t n = 0;
    for (const auto& b : buffers_) n += b->size();
    return n;
}

size_t KvCache::layer_bytes(int layer) const {
    const size_t l = size_t(layer);
    size_t n = stores_[l].buffer ? placement_.of_layer(layer).kv_bytes(stores_[l].spec) : 0;
    if (!device_copies_.empty() && device_copies_[l].buffer)
        n += placement_.back->kv_bytes(device_copies_[l].spec);
    if (!replicas_.empty() && replicas_[l].buffer)
        n += replica_backend_->kv_bytes(replicas_[l].spec);
    return n;
}

void KvCache::begin_write(int rows) {
    const int high = std::max(high_, length_ + rows);
    snapshots_.before_write(low(high_), low(high), length_, high_);
    high_ = high;
}

void KvCache::rewind(int length) {
    if (length == 0) return clear();
    length_ = length;
    snapshots_.clip(length);
}

int KvCache::nearest(int length) const {
    return can_rewind(length) ? length : std::max(0, snapshots_.nearest(length));
}

void KvCache::go_back(int length) {
    if (length == 0) return clear();
    if (!can_rewind(length)) {
        const int copied = snapshots_.nearest(length);
        PILLION_CHECK(copied == length);
        try {
            high_ = snapshots_.restore(length);
        } catch (...) {
            clear();
            throw;
        }
    }
    rewind(length);
}

void KvCache::clear() {
    length_ = 0, high_ = 0, least_ = 0;
    snapshots_.clear();
}

// The first of the rows [high - capacity, length) that a copy of whole blocks can begin with. The
// ring's oldest block may share its slots with the newest one: while that has no rows of the text,
// the oldest can be had as it is, else one begins behind it. The window before `length` is there
// either way, since a ring has at least a block more than that.
int KvCache::first_row(int capacity, int high, int length) {
    const int first = std::max(0, high - capacity);
    const bool shares = blocks_for(length) > first / KV_BLOCK + capacity / KV_BLOCK;
    return shares ? blocks_for(first) * KV_BLOCK : first;
}

int KvCache::first_held() const {
    if (ring_capacity_ == 0) return least_ > 0 ? least_ - (window_ - 1) : 0;
    return first_row(ring_capacity_, high_, length_);
}

int KvCache::first_taken(int first, int length) const {
    return ring_capacity_ == 0 ? first : std::max(first, first_row(ring_capacity_, length, length));
}

void KvCache::set_held(int first, int length) {
    PILLION_CHECK(length_ == 0 && high_ == 0 && first <= std::max(0, length - (window_ - 1)));
    length_ = length;
    high_ = ring_capacity_ == 0 ? length : high_for(first, length);
    if (ring_capacity_ == 0 && first > 0) least_ = first + window_ - 1;
}

}  // namespace pillion
