#include "runtime/queue_set.h"

namespace pillion {

Queue& QueueSet::of(Backend& backend) {
    const size_t n = n_.load();
    for (size_t i = 0; i < n; i++)
        if (entries_[i].backend == &backend) return *entries_[i].queue;
    PILLION_CHECK(n < kMost);
    entries_[n] = {&backend, backend.make_queue(n_threads_).value_or_throw("queue")};
    n_.store(n + 1);  // from here on set_cancel sees it
    return *entries_[n].queue;
}

bool QueueSet::has_device() const {
    for (size_t i = 0, n = n_.load(); i < n; i++)
        if (!entries_[i].backend->is_host()) return true;
    return false;
}

void QueueSet::set_cancel(bool cancel) {
    for (size_t i = 0, n = n_.load(); i < n; i++) entries_[i].queue->cancel.store(cancel);
}

}  // namespace pillion
