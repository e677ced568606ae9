// Keys and values of one sequence: a store per layer that owns a cache. Full layers append; sliding
// layers keep a ring of the window and the most rows one run may write, so that stepping back
// within the last run only lowers a counter: the slots that the dropped rows overwrote had left
// every window before.
//
// Where the layers lie on two devices, those that read a cache of the other one have a copy of it
// (a device copy); a drafter on a third place has copies of the two it reads (replicas). All are
// written in the same runs and share the counters.
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

// A read-only loan of one layer's rows, for layers and drafters that have no cache of their own.
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

    // Of a layer's own cache; without heads where it owns none.
    const KvSpec& spec(int layer) const { return stores_[size_t(layer)].spec; }
    // Pointers into this cache, good until replicas come or go.
    KvPlaces places() const {
        const auto rows = [](const std::vector<KvStore>& v) {
            return v.empty() ? nullptr : v.data();
        };
        return {stores_.data(), rows(device_copies_), rows(replicas_)};
    }
    // The last owning layer of a kind: what a Gemma 4 drafter attends to.
    KvView last_view(bool sliding) const;
    // The same as `backend` can read it: its own, one that it reads in place, a copy. Its store has
    // no buffer when there is none yet.
    KvView last_view_on(Backend& backend, bool sliding) const;
    // Makes the copies that last_view_on needs; the rows held so far are not in them. One device at
    // most has replicas.
    void add_replicas(Backend& backend);
    void drop_replicas();
    bool has_replicas_on(const Backend& backend) const { return replica_backend_ == &backend; }
    Backend* replica_backend() const { return replica_backend_; }
    size_t bytes() const;  // without snapshots
    const KvSnapshots& snapshots() const { return snapshots_; }
    size_t layer_bytes(int layer) const;  // with copies
    bool is_ring(int layer) const { return rings_[size_t(layer)]; }
    bool is_sliding(int layer) const { return sliding_[size_t(layer)]; }

    int length() const { return length_; }
    // Rows [length, length + rows) are about to be written, and were written. begin_write may copy
    // rings first; it throws what a device says to that, and nothing has changed then.
    void begin_write(int rows);
    void end_write(int rows) { length_ += rows; }
    // True when the rows that position `length` would look at are all still there.
    bool can_rewind(int length) const {
        return length == 0 || (length <= length_ && length >= low(high_));
    }
    void rewind(int length);  // can_rewind(length) must hold
    // The text comes back to `end` or somewhat before it: both are to stay reachable. They may lie
    // ahead.
    void expect(int end) {
        snapshots_.want(std::max({0, end - slack() / 2, end > length_ ? 0 : low(high_)}), end);
    }
    // Exactly here.
    void expect_at(int length) { snapshots_.want(length, length); }
    // The furthest length, at most `length`, that can be had without a run; go_back goes there.
    // Throws what a device says; the cache is empty then.
    int nearest(int length) const;
    void go_back(int length);
    void clear();

  private:
    KvView view_of(const KvStore& store, int layer) const {
        return {store, layer, sliding_[size_t(layer)]};
    }
    void allocate(std::vector<KvStore>& stores, Backend& backend, const char* what);
    void list_rings();
    // The least length whose window the rings hold when `high` is one past the highest position
    // written.
    int low(int high) const {
        return ring_capacity_ == 0 || high <= ring_capacity_ ? 0 : high - slack();
    }
    // Lengths that the rings serve, behind the newest.
    int slack() const { return ring_capacity_ - (window_ - 1); }

    Placement placement_;
    Backend* replica_backend_ = nullptr;
    std::vector<KvStore> stores_, device_copies_,
        replicas_;  // by layer; device_copies and replicas are empty without any
    std::vector<bool> sliding_, rings_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    KvSnapshots snapshots_;
    int window_;
    int ring_capacity_ = 0;  // smallest ring; 0: none
    int length_ = 0;         // positions held
    int high_ = 0;           // one past the highest position ever written since clear()
};

}  // namespace pillion
