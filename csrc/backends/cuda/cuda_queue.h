// A stream as a Queue.
#pragma once
#include "backends/cuda/cuda_import.h"
#include "backends/cuda/device/runtime.h"
#include "core/backend.h"

namespace pillion::cuda {

class CudaQueue final : public Queue {
  public:
    // n_threads: host threads for imports. Without a stream every use reports the reason.
    CudaQueue(int device_index, int n_threads, std::unique_ptr<Stream> stream, Status status,
              const Reason& reason)
        : index_(device_index), n_threads_(n_threads), stream_(std::move(stream)), status_(status),
          reason_(reason) {}
    int n_threads() const override { return n_threads_; }
    // Null with the reason.
    Stream* stream(Status& status, Reason& reason) {
        if (!stream_) status = status_, reason = reason_;
        else stream_->make_current();
        return stream_.get();
    }

    // The staging memory of imports; the first import makes it. Null with the reason.
    Staging* staging(Status& status, Reason& reason) {
        if (!staging_) staging_ = Staging::make(index_, status, reason);
        return staging_.get();
    }

  private:
    int index_, n_threads_;
    std::unique_ptr<Stream> stream_;
    Status status_;
    Reason reason_;
    std::unique_ptr<Staging> staging_;
};

}  // namespace pillion::cuda
