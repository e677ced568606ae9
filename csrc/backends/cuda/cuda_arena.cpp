#include "backends/cuda/cuda_arena.h"

#include <algorithm>
#include <new>

namespace pillion::cuda {
namespace {

// The alignment that kernels need for vector loads.
constexpr size_t kAlign = 256;

}  // namespace

Allocation::~Allocation() { arena_.give_back(*this); }

Result<std::unique_ptr<Allocation>> Arena::take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > SIZE_MAX / 2)
        return Failure(Status::out_of_memory, "no memory for %zu bytes", bytes);
    const size_t asked = chunk_bytes_ == 0
                             ? std::max<size_t>(bytes, 1)
                             : (std::max<size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
    for (Chunk& c : chunks_)
        for (size_t g = 0; g < c.gaps.size(); g++)
            if (c.gaps[g].bytes >= asked) return cut(c, g, asked);
    const Result<Chunk*> chunk = add_chunk(asked);
    if (!chunk) return chunk.failure();
    return cut(**chunk, 0, asked);
}

// Adds a chunk with room for `bytes`: of the usual size, else of half of it and so on, at last of
// exactly `bytes`.
Result<Arena::Chunk*> Arena::add_chunk(size_t bytes) {
    size_t size = bytes >= chunk_bytes_ / 2 ? bytes : chunk_bytes_;
    for (;;) {
        Result<std::unique_ptr<Memory>> memory = Memory::allocate(index_, size, kind_);
        if (memory) {
            chunks_.push_back({std::move(*memory), size, 0, {{0, size}}});
            return &chunks_.back();
        }
        if (memory.failure().code() != Status::out_of_memory || size == bytes)
            return memory.failure();
        size = std::max(bytes, size / 2 / kAlign * kAlign);
    }
}

std::unique_ptr<Allocation> Arena::cut(Chunk& chunk, size_t gap, size_t bytes) {
    // Reserved, so that freeing never allocates.
    chunk.gaps.reserve(size_t(++chunk.n_allocations) + 2);
    Gap& g = chunk.gaps[gap];
    std::unique_ptr<Allocation> allocation(
        new Allocation(*this, chunk.memory.get(), g.offset, bytes));
    g.offset += bytes, g.bytes -= bytes;
    if (g.bytes == 0) chunk.gaps.erase(chunk.gaps.begin() + long(gap));
    make_unwritten(allocation->device(), bytes);
    return allocation;
}

void Arena::give_back(const Allocation& allocation) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto c = std::find_if(chunks_.begin(), chunks_.end(), [&](const Chunk& one) {
        return one.memory.get() == allocation.memory_;
    });
    std::vector<Gap>& gaps = c->gaps;
    c->n_allocations--;
    auto next = std::find_if(gaps.begin(), gaps.end(),
                             [&](const Gap& g) { return g.offset > allocation.offset_; });
    next = gaps.insert(next, {allocation.offset_, allocation.bytes_});
    if (next + 1 != gaps.end() && next->offset + next->bytes == next[1].offset)
        next->bytes += next[1].bytes, gaps.erase(next + 1);
    if (next != gaps.begin() && next[-1].offset + next[-1].bytes == next->offset)
        next[-1].bytes += next->bytes, gaps.erase(next);
    if (gaps.size() == 1 && gaps[0].bytes == c->bytes) chunks_.erase(c);
}

size_t Arena::reserved_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t n = 0;
    for (const Chunk& c : chunks_) n += c.bytes;
    return n;
}

}  // namespace pillion::cuda
