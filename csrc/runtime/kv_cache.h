// Keys and values of one sequence, in a pool (kv_pool.h) of its own or of a batch. Stepping back
// within the last run only lowers a counter: the slots of a ring that the dropped rows overwrote
// had already left every window.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/kv_blocks.h"
#include "runtime/kv_pool.h"

namespace pillion {

class KvCache {
  public:
    // n_snapshots: as in KvSnapshots. Throws Error{context_full} if the pool has no sequence left.
    KvCache(std::shared_ptr<KvPool> pool, int window, int n_snapshots);
    ~KvCache();
    KvCache(const KvCache&) = delete;
    KvCache& operator=(const KvCache&) = delete;

    KvPool& pool() const { return *pool_; }
    int sequence() const { return sequence_; }  // its row of the pool's tables
    const KvSnapshots& snapshots() const { return snapshots_; }
    KvSnapshots& snapshots() { return snapshots_; }
    // The pool's copies were added or dropped: snapshots must hold them too.
    void replicas_changed() { snapshots_.set_rings(pool_->rings_of(sequence_)); }

    int length() const { return length_; }
    // begin_write: rows [length, length + rows) are about to be written. end_write: they are
    // written. begin_write may take pages and copy rings first. It throws the device's error, or
    // Error{context_full} if the pool has no page left, and then no row has changed.
    void begin_write(int rows);
    void end_write(int rows) { length_ += rows; }
    // Pages that begin_write(rows) would take from the pool.
    int pages_needed(int rows) const;
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
    // Holds the first nearest(length) positions of `other`, a sequence of the same pool, and
    // returns that length. Full pages are shared. Throws the device's error; the cache is then
    // empty.
    int share(const KvCache& other, int length);

    // ---- a saved state (saved_state.h) ----
    // It has whole blocks of KV_BLOCK positions. Full layers have the rows of all positions.
    // Sliding layers have those from first_held() on; first_row() is the same for any ring, or copy
    // of one, whose highest written position was high - 1.
    int first_held() const;
    static int first_row(int capacity, int high, int length);
    // From which row on the sliding layers of this cache can take the rows [first, length).
    int first_taken(int first, int length) const;
    // What `high` is if the rings hold the rows [first, length) and nothing before.
    int high_for(int first, int length) const {
        return first > 0 ? first + pool_->ring_capacity() : length;
    }
    int window() const { return window_; }
    // The sequence's rows of a layer: where its pages begin on each device, and how they follow.
    struct Place {
        Backend* backend;
        Buffer* buffer;
        size_t offset;
    };
    std::vector<Place> places_of(int layer) const;
    KvPages pages_of(int layer) const;
    // Pages for so many rows, in an empty cache; then the rows [first, length) are there.
    void make_room(int length);
    void set_held(int first, int length);

  private:
    // The least length whose window the rings hold, if `high` is one past the highest position
    // written.
    int low(int high) const {
        if (pool_->ring_capacity() == 0) return least_;
        return high <= pool_->ring_capacity() ? 0 : high - slack();
    }
    // How far back from the newest length the rings reach.
    int slack() const { return pool_->ring_capacity() - (window_ - 1); }
    void take_pages(int rows);
    void give_back_pages(size_t kept);

    std::shared_ptr<KvPool> pool_;
    int sequence_;
    KvSnapshots snapshots_;
    int window_;
    int length_ = 0;          // positions held
    int high_ = 0;            // one past the highest position ever written since clear()
    int least_ = 0;           // low() without rings: above 0 for a text that a ring had held
    std::vector<int> pages_;  // of a shared pool, by position / KvPool::kPage
};

}  // namespace pillion
