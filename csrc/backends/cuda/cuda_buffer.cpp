#include "backends/cuda/cuda_buffer.h"

#include <string.h>

#include <algorithm>

namespace pillion::cuda {

WeightBuffer::WeightBuffer(Arena& arena, size_t size, std::unique_ptr<Allocation> whole)
    : DeviceBuffer(size, BufferKind::weights), arena_(arena) {
    if (whole) extents_.push_back({0, size, std::move(whole)});
}

const WeightBuffer::Extent* WeightBuffer::find(size_t offset) const {
    const auto after = std::upper_bound(extents_.begin(), extents_.end(), offset,
                                        [](size_t at, const Extent& e) { return at < e.offset; });
    if (after == extents_.begin()) return nullptr;
    const Extent& e = after[-1];
    return offset < e.offset + e.bytes ? &e : nullptr;
}

uint8_t* WeightBuffer::device(size_t offset) const {
    const Extent* p = find(offset);
    return p ? p->allocation->device() + (offset - p->offset) : nullptr;
}

uint8_t* WeightBuffer::host_now(size_t offset) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Extent* p = find(offset);
    return p && p->allocation->host() ? p->allocation->host() + (offset - p->offset) : nullptr;
}

void WeightBuffer::give_to_device(Stream& stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Extent& e : extents_) e.allocation->give_to_device(stream);
}

Result<void> WeightBuffer::place(size_t offset, size_t bytes) {
    if (bytes == 0 || find(offset)) return ok();
    Result<std::unique_ptr<Allocation>> allocation = arena_.take(bytes);
    if (!allocation) return allocation.failure();
    const auto after = std::upper_bound(extents_.begin(), extents_.end(), offset,
                                        [](size_t at, const Extent& e) { return at < e.offset; });
    extents_.insert(after, {offset, bytes, std::move(*allocation)});
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
