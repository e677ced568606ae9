// Keys and values of one sequence: a store per layer that owns a cache. Full layers append; sliding layers keep a ring of the window
// and the most rows one run may write, so that stepping back within the last run only lowers a counter: the slots that the dropped
// rows overwrote had left every window before.
#pragma once
#include <memory>
#include <vector>

#include "core/backend.h"
#include "model/hparams.h"

namespace pillion {

// A read-only loan of one layer's rows, for layers and drafters that have no cache of their own.
struct KvView {
    KvStore store;
    int layer = -1;
    bool sliding = false;
};

class KvCache {
  public:
    KvCache(const HParams& hp, Backend& backend, KvType type, int n_ctx, int rows_per_run, bool swa_full);

    const KvStore* stores() const { return stores_.data(); }    // by layer; those of owning layers are set
    // The last owning layer of a kind: what a Gemma 4 drafter attends to.
    KvView last_view(bool sliding) const;
    size_t bytes() const { return buffer_->size(); }
    bool is_ring(int layer) const { return rings_[size_t(layer)]; }
    bool is_sliding(int layer) const { return sliding_[size_t(layer)]; }

    int length() const { return length_; }
    // Rows [length, length + rows) are about to be written, and were written.
    void begin_write(int rows);
    void end_write(int rows) { length_ += rows; }
    // True when the rows that position `length` would look at are all still there.
    bool can_rewind(int length) const;
    void rewind(int length) { length_ = length; }    // can_rewind(length) must hold
    void clear() { length_ = 0, high_ = 0; }

  private:
    std::vector<KvStore> stores_;
    std::vector<bool> sliding_, rings_;
    std::unique_ptr<Buffer> buffer_;
    int window_;
    int ring_capacity_ = 0;    // smallest ring; 0: none
    int length_ = 0;           // positions held
    int high_ = 0;             // one past the highest position ever written since clear()
};

}  // namespace pillion
