// The stores of keys and values that one sequence has for itself, or that the sequences of a batch
// share. There is a store for each layer that owns a cache. Full layers append. Sliding layers keep
// a ring of the window plus the most rows that one run may write.
//
// Shared stores have pages. Full layers take pages from the pool as a sequence grows; a page number
// spans all full layers. Pages are counted, so sequences with the same beginning share them. Each
// sequence has a ring of its own: only its window could be shared, and a copy of that takes a
// millisecond.
//
// If the layers lie on two devices, a layer that reads the other device's cache reads a copy of it
// (a device copy). A drafter on a third device has copies of the two caches that it reads
// (replicas). Every run writes all copies, and they have the same pages.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/fork.h"
#include "model/hparams.h"
#include "model/kv_places.h"
#include "model/placement.h"
#include "runtime/kv_snapshots.h"

namespace pillion {

// Read-only access to one layer's rows, for layers and drafters without their own cache.
struct KvView {
    KvStore store;
    int layer = -1;
    bool sliding = false;
};

struct KvPoolOptions {
    KvType type = KvType::f16;
    int n_ctx = 0;  // most positions of a sequence
    int rows_per_run = 0;
    bool swa_full = false;  // sliding layers keep all positions, as full ones
    int n_sequences = 0;    // 0: one sequence, stores without pages
    int n_pages = 0;        // of the full layers
};

class KvPool {
  public:
    KvPool(const HParams& hp, const Placement& placement, const KvPoolOptions& options);

    // The layer's own cache; without heads if it owns none.
    const KvSpec& spec(int layer) const { return stores_[size_t(layer)].spec; }
    // Positions of a sequence that the layer's cache can hold at a time.
    int span(int layer) const { return stores_[size_t(layer)].span(); }
    bool is_ring(int layer) const { return rings_[size_t(layer)]; }
    bool is_sliding(int layer) const { return sliding_[size_t(layer)]; }
    int ring_capacity() const { return ring_capacity_; }  // smallest ring; 0: no rings
    // Pointers into this pool. They are valid until replicas are added or dropped.
    KvPlaces places() const;
    size_t bytes() const;
    size_t layer_bytes(int layer) const;  // with copies

    // The last layer of a kind that owns a cache: a Gemma 4 drafter attends to it (docs/gemma4.md
    // section 3).
    KvView last_view(bool sliding) const;
    // The same rows where `backend` can read them: its own store, one that it reads in place, or a
    // copy. The store has no buffer if add_replicas() has yet to make it.
    KvView last_view_on(Backend& backend, bool sliding) const;
    // Makes the copies that last_view_on needs. They do not contain the rows held so far. At most
    // one device has replicas.
    void add_replicas(Backend& backend);
    void drop_replicas();
    bool has_replicas_on(const Backend& backend) const { return replica_backend_ == &backend; }

    // --- sequences ---

    bool is_shared() const { return n_sequences_ > 0; }
    // A row of the tables, with a ring. Throws Error{context_full} if all are taken.
    int take_sequence();
    void give_back_sequence(int sequence);
    // The layer's own store, then its copies on other devices.
    struct Place {
        Backend* backend;
        const KvStore* store;
    };
    std::vector<Place> places_of(int layer) const;
    int n_sequences() const { return std::max(1, n_sequences_); }
    // Everything that a rewind must restore: the sequence's rings and their copies elsewhere.
    std::vector<KvSnapshots::Ring> rings_of(int sequence) const;

    // --- pages of the full layers; only of a shared pool ---

    static constexpr int kPage = 256;  // positions
    int n_pages() const { return int(page_users_.size()); }
    int n_free_pages() const;
    // A page with one user; throws Error{context_full} if there is none.
    int take_page();
    void share_page(int page);
    void give_back_page(int page);
    bool has_one_user(int page) const;
    void copy_page(int from, int to);  // throws the device's error
    // Position p of the sequence lies in the page set for entry p / kPage.
    void set_page(int sequence, int entry, int page) { row(sequence)[entry] = page; }

  private:
    KvView view_of(const KvStore& store, int layer) const {
        return {store, layer, sliding_[size_t(layer)]};
    }
    void allocate(std::vector<KvStore>& stores, Backend& backend, const char* what);
    void make_tables(int n_ctx);
    int32_t* row(int sequence) {
        return reinterpret_cast<int32_t*>(table_->host()) + int64_t(sequence) * stride_;
    }
    template <class F>
    void for_each_store(size_t layer, F&& body) const;

    Placement placement_;
    Backend* replica_backend_ = nullptr;
    // By layer; device_copies_ and replicas_ are empty without copies.
    std::vector<KvStore> stores_, device_copies_, replicas_;
    std::vector<bool> sliding_, rings_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    int ring_capacity_ = 0;

    int n_sequences_ = 0;
    // i32 [n_sequences][stride_]: pages of the full layers, then those of the ring
    std::unique_ptr<Buffer> table_;
    int stride_ = 0, full_entries_ = 0;
    // A context may be freed while another thread runs others of its batch.
    mutable ForkMutex mutex_;
    std::vector<int> free_sequences_;
    std::vector<int> page_users_;
    std::vector<int> free_;  // the last one given back goes out first: its memory is warm
};

}  // namespace pillion
