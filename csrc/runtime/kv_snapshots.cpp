#include "runtime/kv_snapshots.h"

#include <string.h>

#include <algorithm>
#include <new>

#include "core/log.h"

namespace pillion {

void KvSnapshots::set_rings(std::vector<Ring> rings) {
    rings_ = std::move(rings);
    ring_bytes_ = 0;
    for (const Ring& r : rings_) ring_bytes_ += r.bytes;
    copies_.clear(), wants_.clear();
    count_ = std::max(0, wanted_);
    if (wanted_ == 0 && ring_bytes_ > 0)
        count_ = std::clamp(int(kDefaultBytes / ring_bytes_), 1, kDefaultMost);
    if (ring_bytes_ == 0) count_ = 0;
}

void KvSnapshots::clear() {
    wants_.clear();
    for (Copy& c : copies_) c.lengths = {0, -1};
}

void KvSnapshots::clip(int length) {
    for (Copy& c : copies_) c.lengths.to = std::min(c.lengths.to, length);
    for (Range& w : wants_) w.to = std::min(w.to, length);
    wants_.erase(std::remove_if(wants_.begin(), wants_.end(),
                                [](const Range& w) { return w.empty(); }),
                 wants_.end());
}

void KvSnapshots::want(int from, int to) {
    const Range range = {from, to};
    if (count_ == 0 || range.empty()) return;
    for (const Range& w : wants_)
        if (w.holds(range)) return;
    for (const Copy& c : copies_)
        if (c.lengths.holds(range)) return;
    wants_.push_back(range);
}

void KvSnapshots::before_write(int low, int low_after, int length, int high) {
    if (wants_.empty() || low_after == low) return;
    const auto lost = std::partition(wants_.begin(), wants_.end(), [&](const Range& w) {
        return w.from >= low_after || w.from > length;
    });
    const bool save_now = std::any_of(lost, wants_.end(), [&](const Range& w) {
        const Range rest = {std::max(w.from, low), std::min(w.to, length)};
        return !rest.empty() && std::none_of(copies_.begin(), copies_.end(),
                                             [&](const Copy& c) { return c.lengths.holds(rest); });
    });
    wants_.erase(lost, wants_.end());
    if (save_now) save({low, length}, high);
}

// Returns a copy that the new one makes useless, else an unused place, else the copy that went
// unused longest.
KvSnapshots::Copy* KvSnapshots::place_for(const Range& lengths) {
    for (Copy& c : copies_)
        if (c.lengths.empty() || lengths.holds(c.lengths)) return &c;
    if (copies_.size() < size_t(count_)) return &copies_.emplace_back();
    return &*std::min_element(copies_.begin(), copies_.end(),
                              [](const Copy& a, const Copy& b) { return a.used < b.used; });
}

// A place with memory; null, and a warning, without.
KvSnapshots::Copy* KvSnapshots::empty_copy(const Range& lengths) {
    Copy& c = *place_for(lengths);
    c.lengths = {0, -1};
    if (!c.bytes) c.bytes.reset(new (std::nothrow) uint8_t[ring_bytes_]);
    if (c.bytes) return &c;
    log(LogLevel::warning,
        "no memory for a copy of the sliding caches (%zu bytes): a way back to %d tokens runs them "
        "again",
        ring_bytes_, lengths.to);
    return nullptr;
}

std::vector<KvSnapshots::View> KvSnapshots::copies() const {
    std::vector<const Copy*> used;
    for (const Copy& c : copies_)
        if (!c.lengths.empty()) used.push_back(&c);
    std::sort(used.begin(), used.end(),
              [](const Copy* a, const Copy* b) { return a->used < b->used; });
    std::vector<View> views;
    for (const Copy* c : used) views.push_back({c->lengths.to, c->high, c->bytes.get()});
    return views;
}

uint8_t* KvSnapshots::add(int from, int to, int high) {
    const Range lengths = {from, to};
    Copy* const c = count_ > 0 ? empty_copy(lengths) : nullptr;
    if (!c) return nullptr;
    memset(c->bytes.get(), 0, ring_bytes_);
    c->lengths = lengths, c->high = high, c->used = ++clock_;
    return c->bytes.get();
}

void KvSnapshots::save(const Range& lengths, int high) {
    Copy* const made = empty_copy(lengths);
    if (!made) return;
    Copy& c = *made;
    uint8_t* at = c.bytes.get();
    for (const Ring& r : rings_) {
        r.backend->read(*r.buffer, r.offset, r.bytes, at)
            .value_or_throw("copy of the sliding caches");
        at += r.bytes;
    }
    c.lengths = lengths, c.high = high, c.used = ++clock_;
}

const KvSnapshots::Copy* KvSnapshots::best(int length) const {
    const Copy* best = nullptr;
    for (const Copy& c : copies_) {
        if (c.lengths.empty() || c.lengths.from > length) continue;
        if (!best || std::min(c.lengths.to, length) > std::min(best->lengths.to, length)) best = &c;
    }
    return best;
}

int KvSnapshots::nearest(int length) const {
    const Copy* c = best(length);
    return c ? std::min(c->lengths.to, length) : -1;
}

int KvSnapshots::restore(int length) {
    const_cast<Copy*>(best(length))->used = ++clock_;
    return restore_to(length, rings_);
}

int KvSnapshots::restore_to(int length, const std::vector<Ring>& rings) const {
    const Copy& c = *best(length);
    const uint8_t* at = c.bytes.get();
    for (const Ring& r : rings) {
        r.backend->write(at, r.bytes, *r.buffer, r.offset)
            .value_or_throw("sliding caches from their copy");
        at += r.bytes;
    }
    return c.high;
}

void KvSnapshots::copy(const std::vector<Ring>& from, const std::vector<Ring>& to) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < from.size(); i++) {
        const Ring &a = from[i], &b = to[i];
        bytes.resize(a.bytes);
        a.backend->read(*a.buffer, a.offset, a.bytes, bytes.data())
            .value_or_throw("sliding caches");
        b.backend->write(bytes.data(), b.bytes, *b.buffer, b.offset)
            .value_or_throw("sliding caches");
    }
}

}  // namespace pillion
