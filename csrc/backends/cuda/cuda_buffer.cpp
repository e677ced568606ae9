#include "backends/cuda/cuda_buffer.h"

#include <string.h>

namespace pillion::cuda {

uint8_t* FileBuffer::device(size_t offset) const {
    for (const Window& w : windows_)
        if (offset >= w.offset && offset < w.offset + w.bytes) return w.memory->device() + (offset - w.offset);
    return nullptr;
}

Status FileBuffer::place(size_t offset, size_t bytes, Reason& reason) {
    if (bytes == 0 || device(offset)) return Status::ok;
    Window w = {offset, bytes, Memory::lend(index_, bytes_ + offset, bytes)};
    if (!w.memory) {
        Status status = Status::ok;
        w.memory = Memory::allocate(index_, bytes, MemoryKind::mapped, status, reason);
        if (!w.memory) return status;
        memcpy(w.memory->host(), bytes_ + offset, bytes);
    }
    windows_.push_back(std::move(w));
    return Status::ok;
}

}  // namespace pillion::cuda
