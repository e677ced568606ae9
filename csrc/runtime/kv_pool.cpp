#include "runtime/kv_pool.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

int round_up(int64_t n) {
    return int((n + kKvCapacityUnit - 1) / kKvCapacityUnit * kKvCapacityUnit);
}

static_assert(KvPool::kPage % kKvCapacityUnit == 0, "an attention split lies in one page");

}  // namespace

KvPool::KvPool(const HParams& hp, const Placement& placement, const KvPoolOptions& o)
    : placement_(placement), stores_(hp.layers.size()), sliding_(hp.layers.size()),
      rings_(hp.layers.size()), n_sequences_(o.n_sequences) {
    const int n_full = round_up(o.n_ctx);
    const int ring = round_up(int64_t(hp.window) - 1 + o.rows_per_run);
    for (size_t l = 0; l < hp.layers.size(); l++) {
        const LayerParams& p = hp.layers[l];
        sliding_[l] = p.sliding;
        if (!p.owns_kv) continue;
        rings_[l] = p.sliding && !o.swa_full && ring < n_full;
        if (rings_[l]) ring_capacity_ = ring;
        const int one = rings_[l] ? ring : n_full;
        int capacity = one;
        if (is_shared()) capacity = rings_[l] ? n_sequences_ * ring : o.n_pages * kPage;
        stores_[l].spec = {o.type, p.n_kv_heads, p.head_dim, capacity, is_shared() ? kPage : 0};
    }
    for (size_t l = 0; l < hp.layers.size() && placement.is_split(); l++) {
        const int source = hp.layers[l].kv_source;
        if (hp.layers[l].owns_kv || placement.part_of(int(l)) == placement.part_of(source))
            continue;
        device_copies_.resize(stores_.size());
        device_copies_[size_t(source)].spec = stores_[size_t(source)].spec;
    }
    if (is_shared()) {
        page_users_.resize(size_t(o.n_pages));
        for (int page = o.n_pages; page-- > 0;) free_.push_back(page);
        make_tables(o.n_ctx);
    }
    char what[48];
    snprintf(what, sizeof what, "KV cache for n_ctx %d", o.n_ctx);
    if (placement.is_split()) allocate(stores_, *placement.front, what);
    allocate(stores_, *placement.back, what);
    allocate(device_copies_, *placement.back, what);
}

// A ring never moves, so its part of the table is written once.
void KvPool::make_tables(int n_ctx) {
    const int ring_entries = ring_capacity_ / kPage;
    full_entries_ = round_up(n_ctx) / kPage;
    stride_ = full_entries_ + ring_entries;
    Backend& device = placement_.back->is_host() ? *placement_.front : *placement_.back;
    table_ = device.allocate(size_t(n_sequences_) * size_t(stride_) * 4, BufferKind::state)
                 .value_or_throw("page tables");
    for (int s = n_sequences_; s-- > 0;) {
        std::fill(row(s), row(s) + full_entries_, 0);
        for (int i = 0; i < ring_entries; i++) row(s)[full_entries_ + i] = s * ring_entries + i;
        free_sequences_.push_back(s);
    }
}

// Allocates the stores of the layers that lie on this backend. Copies have no own backend: they lie
// on the requested one.
void KvPool::allocate(std::vector<KvStore>& stores, Backend& backend, const char* what) {
    size_t total = 0;
    std::vector<size_t> placed;
    for (size_t l = 0; l < stores.size(); l++) {
        KvStore& s = stores[l];
        if (s.spec.capacity == 0 ||
            (&stores == &stores_ && &placement_.of_layer(int(l)) != &backend))
            continue;
        s.offset = total;
        total += (backend.kv_bytes(s.spec) + 63) / 64 * 64;
        placed.push_back(l);
    }
    if (placed.empty()) return;
    std::unique_ptr<Buffer> buffer = backend.allocate(total, BufferKind::kv).value_or_throw(what);
    for (const size_t l : placed) {
        stores[l].buffer = buffer.get();
        if (!is_shared()) continue;
        const int first = rings_[l] ? full_entries_ : 0;
        stores[l].table = {table_.get(), size_t(first) * 4, stride_,
                           rings_[l] ? stride_ - full_entries_ : full_entries_};
    }
    buffers_.push_back(std::move(buffer));
}

KvPlaces KvPool::places() const {
    const auto rows = [](const std::vector<KvStore>& v) { return v.empty() ? nullptr : v.data(); };
    return {stores_.data(), rows(device_copies_), rows(replicas_)};
}

