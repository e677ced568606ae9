#include "backends/htp/host/htp_memory.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>

namespace pillion::htp {
namespace {

constexpr size_t kSharedMax = 64u << 20, kSharedMin = 256u << 10;
// Size of a weights block: few are needed, and older DSPs, which map 2 GB, can map one.
constexpr size_t kSlabMax = 512u << 20;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

int layer_of(const char* name) {
    if (strncmp(name, "blk.", 4) != 0) return -1;
    char* end = nullptr;
    const long n = strtol(name + 4, &end, 10);
    return end != name + 4 && *end == '.' && n >= 0 && n < 1 << 16 ? int(n) : -1;
}

Region::~Region() { memory_.give_back(block_, offset_, bytes_); }

Memory::Memory(DeviceLink& link)
    : link_(link),
      shared_bytes_(std::min(kSharedMax, std::max(kSharedMin, link.address_space() / 32))),
      blocks_(HTP_BUFFERS_MAX) {}

Result<Block*> Memory::add_block(size_t bytes, bool is_shared) {
    const auto slot = std::find(blocks_.begin(), blocks_.end(), nullptr);
    if (slot == blocks_.end())
        return Failure(Status::out_of_memory,
                       "%d blocks of shared memory are in use, the DSP knows no more at a time",
                       HTP_BUFFERS_MAX);
    if (bytes > UINT32_MAX - (1u << 20) || bytes > link_.address_space())
        return Failure(Status::out_of_memory,
                       "%zu MB in one piece, a session of the DSP sees %zu MB", bytes >> 20,
                       link_.address_space() >> 20);
    Result<std::unique_ptr<SharedMemory>> memory = link_.allocate(bytes);
    if (!memory) return memory.failure();
    auto block = std::make_unique<Block>();
    block->index = uint32_t(slot - blocks_.begin());
    block->memory = std::move(*memory);
    block->is_shared = is_shared;
    block->free[0] = bytes;
    *slot = std::move(block);
    return slot->get();
}

std::unique_ptr<Region> Memory::take(Block& block, size_t bytes) {
    for (auto hole = block.free.begin(); hole != block.free.end(); ++hole) {
        if (hole->second < bytes) continue;
        const size_t offset = hole->first, rest = hole->second - bytes;
        block.free.erase(hole);
        if (rest > 0) block.free[offset + bytes] = rest;
        block.used += bytes;
        auto region = std::make_unique<Region>(*this, block, offset, bytes);
        if (block.is_shared) memset(region->host(), 0, bytes);  // new blocks are zero already
        return region;
    }
    return nullptr;
}

Result<std::unique_ptr<Region>> Memory::allocate(size_t size) {
    const size_t bytes = round_up(std::max<size_t>(size, 1), HTP_VECTOR);
    std::lock_guard<std::mutex> lock(mutex_);
    if (bytes < size) return Failure(Status::out_of_memory, "%zu bytes of shared memory", size);
    const bool is_shared = bytes <= shared_bytes_ / 4;
    for (const auto& b : blocks_)
        if (is_shared && b && b->is_shared)
            if (auto region = take(*b, bytes)) return region;
    const Result<Block*> block = add_block(is_shared ? shared_bytes_ : bytes, is_shared);
    if (!block) return block.failure();
    return take(**block, bytes);
}

bool Memory::has_other_shared(const Block& block) const {
    return std::any_of(blocks_.begin(), blocks_.end(),
                       [&](const auto& b) { return b && b.get() != &block && b->is_shared; });
}

void Memory::give_back(Block& block, size_t offset, size_t bytes) {
    std::unique_ptr<Block> empty;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        auto hole = block.free.emplace(offset, bytes).first;
        if (const auto next = std::next(hole);
            next != block.free.end() && hole->first + hole->second == next->first) {
            hole->second += next->second;
            block.free.erase(next);
        }
        if (hole != block.free.begin()) {
            const auto before = std::prev(hole);
            if (before->first + before->second == hole->first) {
                before->second += hole->second;
                block.free.erase(hole);
            }
        }
        block.used -= bytes;
        if (block.used > 0 || (block.is_shared && !has_other_shared(block)))
            return;  // keeps one empty block for the next allocation
        empty = std::move(blocks_[block.index]);
        // Under the lock: another block must not get the index before the callback.
        if (on_free) on_free(*empty);
    }
}

HtpBuffer::HtpBuffer(size_t size, BufferKind kind, std::unique_ptr<Region> region)
    : Buffer(size, kind) {
    pieces_.push_back({0, region->bytes(), std::shared_ptr<Region>(std::move(region)), 0, -1});
}

HtpBuffer::HtpBuffer(size_t size, Memory& memory, int n_sessions)
    : Buffer(size, BufferKind::weights), memory_(&memory), n_sessions_(n_sessions),
      slabs_(size_t(n_sessions)) {}

// Layers come in order, so the start of a layer in the buffer determines its share.
int HtpBuffer::session_of(const char* tensor_name, size_t offset) {
    const size_t share = size() / size_t(n_sessions_) + 1;
    const int by_place = std::min(n_sessions_ - 1, int(offset / share));
    const int layer = layer_of(tensor_name);
    return layer < 0 ? by_place : session_of_layer_.emplace(layer, by_place).first->second;
}

Result<void> HtpBuffer::place(const char* tensor_name, size_t offset, size_t bytes) {
    if (!memory_ || at(offset).block) return ok();
    const int session = session_of(tensor_name, offset);
    Slab& slab = slabs_[size_t(session)];
    const size_t room = round_up(bytes + HTP_VECTOR, HTP_VECTOR);
    if (!slab.region || slab.used + room > slab.region->bytes()) {
        // So many blocks that the last one wastes little, none larger than the rest of this
        // session's share; the last layer may exceed the share.
        const size_t share = size() / size_t(n_sessions_) + 1,
                     end = std::min(size(), share * size_t(session + 1));
        const size_t rest = std::max(end > offset ? end - offset : 0, share / 32);
        Result<std::unique_ptr<Region>> region =
            memory_->allocate(std::max(room, std::min({kSlabMax, share / 4, rest})));
        if (!region) return region.failure();
        slab = {std::shared_ptr<Region>(std::move(*region)), 0};
    }
    const Piece piece = {offset, bytes, slab.region, slab.used, session};
    pieces_.insert(std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                    [](size_t o, const Piece& p) { return o < p.first; }),
                   piece);
    slab.used += room;
    return ok();
}

HtpBuffer::Place HtpBuffer::at(size_t offset) const {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                        [](size_t o, const Piece& p) { return o < p.first; });
    if (after == pieces_.begin()) return {};
    const Piece& p = *std::prev(after);
    if (offset >= p.first + std::max<size_t>(p.bytes, 1)) return {};
    return {&p.region->block(), p.region->offset() + p.offset + (offset - p.first), p.session};
}

}  // namespace pillion::htp
