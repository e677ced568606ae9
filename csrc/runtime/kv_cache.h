// Keys and values of one sequence: one store for each layer that owns a cache. Full layers append.
// Sliding layers keep a ring of the window plus the most rows that one run may write. Stepping back
// within the last run therefore only lowers a counter: the slots that the dropped rows overwrote
// had already left every window.
//
// If the layers lie on two devices, a layer that reads the other device's cache reads a copy of it
// (a device copy). A drafter on a third device has copies of the two caches that it reads
// (replicas). Every run writes all copies, and they share the counters.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "core/backend.h"
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

class KvCache {
  public:
    // n_snapshots: as in KvSnapshots.
    KvCache(const HParams& hp, const Placement& placement, KvType type, int n_ctx, int rows_per_run,
            bool swa_full, int n_snapshots);

    // The layer's own cache; without heads if it owns none.
    const KvSpec& spec(int layer) const { return stores_[size_t(layer)].spec; }
    // Pointers into this cache. They are valid until replicas are added or dropped.
    KvPlaces places() const {
        const auto rows = [](const std::vector<KvStore>& v) {
            return v.empty() ? nullptr : v.data();
        };
        return {stores_.data(), rows(device_copies_), rows(replicas_)};
    }
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
    Backend* replica_backend() const { return replica_backend_; }
    size_t bytes() const;  // without snapshots
    const KvSnapshots& snapshots() const { return snapshots_; }
    KvSnapshots& snapshots() { return snapshots_; }
    // The cache of a layer that owns one, then its copies on other devices.
    struct Place {
        Backend* backend;
        const KvStore* store;
    };
    std::vector<Place> places_of(int layer) const;
    size_t layer_bytes(int layer) const;  // with copies
    bool is_ring(int layer) const { return rings_[size_t(layer)]; }
    bool is_sliding(int layer) const { return sliding_[size_t(layer)]; }

    int length() const { return length_; }
    // begin_write: rows [length, length + rows) are about to be written. end_write: they are
    // written. begin_write may copy rings first. It throws the device's error, and then nothing has
    // changed.
    void begin_write(int rows);
    void end_write(int rows) { length_ += rows; }
    // True if every row that position `length` looks at is still there.
    bool can_rewind(int length) const {
        return length == 0 || (length <= length_ && length >= low(high_));
    }
    void rewind(int length);  // requires can_rewind(length)
    // Announces that the text will come back to `end` or a few positions before it; both stay
    // reachable. They may lie ahead.
    void expect(int end) {
        snapshots_.want(std::max({0, end - slack() / 2, end > length_ ? 0 : low(high_)}), end);
    }
    // As expect(), for exactly this length.
    void expect_at(int length) { snapshots_.want(length, length); }
    // nearest: the largest length, at most `length`, that is reachable without a run. go_back
    // rewinds to it. Throws the device's error; the cache is then empty.
    int nearest(int length) const;
    void go_back(int length);
    void clear();

    // What a saved state (saved_state.h) copies, in whole blocks of KV_BLOCK positions. Full layers
    // have the rows of all positions. Sliding layers have those from first_held() on; first_row()
    // is the same for any ring, or copy of one, whose highest written position was high - 1.
    int first_held() const;
    static int first_row(int capacity, int high, int length);
    // From which row on the sliding layers of this cache can take the rows [first, length).
    int first_taken(int first, int length) const;
    // What `high` is if the rings hold the rows [first, length) and nothing before.
    int high_for(int first, int length) const {
        return first > 0 ? first + ring_capacity_ : length;
    }
    bool has_rings() const { return ring_capacity_ > 0; }
    int window() const { return window_; }
    // These rows are there now; the cache was empty.
    void set_held(int first, int length);

  private:
    KvView view_of(const KvStore& store, int layer) const {
        return {store, layer, sliding_[size_t(layer)]};
    }
    void allocate(std::vector<KvStore>& stores, Backend& backend, const char* what);
    void list_rings();
    // The least length whose window the rings hold, if `high` is one past the highest position
    // written.
    int low(int high) const {
        if (ring_capacity_ == 0) return least_;
        return high <= ring_capacity_ ? 0 : high - slack();
    }
    // How far back from the newest length the rings reach.
    int slack() const { return ring_capacity_ - (window_ - 1); }

    Placement placement_;
    Backend* replica_backend_ = nullptr;
    // By layer; device_copies_ and replicas_ are empty without copies.
    std::vector<KvStore> stores_, device_copies_, replicas_;
    std::vector<bool> sliding_, rings_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    KvSnapshots snapshots_;
    int window_;
    int ring_capacity_ = 0;  // smallest ring; 0: no rings
    int length_ = 0;         // positions held
    int high_ = 0;           // one past the highest position ever written since clear()
    int least_ = 0;          // low() without rings: above 0 for a text that a ring had held
};

}  // namespace pillion
