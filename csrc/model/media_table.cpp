#include "model/media_table.h"

#include "core/error.h"

namespace pillion {

int32_t MediaTable::add(const MediumDigest& digest, const float* rows, size_t n_rows,
                        bool is_block) {
    if (n_rows == 0) fail(Status::invalid_argument, "a medium has at least one row, not 0");
    std::shared_ptr<const std::vector<float>> copy;
    if (rows) copy = std::make_shared<std::vector<float>>(rows, rows + n_rows * size_t(n_embd_));
    const ForkLock lock(mutex_);
    if (const auto known = lowest_.find(digest); known != lowest_.end()) {
        Medium& m = media_.at(known->second);
        if (size_t(m.n_rows) != n_rows || m.is_block != is_block)
            fail(Status::invalid_argument,
                 "a medium with this digest has %d rows%s, not %zu%s: a digest must tell media "
                 "apart",
                 m.n_rows, m.is_block ? " that see one another" : "", n_rows,
                 is_block ? " that do" : "");
        if (copy) m.rows = std::move(copy);
        return m.first;
    }
    if (n_rows > size_t(int64_t(next_) - INT32_MIN))
        fail(Status::out_of_memory,
             "%zu rows: the model has no ids left for them, %lld are taken. Open it again", n_rows,
             -1 - static_cast<long long>(next_));
    const Medium m = {next_, int32_t(n_rows), is_block, digest, std::move(copy)};
    const int32_t lowest = m.first - m.n_rows + 1;
    media_[lowest] = m;
    lowest_[digest] = lowest;
    next_ = lowest - 1;
    return m.first;
}

bool MediaTable::drop(int32_t first) {
    const ForkLock lock(mutex_);
    Medium* m = at(first);
    if (!m || m->first != first) return false;
    m->rows.reset();
    return true;
}

Medium MediaTable::find(int32_t id) const {
    const ForkLock lock(mutex_);
    const Medium* m = const_cast<MediaTable*>(this)->at(id);
    return m ? *m : Medium();
}

// The last medium whose lowest id is not above `id`, if it reaches up to `id`.
Medium* MediaTable::at(int32_t id) {
    auto found = media_.upper_bound(id);
    if (found == media_.begin()) return nullptr;
    --found;
    return id <= found->second.first ? &found->second : nullptr;
}

size_t MediaTable::bytes() const {
    const ForkLock lock(mutex_);
    size_t n = 0;
    for (const auto& [lowest, m] : media_)
        if (m.rows) n += m.rows->size() * sizeof(float);
    return n;
}

}  // namespace pillion
