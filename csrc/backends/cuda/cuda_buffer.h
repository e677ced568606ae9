// Buffers of the CUDA backend: bytes that kernels reach, in any kind of memory.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "backends/cuda/cuda_arena.h"
#include "core/backend.h"

namespace pillion::cuda {

class DeviceBuffer : public ::pillion::Buffer {
  public:
    using ::pillion::Buffer::Buffer;
    // null: not placed; the file was opened only for its sizes
    virtual uint8_t* device(size_t offset) const = 0;
    // The byte's address for the host at this time; null if the host may not touch it.
    virtual uint8_t* host_now(size_t offset) const { return host() ? host() + offset : nullptr; }
    // Called before the first launch that reads it.
    virtual void give_to_device(Stream&) {}
};

inline uint8_t* device_of(const Tensor& t) {
    return static_cast<const DeviceBuffer*>(t.buffer)->device(t.offset);
}
inline uint8_t* device_of(const KvStore& s) {
    return static_cast<const DeviceBuffer*>(s.buffer)->device(s.offset);
}

// Kind `state` lies in host memory that the device reads and writes; all other kinds lie in the
// device's own memory.
class OwnBuffer final : public DeviceBuffer {
  public:
    OwnBuffer(size_t size, BufferKind kind, std::unique_ptr<Allocation> allocation)
        : DeviceBuffer(size, kind), allocation_(std::move(allocation)) {}
    uint8_t* host() const override { return allocation_->host(); }
    uint8_t* device(size_t offset) const override { return allocation_->device() + offset; }

  private:
    std::unique_ptr<Allocation> allocation_;
};

// Weights: one allocation, or one allocation per tensor if the device cannot allocate so much in
// one piece. On a unified device the host packs them in their final place until the first plan
// takes them over.
class WeightBuffer final : public DeviceBuffer {
  public:
    WeightBuffer(Arena& arena, size_t size, std::unique_ptr<Allocation> whole);  // null: in pieces
    uint8_t* host() const override { return nullptr; }
    uint8_t* device(size_t offset) const override;
    uint8_t* host_now(size_t offset) const override;
    void give_to_device(Stream& stream) override;
    // Makes room for a tensor that has none yet. Imports run one after the other, before any plan.
    Result<void> place(size_t offset, size_t bytes);
    size_t n_extents() const { return extents_.size(); }

  private:
    struct Extent {
        size_t offset, bytes;
        std::unique_ptr<Allocation> allocation;
    };
    const Extent* find(size_t offset) const;

    Arena& arena_;
    std::vector<Extent> extents_;  // by offset
    mutable std::mutex mutex_;     // guards the state that give_to_device changes
};

// A mapped file. Only placed ranges are made readable for the device: page-locking the whole file
// would hold all of it in memory.
class FileBuffer final : public DeviceBuffer {
  public:
    FileBuffer(int device_index, uint8_t* bytes, size_t size)
        : DeviceBuffer(size, BufferKind::weights), index_(device_index), bytes_(bytes) {}
    uint8_t* host() const override { return bytes_; }
    uint8_t* device(size_t offset) const override;
    // Page-locks the bytes in place, or a copy of them if the system does not allow that.
    Result<void> place(size_t offset, size_t bytes);

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
