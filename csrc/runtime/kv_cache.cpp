#include "runtime/kv_cache.h"

#include <algorithm>

namespace pillion {
namespace {

int round_up(int64_t n) { return int((n + kKvCapacityUnit - 1) / kKvCapacityUnit * kKvCapacityUnit); }

}  // namespace

KvCache::KvCache(const HParams& hp, Backend& backend, KvType type, int n_ctx, int rows_per_run, bool swa_full)
    : stores_(hp.layers.size()), sliding_(hp.layers.size()), rings_(hp.layers.size()), window_(hp.window) {
    size_t total = 0;
    for (size_t l = 0; l < hp.layers.size(); l++) {
        const LayerParams& p = hp.layers[l];
        sliding_[l] = p.sliding;
        if (!p.owns_kv) continue;
        int capacity = round_up(n_ctx);
        const int ring = round_up(int64_t(hp.window) - 1 + rows_per_run);
        if (p.sliding && !swa_full && ring < capacity) {
            capacity = ring_capacity_ = ring;
            rings_[l] = true;
        }
        stores_[l].spec = {type, p.n_kv_heads, p.head_dim, capacity};
        stores_[l].offset = total;
        total += (backend.kv_bytes(stores_[l].spec) + 63) / 64 * 64;
    }
    Reason reason;
    if (const Status s = backend.allocate(total, BufferKind::kv, buffer_, reason); s != Status::ok)
        fail(s, "KV cache for n_ctx %d: %s", n_ctx, reason.text);
    for (KvStore& s : stores_)
        if (s.spec.capacity > 0) s.buffer = buffer_.get();
}

KvView KvCache::last_view(bool sliding) const {
    KvView view;
    for (size_t l = 0; l < stores_.size(); l++)
        if (stores_[l].buffer && sliding_[l] == sliding) view = {stores_[l], int(l), sliding};
    return view;
}

void KvCache::begin_write(int rows) { high_ = std::max(high_, length_ + rows); }

bool KvCache::can_rewind(int length) const {
    if (length > length_) return false;
    if (ring_capacity_ == 0) return true;
    // Position `length` sees window - 1 rows before it. Position p is overwritten by p + capacity.
    return std::max(0, length - (window_ - 1)) >= high_ - ring_capacity_ || length == 0;
}

}  // namespace pillion