size_t KvPool::bytes() const {
    size_t n = 0;
    for (const auto& b : buffers_) n += b->size();
    return n;
}

// The layer's own store and its copies, with the backend of each.
template <class F>
void KvPool::for_each_store(size_t layer, F&& body) const {
    const auto visit = [&](const std::vector<KvStore>& stores, Backend* backend) {
        if (!stores.empty() && stores[layer].buffer) body(stores[layer], *backend);
    };
    visit(stores_, &placement_.of_layer(int(layer)));
    visit(device_copies_, placement_.back);
    visit(replicas_, replica_backend_);
}

size_t KvPool::layer_bytes(int layer) const {
    size_t n = 0;
    for_each_store(size_t(layer),
                   [&](const KvStore& s, Backend& backend) { n += backend.kv_bytes(s.spec); });
    return n;
}

// ---- views ----

KvView KvPool::last_view(bool sliding) const {
    KvView view;
    for (size_t l = 0; l < stores_.size(); l++)
        if (stores_[l].buffer && sliding_[l] == sliding) view = view_of(stores_[l], int(l));
    return view;
}

KvView KvPool::last_view_on(Backend& backend, bool sliding) const {
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

void KvPool::add_replicas(Backend& backend) {
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
}

void KvPool::drop_replicas() {
    if (!replica_backend_) return;
    replicas_.clear();
    replica_backend_ = nullptr;
    buffers_.pop_back();  // the last one made
}

// ---- sequences ----

int KvPool::take_sequence() {
    if (!is_shared()) return 0;
    const ForkLock lock(mutex_);
    if (free_sequences_.empty())
        fail(Status::context_full, "all %d sequences of the batch are in use", n_sequences_);
    const int sequence = free_sequences_.back();
    free_sequences_.pop_back();
    return sequence;
}

void KvPool::give_back_sequence(int sequence) {
    const ForkLock lock(mutex_);
    if (is_shared()) free_sequences_.push_back(sequence);
}

std::vector<KvPool::Place> KvPool::places_of(int layer) const {
    std::vector<Place> places;
    for_each_store(size_t(layer),
                   [&](const KvStore& s, Backend& backend) { places.push_back({&backend, &s}); });
    return places;
}

std::vector<KvSnapshots::Ring> KvPool::rings_of(int sequence) const {
    std::vector<KvSnapshots::Ring> rings;
    for (size_t l = 0; l < stores_.size(); l++) {
        if (!rings_[l]) continue;
        for_each_store(l, [&](const KvStore& s, Backend& backend) {
            const size_t bytes = backend.kv_bytes(s.spec) / size_t(is_shared() ? n_sequences_ : 1);
            rings.push_back(
                {int(l), &backend, s.buffer, s.offset + bytes * size_t(sequence), bytes});
        });
    }
    return rings;
}

// ---- pages ----

int KvPool::n_free_pages() const {
    const ForkLock lock(mutex_);
    return int(free_.size());
}

void KvPool::share_page(int page) {
    const ForkLock lock(mutex_);
    page_users_[size_t(page)]++;
}

bool KvPool::has_one_user(int page) const {
    const ForkLock lock(mutex_);
    return page_users_[size_t(page)] == 1;
}

int KvPool::take_page() {
    const ForkLock lock(mutex_);
    if (free_.empty())
        fail(Status::context_full,
             "the cache of the batch is full: all of its %d pages of %d positions are in use",
             n_pages(), kPage);
    const int page = free_.back();
    free_.pop_back();
    page_users_[size_t(page)] = 1;
    return page;
}

void KvPool::give_back_page(int page) {
    const ForkLock lock(mutex_);
    if (--page_users_[size_t(page)] == 0) free_.push_back(page);
}

void KvPool::copy_page(int from, int to) {
    std::vector<uint8_t> bytes;
    for (size_t l = 0; l < stores_.size(); l++) {
        if (rings_[l]) continue;
        for_each_store(l, [&](const KvStore& s, Backend& backend) {
            bytes.resize(backend.kv_bytes(s.spec.one_page()));
            const size_t a = s.offset + bytes.size() * size_t(from),
                         b = s.offset + bytes.size() * size_t(to);
            backend.read(*s.buffer, a, bytes.size(), bytes.data())
                .value_or_throw("page of the cache");
            backend.write(bytes.data(), bytes.size(), *s.buffer, b)
                .value_or_throw("page of the cache");
        });
    }
}

}  // namespace pillion
