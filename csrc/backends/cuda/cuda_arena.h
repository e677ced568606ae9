// Memory of one kind in a few allocations: small requests share chunks, large ones have their own.
// Asking the driver is slow, frees stop the whole device, and page-locked memory comes in pages. If
// a chunk is refused, smaller ones are tried, down to the request itself. Only plain allocations:
// the driver's pools (cudaMallocAsync) would keep freed memory and order it by streams, and a step
// allocates nothing.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "backends/cuda/device/runtime.h"

namespace pillion::cuda {

class Arena;

// Bytes of an arena, aligned to 256. The arena outlives it.
class Allocation {
  public:
    ~Allocation();
    Allocation(const Allocation&) = delete;
    Allocation& operator=(const Allocation&) = delete;
    uint8_t* device() const { return memory_->device() + offset_; }
    uint8_t* host() const { return memory_->host() ? memory_->host() + offset_ : nullptr; }
    void give_to_device(Stream& stream) { memory_->give_to_device(stream); }

  private:
    friend class Arena;
    Allocation(Arena& arena, Memory* memory, size_t offset, size_t bytes)
        : arena_(arena), memory_(memory), offset_(offset), bytes_(bytes) {}
    Arena& arena_;
    Memory* memory_;
    size_t offset_, bytes_;
};

class Arena {
  public:
    // chunk_bytes 0: every request has its own memory. Shared memory is handed over as a whole, so
    // its arenas must use 0.
    Arena(int device_index, MemoryKind kind, size_t chunk_bytes)
        : index_(device_index), kind_(kind), chunk_bytes_(chunk_bytes) {}

    // Any thread may call it.
    Result<std::unique_ptr<Allocation>> take(size_t bytes);
    size_t n_chunks() const { return chunks_.size(); }
    size_t reserved_bytes() const;

  private:
    friend class Allocation;
    struct Gap { size_t offset, bytes; };
    struct Chunk {
        std::unique_ptr<Memory> memory;
        size_t bytes;
        int n_allocations;
        std::vector<Gap> gaps;  // by offset; two gaps never touch
    };

    std::unique_ptr<Allocation> cut(Chunk& chunk, size_t gap, size_t bytes);
    Result<Chunk*> add_chunk(size_t bytes);
    void give_back(const Allocation& allocation);

    int index_;
    MemoryKind kind_;
    size_t chunk_bytes_;
    mutable std::mutex mutex_;
    std::vector<Chunk> chunks_;
};

}  // namespace pillion::cuda
