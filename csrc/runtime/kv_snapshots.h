// Copies of the sliding layers' rings, so that a way back to where the ring has moved on is a copy
// and not a run. Full layers keep all their rows and need none.
//
// A copy is taken as late as can be: a range of lengths is wanted (around a prompt's end, where the
// next turn of a chat comes back to), and the run that would make the first of them unreachable
// copies the ring before it writes. Short answers cost nothing.
//
// Whoever shortens the text says so (clip): what follows the cut belongs to other tokens, in a copy
// as in the ring.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "core/backend.h"

namespace pillion {

class KvSnapshots {
  public:
    // A layer's ring, or a copy of it on another device.
    struct Ring {
        Backend* backend;
        Buffer* buffer;
        size_t offset, bytes;
    };
    static constexpr int kMost = 256;  // that may be asked for

    // wanted: 0: as many as kDefaultBytes hold, at least one and at most kDefaultMost; -1: none.
    explicit KvSnapshots(int wanted) : wanted_(wanted) {}
    void set_rings(std::vector<Ring> rings);  // forgets all

    int count() const { return count_; }  // that there may be
    // Of so many; a copy takes its memory when it is first made.
    size_t bytes() const { return size_t(count_) * ring_bytes_; }

    // Lengths [from, to] shall stay reachable; they may lie ahead.
    void want(int from, int to);
    // A run is about to write. `low`: the least length the rings serve now, low_after: after it;
    // length and high: of the cache.
    void before_write(int low, int low_after, int length, int high);
    // Positions from `length` on are dropped.
    void clip(int length);
    void clear();
    // The furthest length, at most `length`, that a copy serves; -1: none does.
    int nearest(int length) const;
    // Puts the ring of nearest(length) back. Returns the `high` it was copied at. Throws what the
    // device says.
    int restore(int length);

  private:
    static constexpr size_t kDefaultBytes = size_t(128) << 20;
    static constexpr int kDefaultMost = 4;

    struct Range {
        int from, to;
        bool holds(const Range& r) const { return from <= r.from && r.to <= to; }
        bool empty() const { return from > to; }
    };
    struct Copy {
        Range lengths = {0, -1};  // that it serves
        int high = 0;
        uint64_t used = 0;
        std::unique_ptr<uint8_t[]> bytes;
    };
    void save(const Range& lengths, int high);
    Copy* place_for(const Range& lengths);
    const Copy* best(int length) const;

    int wanted_, count_ = 0;
    size_t ring_bytes_ = 0;
    std::vector<Ring> rings_;
    std::vector<Range> wants_;
    std::vector<Copy> copies_;
    uint64_t clock_ = 0;
};

}  // namespace pillion
