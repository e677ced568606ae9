// A stream as a Queue.
#pragma once
#include "backends/cuda/cuda_import.h"
#include "backends/cuda/device/runtime.h"
#include "core/backend.h"

namespace pillion::cuda {

class CudaQueue final : public Queue {
  public:
    // n_threads: host threads for imports. Without a stream every use returns its failure.
    CudaQueue(int device_index, int n_threads, Result<std::unique_ptr<Stream>> stream)
        : index_(device_index), n_threads_(n_threads), stream_(std::move(stream)) {}
    int n_threads() const override { return n_threads_; }
    Result<Stream*> stream() {
        if (!stream_) return stream_.failure();
        (*stream_)->make_current();
        return stream_->get();
    }

    // The staging memory of imports; the first import makes it.
    Result<Staging*> staging() {
        if (staging_) return staging_.get();
        Result<std::unique_ptr<Staging>> made = Staging::make(index_);
        if (!made) return made.failure();
        staging_ = std::move(*made);
        return staging_.get();
    }

  private:
    int index_, n_threads_;
    Result<std::unique_ptr<Stream>> stream_;
    std::unique_ptr<Staging> staging_;
};

}  // namespace pillion::cuda
