// Buffers of the CUDA backend: bytes that kernels reach, wherever they lie.
#pragma once
#include <vector>

#include "backends/cuda/device/runtime.h"
#include "core/backend.h"

namespace pillion::cuda {

class DeviceBuffer : public ::pillion::Buffer {
  public:
    using ::pillion::Buffer::Buffer;
    virtual uint8_t* device(size_t offset) const = 0;    // null: not placed, in a file that was opened for its sizes alone
};

inline uint8_t* device_of(const Tensor& t) { return static_cast<const DeviceBuffer*>(t.buffer)->device(t.offset); }
inline uint8_t* device_of(const KvStore& s) { return static_cast<const DeviceBuffer*>(s.buffer)->device(s.offset); }

// Kind `state` lies in host memory that the device reads and writes; everything else in the device's own.
class OwnBuffer final : public DeviceBuffer {
  public:
    OwnBuffer(size_t size, BufferKind kind, std::unique_ptr<Memory> memory) : DeviceBuffer(size, kind), memory_(std::move(memory)) {}
    uint8_t* host() const override { return memory_->host(); }
    uint8_t* device(size_t offset) const override { return memory_->device() + offset; }

  private:
    std::unique_ptr<Memory> memory_;
};

// A mapped file. Only what is placed is made readable for the device: page-locking all of it would hold the whole file in memory.
class FileBuffer final : public DeviceBuffer {
  public:
    FileBuffer(int device_index, uint8_t* bytes, size_t size)
        : DeviceBuffer(size, BufferKind::weights), index_(device_index), bytes_(bytes) {}
    uint8_t* host() const override { return bytes_; }
    uint8_t* device(size_t offset) const override;
    // Page-locks the bytes where they are, or a copy of them where the system does not allow that.
    Status place(size_t offset, size_t bytes, Reason& reason);

  private:
    struct Window {
        size_t offset, bytes;
        std::unique_ptr<Memory> memory;
    };
    int index_;
    uint8_t* bytes_;
    std::vector<Window> windows_;
};

}  // namespace pillion::cuda
