// Shared memory of a backend, and buffers in it. The host sees all of it. A session maps whole
// chunks when a plan first needs them (htp_session.h). Small allocations share chunks, because a
// session can name only HTP_BUFFERS_MAX of them.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/htp/host/htp_device.h"
#include "core/backend.h"

namespace pillion::htp {

// The unit that a session maps. Its index names it in all sessions.
struct Chunk {
    uint32_t index = 0;
    std::unique_ptr<SharedMemory> memory;
    // of a shared chunk: offset -> bytes
    std::map<size_t, size_t> free;
    bool is_shared = false;
    size_t used = 0;  // allocated bytes
    // Counts calls of Backend::write: a DSP that read the bytes before may still cache the old
    // ones.
    std::atomic<uint32_t> host_writes{0};
};

class Arena;

// Bytes in a chunk; the destructor frees them.
class Allocation {
  public:
    Allocation(Arena& arena, Chunk& chunk, size_t offset, size_t bytes)
        : arena_(arena), chunk_(chunk), offset_(offset), bytes_(bytes) {}
    ~Allocation();
    Allocation(const Allocation&) = delete;
    Allocation& operator=(const Allocation&) = delete;

    Chunk& chunk() const { return chunk_; }
    size_t offset() const { return offset_; }
    size_t bytes() const { return bytes_; }
    uint8_t* host() const { return chunk_.memory->host() + offset_; }
    htp_address address(size_t at = 0) const {
        return {uint16_t(chunk_.index), 0, uint32_t(offset_ + at)};
    }

  private:
    Arena& arena_;
    Chunk& chunk_;
    size_t offset_, bytes_;
};

class Arena {
  public:
    explicit Arena(Device& device);
    // Allocates zeroed bytes, aligned to an HVX vector.
    Result<std::unique_ptr<Allocation>> allocate(size_t bytes);
    // Called with a chunk that is about to be freed, before its memory is.
    std::function<void(const Chunk&)> on_free;
    size_t chunk_bytes() const { return shared_bytes_; }

  private:
    friend class Allocation;
    void give_back(Chunk& chunk, size_t offset, size_t bytes);
    bool has_other_shared(const Chunk& chunk) const;
    std::unique_ptr<Allocation> take(Chunk& chunk, size_t bytes);
    Result<Chunk*> add_chunk(size_t bytes, bool is_shared);

    Device& device_;
    size_t shared_bytes_;  // of a chunk shared by small allocations
    std::mutex mutex_;
    std::vector<std::unique_ptr<Chunk>> chunks_;  // by index; null: free index
};

// A Buffer of the backend. Most are one allocation. Weights too large for one session are many
// allocations, made tensor by tensor at import; each has the session of its layer.
class HtpBuffer final : public Buffer {
  public:
    HtpBuffer(size_t size, BufferKind kind, std::unique_ptr<Allocation> allocation);
    // Weights in pieces, over n_sessions sessions of about equal size.
    HtpBuffer(size_t size, Arena& arena, int n_sessions);

    // Null if the bytes are in several pieces.
    uint8_t* host() const override { return arena_ ? nullptr : extents_[0].allocation->host(); }

    // Reserves a tensor of these weights: bytes [offset, offset + bytes) of the buffer then lie in
    // one allocation.
    Result<void> place(const char* tensor_name, size_t offset, size_t bytes);

    struct Location {
        Chunk* chunk = nullptr;
        size_t offset = 0;  // in the chunk
        int session = -1;   // session of these bytes; -1: any
        uint8_t* host() const { return chunk->memory->host() + offset; }
    };
    Location at(size_t offset) const;  // chunk null: nothing is placed there
    int n_sessions() const { return n_sessions_; }

  private:
    struct Extent {
        size_t first, bytes;                     // of the buffer
        std::shared_ptr<Allocation> allocation;  // shared by the tensors of a bump allocator
        size_t offset;                           // in the allocation
        int session;
    };
    struct BumpAllocator {
        std::shared_ptr<Allocation> allocation;
        size_t used = 0;
    };
    int session_of(const char* tensor_name, size_t offset);

    std::vector<Extent> extents_;  // sorted by first
    Arena* arena_ = nullptr;
    int n_sessions_ = 1;
    std::map<int, int> session_of_layer_;
    std::vector<BumpAllocator> bump_allocators_;  // by session: new tensors go there
};

// N of "blk.N."; -1: the tensor belongs to no layer.
int layer_of(const char* tensor_name);

}  // namespace pillion::htp
