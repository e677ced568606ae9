// The queues of a context: one for each backend that it runs or copies on.
#pragma once
#include <atomic>
#include <memory>

#include "core/backend.h"

namespace pillion {

class QueueSet {
  public:
    explicit QueueSet(int n_threads) : n_threads_(n_threads) {}

    Queue& of(Backend& backend);   // made when first asked for
    bool has_device() const;       // one that is not the host's
    void set_cancel(bool cancel);  // any thread

  private:
    struct Entry {
        Backend* backend;
        std::unique_ptr<Queue> queue;
    };
    static constexpr size_t kMost = 4;
    int n_threads_;
    Entry entries_[kMost];
    std::atomic<size_t> n_{0};
};

}  // namespace pillion
