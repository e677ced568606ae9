#include "runtime/kv_cache.h"

namespace pillion {

namespace {

constexpr int kPage = KvPool::kPage;

size_t pages_for(int length) { return size_t((length + kPage - 1) / kPage); }

}  // namespace

KvCache::KvCache(std::shared_ptr<KvPool> pool, int window, int n_snapshots)
    : pool_(std::move(pool)), sequence_(pool_->take_sequence()), snapshots_(n_snapshots),
      window_(window) {
    replicas_changed();
}

KvCache::~KvCache() {
    give_back_pages(0);
    pool_->give_back_sequence(sequence_);
}

int KvCache::pages_needed(int rows) const {
    if (!pool_->is_shared() || rows == 0) return 0;
    const size_t n = pages_for(length_ + rows), first = size_t(length_ / kPage);
    int needed = int(n > pages_.size() ? n - pages_.size() : 0);
    for (size_t i = first; i < std::min(n, pages_.size()); i++)
        needed += !pool_->has_one_user(pages_[i]);
    return needed;
}

// The rows get pages that no other sequence reads. A page that others read, too, is copied if it
// holds rows of this sequence.
void KvCache::take_pages(int rows) {
    const size_t n = pages_for(length_ + rows);
    for (size_t i = size_t(length_ / kPage); i < n; i++) {
        const bool is_new = i == pages_.size();
        if (!is_new && pool_->has_one_user(pages_[i])) continue;
        const int page = pool_->take_page();
        if (is_new) {
            pages_.push_back(page);
        } else {
            try {
                if (int(i) * kPage < length_) pool_->copy_page(pages_[i], page);
            } catch (...) {
                pool_->give_back_page(page);
                throw;
            }
            pool_->give_back_page(pages_[i]);
            pages_[i] = page;
        }
        pool_->set_page(sequence_, int(i), page);
    }
}

void KvCache::give_back_pages(size_t kept) {
    for (; pages_.size() > kept; pages_.pop_back()) pool_->give_back_page(pages_.back());
}

void KvCache::begin_write(int rows) {
    if (pool_->is_shared()) take_pages(rows);
    const int high = std::max(high_, length_ + rows);
    snapshots_.before_write(low(high_), low(high), length_, high_);
    high_ = high;
}

void KvCache::rewind(int length) {
    if (length == 0) return clear();
    length_ = length;
    give_back_pages(pages_for(length));
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
    give_back_pages(0);
    snapshots_.clear();
}

// ---- a saved state ----

// The first of the rows [high - capacity, length) that a copy of whole blocks can begin with. The
// ring's oldest block may share its slots with the newest one: while that has no rows of the text,
// the oldest can be had as it is, else one begins behind it. The window before `length` is there
// either way, since a ring has at least a block more than that.
int KvCache::first_row(int capacity, int high, int length) {
    const int first = std::max(0, high - capacity);
    const bool shares = n_blocks(length) > first / KV_BLOCK + capacity / KV_BLOCK;
    return shares ? n_blocks(first) * KV_BLOCK : first;
}

int KvCache::first_held() const {
    const int ring = pool_->ring_capacity();
    if (ring == 0) return least_ > 0 ? least_ - (window_ - 1) : 0;
    return first_row(ring, high_, length_);
}

int KvCache::first_taken(int first, int length) const {
    const int ring = pool_->ring_capacity();
    return ring == 0 ? first : std::max(first, first_row(ring, length, length));
}

std::vector<KvCache::Place> KvCache::places_of(int layer) const {
    std::vector<Place> places;
    for (const auto& [backend, store] : pool_->places_of(layer)) {
        // A ring is one of n_sequences; pages of full layers are counted from the first.
        const size_t rings = size_t(pool_->is_ring(layer) ? pool_->n_sequences() : 1);
        const size_t bytes = backend->kv_bytes(store->spec) / rings;
        const size_t at = rings > 1 ? bytes * size_t(sequence_) : 0;
        places.push_back({backend, store->buffer, store->offset + at});
    }
    return places;
}

KvPages KvCache::pages_of(int layer) const {
    const auto [backend, store] = pool_->places_of(layer).front();
    const KvSpec page = store->spec.one_page();
    const bool is_listed = pool_->is_shared() && !pool_->is_ring(layer);
    return {page.capacity, store->span() / page.capacity, backend->kv_bytes(page),
            is_listed ? pages_.data() : nullptr};
}

void KvCache::make_room(int length) {
    PILLION_CHECK(length_ == 0 && high_ == 0);
    if (pool_->is_shared()) take_pages(length);
}

void KvCache::set_held(int first, int length) {
    PILLION_CHECK(first <= std::max(0, length - (window_ - 1)));
    length_ = length;
    const bool has_rings = pool_->ring_capacity() > 0;
    high_ = has_rings ? high_for(first, length) : length;
    if (!has_rings && first > 0) least_ = first + window_ - 1;
}

int KvCache::share(const KvCache& other, int length) {
    PILLION_CHECK(pool_ == other.pool_ && pool_->is_shared() && this != &other);
    clear();
    length = other.nearest(length);
    if (length == 0) return 0;
    const std::vector<KvSnapshots::Ring> rings = pool_->rings_of(sequence_);
    if (other.can_rewind(length)) {
        KvSnapshots::copy(pool_->rings_of(other.sequence_), rings);
        high_ = other.high_;
    } else {
        high_ = other.snapshots_.restore_to(length, rings);
    }
    for (size_t i = 0; i < pages_for(length); i++) {
        pages_.push_back(other.pages_[i]);
        pool_->share_page(pages_.back());
        pool_->set_page(sequence_, int(i), pages_.back());
    }
    length_ = length;
    return length;
}

}  // namespace pillion
