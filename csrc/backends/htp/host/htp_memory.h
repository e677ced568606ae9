// Shared memory of a backend, and buffers in it. The host sees all of it. A session maps whole
// blocks when a plan first needs them (htp_session.h). Small allocations share blocks, because a
// session can name only HTP_BUFFERS_MAX of them.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/htp/host/htp_transport.h"
#include "core/backend.h"

namespace pillion::htp {

// The unit that a session maps. Its index names it in all sessions.
struct Block {
    uint32_t index = 0;
    std::unique_ptr<SharedMemory> memory;
    // of a shared block: offset -> bytes
    std::map<size_t, size_t> free;
    bool is_shared = false;
    size_t used = 0;  // allocated bytes
    // Counts calls of Backend::write: a DSP that read the bytes before may still cache the old
    // ones.
    std::atomic<uint32_t> host_writes{0};
};

class Memory;

// Bytes in a block; the destructor frees them.
class Region {
  public:
    Region(Memory& memory, Block& block, size_t offset, size_t bytes)
        : memory_(memory), block_(block), offset_(offset), bytes_(bytes) {}
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

    Block& block() const { return block_; }
    size_t offset() const { return offset_; }
    size_t bytes() const { return bytes_; }
    uint8_t* host() const { return block_.memory->host() + offset_; }
    htp_address address(size_t at = 0) const {
        return {uint16_t(block_.index), 0, uint32_t(offset_ + at)};
    }

  private:
    Memory& memory_;
    Block& block_;
    size_t offset_, bytes_;
};

class Memory {
  public:
    explicit Memory(DeviceLink& link);
    // Allocates zeroed bytes, aligned to an HVX vector.
    Result<std::unique_ptr<Region>> allocate(size_t bytes);
    // Called with a block that is about to be freed, before its memory is.
    std::function<void(const Block&)> on_free;
    size_t block_bytes() const { return shared_bytes_; }

  private:
    friend class Region;
    void give_back(Block& block, size_t offset, size_t bytes);
    bool has_other_shared(const Block& block) const;
    std::unique_ptr<Region> take(Block& block, size_t bytes);
    Result<Block*> add_block(size_t bytes, bool is_shared);

    DeviceLink& link_;
    size_t shared_bytes_;  // of a block shared by small allocations
    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> blocks_;  // by index; null: free index
};

// A Buffer of the backend. Most are one region. Weights too large for one session are many regions,
// made tensor by tensor at import; each has the session of its layer.
class HtpBuffer final : public Buffer {
  public:
    HtpBuffer(size_t size, BufferKind kind, std::unique_ptr<Region> region);
    // Weights in pieces, over n_sessions sessions of about equal size.
    HtpBuffer(size_t size, Memory& memory, int n_sessions);

    // Null if the bytes are in several pieces.
    uint8_t* host() const override { return memory_ ? nullptr : pieces_[0].region->host(); }

    // Reserves a tensor of these weights: bytes [offset, offset + bytes) of the buffer then lie in
    // one region.
    Result<void> place(const char* tensor_name, size_t offset, size_t bytes);

    struct Place {
        Block* block = nullptr;
        size_t offset = 0;  // in the block
        int session = -1;   // session of these bytes; -1: any
        uint8_t* host() const { return block->memory->host() + offset; }
    };
    Place at(size_t offset) const;  // block null: nothing is placed there
    int n_sessions() const { return n_sessions_; }

  private:
    struct Piece {
        size_t first, bytes;             // of the buffer
        std::shared_ptr<Region> region;  // the tensors of a slab share it
        size_t offset;                   // in the region
        int session;
    };
    struct Slab {
        std::shared_ptr<Region> region;
        size_t used = 0;
    };
    int session_of(const char* tensor_name, size_t offset);

    std::vector<Piece> pieces_;  // sorted by first
    Memory* memory_ = nullptr;
    int n_sessions_ = 1;
    std::map<int, int> session_of_layer_;
    std::vector<Slab> slabs_;  // each session's open slab
};

// N of "blk.N."; -1: the tensor belongs to no layer.
int layer_of(const char* tensor_name);

}  // namespace pillion::htp
