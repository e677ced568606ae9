#include "backends/htp/host/htp_memory.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>

namespace pillion::htp {
namespace {

constexpr size_t kSharedMax = 64u << 20, kSharedMin = 256u << 10;
// Size of a weights chunk: few are needed, and older DSPs, which map 2 GB, can map one.
constexpr size_t kWeightsChunkMax = 512u << 20;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

int layer_of(const char* name) {
    if (strncmp(name, "blk.", 4) != 0) return -1;
    char* end = nullptr;
    const long n = strtol(name + 4, &end, 10);
    return end != name + 4 && *end == '.' && n >= 0 && n < 1 << 16 ? int(n) : -1;
}

Allocation::~Allocation() { arena_.give_back(chunk_, offset_, bytes_); }

Arena::Arena(Device& device)
    : device_(device),
      shared_bytes_(std::min(kSharedMax, std::max(kSharedMin, device.address_space() / 32))),
      chunks_(HTP_BUFFERS_MAX) {}

Result<Chunk*> Arena::add_chunk(size_t bytes, bool is_shared) {
    const auto slot = std::find(chunks_.begin(), chunks_.end(), nullptr);
    if (slot == chunks_.end())
        return Failure(Status::out_of_memory,
                       "%d blocks of shared memory are in use, the DSP knows no more at a time",
                       HTP_BUFFERS_MAX);
    if (bytes > UINT32_MAX - (1u << 20) || bytes > device_.address_space())
        return Failure(Status::out_of_memory,
                       "%zu MB in one piece, a session of the DSP sees %zu MB", bytes >> 20,
                       device_.address_space() >> 20);
    Result<std::unique_ptr<SharedMemory>> memory = device_.allocate(bytes);
    if (!memory) return memory.failure();
    auto chunk = std::make_unique<Chunk>();
    chunk->index = uint32_t(slot - chunks_.begin());
    chunk->memory = std::move(*memory);
    chunk->is_shared = is_shared;
    chunk->free[0] = bytes;
    *slot = std::move(chunk);
    return slot->get();
}

std::unique_ptr<Allocation> Arena::take(Chunk& chunk, size_t bytes) {
    for (auto hole = chunk.free.begin(); hole != chunk.free.end(); ++hole) {
        if (hole->second < bytes) continue;
        const size_t offset = hole->first, rest = hole->second - bytes;
        chunk.free.erase(hole);
        if (rest > 0) chunk.free[offset + bytes] = rest;
        chunk.used += bytes;
        auto allocation = std::make_unique<Allocation>(*this, chunk, offset, bytes);
        if (chunk.is_shared) memset(allocation->host(), 0, bytes);  // new chunks are zero already
        return allocation;
    }
    return nullptr;
}

Result<std::unique_ptr<Allocation>> Arena::allocate(size_t size) {
    const size_t bytes = round_up(std::max<size_t>(size, 1), HTP_VECTOR);
    std::lock_guard<std::mutex> lock(mutex_);
    if (bytes < size) return Failure(Status::out_of_memory, "%zu bytes of shared memory", size);
    const bool is_shared = bytes <= shared_bytes_ / 4;
    for (const auto& c : chunks_)
        if (is_shared && c && c->is_shared)
            if (auto allocation = take(*c, bytes)) return allocation;
    const Result<Chunk*> chunk = add_chunk(is_shared ? shared_bytes_ : bytes, is_shared);
    if (!chunk) return chunk.failure();
    return take(**chunk, bytes);
}

bool Arena::has_other_shared(const Chunk& chunk) const {
    return std::any_of(chunks_.begin(), chunks_.end(),
                       [&](const auto& c) { return c && c.get() != &chunk && c->is_shared; });
}

void Arena::give_back(Chunk& chunk, size_t offset, size_t bytes) {
    std::unique_ptr<Chunk> empty;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        auto hole = chunk.free.emplace(offset, bytes).first;
        if (const auto next = std::next(hole);
            next != chunk.free.end() && hole->first + hole->second == next->first) {
            hole->second += next->second;
            chunk.free.erase(next);
        }
        if (hole != chunk.free.begin()) {
            const auto before = std::prev(hole);
            if (before->first + before->second == hole->first) {
                before->second += hole->second;
                chunk.free.erase(hole);
            }
        }
        chunk.used -= bytes;
        if (chunk.used > 0 || (chunk.is_shared && !has_other_shared(chunk)))
            return;  // keeps one empty chunk for the next allocation
        empty = std::move(chunks_[chunk.index]);
        // Under the lock: another chunk must not get the index before the callback.
        if (on_free) on_free(*empty);
    }
}

HtpBuffer::HtpBuffer(size_t size, BufferKind kind, std::unique_ptr<Allocation> allocation)
    : Buffer(size, kind) {
    extents_.push_back(
        {0, allocation->bytes(), std::shared_ptr<Allocation>(std::move(allocation)), 0, -1});
}

HtpBuffer::HtpBuffer(size_t size, Arena& arena, int n_sessions)
    : Buffer(size, BufferKind::weights), arena_(&arena), n_sessions_(n_sessions),
      bump_allocators_(size_t(n_sessions)) {}

// Layers come in order, so the start of a layer in the buffer determines its share.
int HtpBuffer::session_of(const char* tensor_name, size_t offset) {
    const size_t share = size() / size_t(n_sessions_) + 1;
    const int by_offset = std::min(n_sessions_ - 1, int(offset / share));
    const int layer = layer_of(tensor_name);
    return layer < 0 ? by_offset : session_of_layer_.emplace(layer, by_offset).first->second;
}

Result<void> HtpBuffer::place(const char* tensor_name, size_t offset, size_t bytes) {
    if (!arena_ || at(offset).chunk) return ok();
    const int session = session_of(tensor_name, offset);
    BumpAllocator& bump = bump_allocators_[size_t(session)];
    const size_t room = round_up(bytes + HTP_VECTOR, HTP_VECTOR);
    if (!bump.allocation || bump.used + room > bump.allocation->bytes()) {
        // So many chunks that the last one wastes little, none larger than the rest of this
        // session's share; the last layer may exceed the share.
        const size_t share = size() / size_t(n_sessions_) + 1,
                     end = std::min(size(), share * size_t(session + 1));
        const size_t rest = std::max(end > offset ? end - offset : 0, share / 32);
        Result<std::unique_ptr<Allocation>> allocation =
            arena_->allocate(std::max(room, std::min({kWeightsChunkMax, share / 4, rest})));
        if (!allocation) return allocation.failure();
        bump = {std::shared_ptr<Allocation>(std::move(*allocation)), 0};
    }
    const Extent extent = {offset, bytes, bump.allocation, bump.used, session};
    extents_.insert(std::upper_bound(extents_.begin(), extents_.end(), offset,
                                     [](size_t o, const Extent& e) { return o < e.first; }),
                    extent);
    bump.used += room;
    return ok();
}

HtpBuffer::Location HtpBuffer::at(size_t offset) const {
    const auto after = std::upper_bound(extents_.begin(), extents_.end(), offset,
                                        [](size_t o, const Extent& e) { return o < e.first; });
    if (after == extents_.begin()) return {};
    const Extent& e = *std::prev(after);
    if (offset >= e.first + std::max<size_t>(e.bytes, 1)) return {};
    return {&e.allocation->chunk(), e.allocation->offset() + e.offset + (offset - e.first),
            e.session};
}

}  // namespace pillion::htp
