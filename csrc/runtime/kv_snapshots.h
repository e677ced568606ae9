// Copies of the sliding layers' rings. With a copy, going back to a length that the ring has left
// behind is a copy instead of a run. Full layers keep all their rows and need no copies.
//
// A copy is taken as late as possible. A caller wants a range of lengths: around a prompt's end,
// where the next turn of a chat comes back to. The run that would make the first of these lengths
// unreachable copies the ring before it writes. Short answers therefore cost nothing.
//
// Code that shortens the text calls clip(): the rows behind the cut belong to other tokens, in a
// copy as in the ring.
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
        int layer;
        Backend* backend;
        Buffer* buffer;
        size_t offset, bytes;
    };
    static constexpr int kMost = 256;  // most copies that a caller may ask for

    // wanted: number of copies. 0: as many as kDefaultBytes hold, 1 .. kDefaultMost; -1: no copies.
    explicit KvSnapshots(int wanted) : wanted_(wanted) {}
    void set_rings(std::vector<Ring> rings);  // drops all copies

    int count() const { return count_; }  // most copies
    // Bytes of all count() copies. A copy takes its memory when it is first made.
    size_t bytes() const { return size_t(count_) * ring_bytes_; }

    // Lengths [from, to] stay reachable from now on; they may lie ahead.
    void want(int from, int to);
    // Called before a run writes. low, low_after: least length that the rings serve before and
    // after the run; length and high: of the cache.
    void before_write(int low, int low_after, int length, int high);
    // A saved state (saved_state.h) has copies too. copies(): those in use, the one that went
    // unused longest first; their bytes are those of rings(), one behind the other. add() makes a
    // place for one that serves [from, to] and returns its zeroed bytes to fill; null: no room.
    struct View {
        int to, high;
        const uint8_t* bytes;
    };
    std::vector<View> copies() const;
    const std::vector<Ring>& rings() const { return rings_; }
    uint8_t* add(int from, int to, int high);
    // Drops positions >= length.
    void clip(int length);
    void clear();
    // The largest length, at most `length`, that a copy serves; -1: no copy does.
    int nearest(int length) const;
    // Copies the ring of nearest(length) back. Returns the `high` of the time when it was copied.
    // Throws the device's error.
    int restore(int length);
    // The same into other rings of the same sizes.
    int restore_to(int length, const std::vector<Ring>& rings) const;
    static void copy(const std::vector<Ring>& from, const std::vector<Ring>& to);

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
    Copy* empty_copy(const Range& lengths);
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
