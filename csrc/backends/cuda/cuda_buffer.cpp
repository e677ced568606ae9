#include "backends/cuda/cuda_buffer.h"

#include <string.h>

#include <algorithm>

namespace pillion::cuda {

WeightBuffer::WeightBuffer(Arena& arena, size_t size, std::unique_ptr<Block> whole)
    : DeviceBuffer(size, BufferKind::weights), arena_(arena) {
    if (whole) pieces_.push_back({0, size, std::move(whole)});
}

const WeightBuffer::Piece* WeightBuffer::find(size_t offset) const {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                        [](size_t at, const Piece& p) { return at < p.offset; });
    if (after == pieces_.begin()) return nullptr;
    const Piece& p = after[-1];
    return offset < p.offset + p.bytes ? &p : nullptr;
}

uint8_t* WeightBuffer::device(size_t offset) const {
    const Piece* p = find(offset);
    return p ? p->block->device() + (offset - p->offset) : nullptr;
}

uint8_t* WeightBuffer::host_now(size_t offset) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Piece* p = find(offset);
    return p && p->block->host() ? p->block->host() + (offset - p->offset) : nullptr;
}

void WeightBuffer::give_to_device(Stream& stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Piece& p : pieces_) p.block->give_to_device(stream);
}

Result<void> WeightBuffer::place(size_t offset, size_t bytes) {
    if (bytes == 0 || find(offset)) return ok();
    Result<std::unique_ptr<Block>> block = arena_.take(bytes);
    if (!block) return block.failure();
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                        [](size_t at, const Piece& p) { return at < p.offset; });
    pieces_.insert(after, {offset, bytes, std::move(*block)});
    return ok();
}

uint8_t* FileBuffer::device(size_t offset) const {
    for (const Window& w : windows_)
        if (offset >= w.offset && offset < w.offset + w.bytes)
            return w.memory->device() + (offset - w.offset);
    return nullptr;
}

Result<void> FileBuffer::place(size_t offset, size_t bytes) {
    if (bytes == 0 || device(offset)) return ok();
    Window w = {offset, bytes, Memory::lend(index_, bytes_ + offset, bytes)};
    if (!w.memory) {
        Result<std::unique_ptr<Memory>> copy = Memory::allocate(index_, bytes, MemoryKind::mapped);
        if (!copy) return copy.failure();
        w.memory = std::move(*copy);
        memcpy(w.memory->host(), bytes_ + offset, bytes);
    }
    windows_.push_back(std::move(w));
    return ok();
}

}  // namespace pillion::cuda
