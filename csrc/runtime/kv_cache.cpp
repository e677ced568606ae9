#include "runtime/kv_cache.h"

namespace pillion {

namespace {

constexpr int kPage = KvPool::kPage;

size_t pages_of(int length) { return size_t((length + kPage - 1) / kPage); }

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
    const size_t n = pages_of(length_ + rows), first = size_t(length_ / kPage);
    int needed = int(n > pages_.size() ? n - pages_.size() : 0);
    for (size_t i = first; i < std::min(n, pages_.size()); i++)
        needed += !pool_->has_one_user(pages_[i]);
    return needed;
}

// The rows get pages that no other sequence reads. A page that others read, too, is copied if it
// holds rows of this sequence.
void KvCache::take_pages(int rows) {
    const size_t n = pages_of(length_ + rows);
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
    length_ = length;
    give_back_pages(pages_of(length));
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
    length_ = 0, high_ = 0;
    give_back_pages(0);
    snapshots_.clear();
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
    for (size_t i = 0; i < pages_of(length); i++) {
        pages_.push_back(other.pages_[i]);
        pool_->share_page(pages_.back());
        pool_->set_page(sequence_, int(i), pages_.back());
    }
    length_ = length;
    return length;
}

}  // namespace pillion
