#include "core/sizing_backend.h"

#include <string.h>

#include <new>

namespace pillion {
namespace {

// A buffer that the host writes has pages, which stay untouched; every other buffer is only a
// number.
class SizingBuffer final : public Buffer {
  public:
    SizingBuffer(size_t size, BufferKind kind, std::shared_ptr<SizingBackend::Use> use)
        : Buffer(size, kind), pages_(kind == BufferKind::state ? new uint8_t[size] : nullptr),
          use_(std::move(use)) {
        use_->bytes[int(kind)] += size;
    }
    ~SizingBuffer() override { use_->bytes[int(kind())] -= size(); }
    uint8_t* host() const override { return pages_.get(); }

  private:
    std::unique_ptr<uint8_t[]> pages_;
    std::shared_ptr<SizingBackend::Use> use_;
};

std::unique_ptr<Buffer> make_buffer(size_t size, BufferKind kind,
                                    const std::shared_ptr<SizingBackend::Use>& use) {
    try {
        return std::make_unique<SizingBuffer>(size, kind, use);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

class SizingPlan final : public Plan {
  public:
    explicit SizingPlan(std::unique_ptr<Buffer> scratch) : scratch_(std::move(scratch)) {}
    Result<void> run(const StepState&) override {
        return Failure(Status::internal, "this plan only tells its size");
    }
    Result<void> wait() override { return ok(); }
    size_t scratch_bytes() const override { return scratch_->size(); }
    std::vector<StepInfo> steps() const override { return {}; }

  private:
    std::unique_ptr<Buffer> scratch_;
};

}  // namespace

Result<std::unique_ptr<Buffer>> SizingBackend::allocate(size_t size, BufferKind kind) {
    std::unique_ptr<Buffer> buffer = make_buffer(size, kind, use_);
    if (!buffer) return Failure(Status::out_of_memory, "no memory");
    return buffer;
}

std::unique_ptr<Buffer> SizingBackend::map_host(uint8_t*, size_t) {
    // Size 0: the mapped file takes none of the device's memory.
    return make_buffer(0, BufferKind::weights, use_);
}

Result<void> SizingBackend::read(const Buffer&, size_t, size_t bytes, void* to) {
    memset(to, 0, bytes);
    return ok();
}

Result<Tensor> SizingBackend::import_weight(const WeightSource& source, Buffer& buffer,
                                            size_t offset, Queue& queue) {
    WeightSource place = source;
    place.data = nullptr;
    return real_.import_weight(place, buffer, offset, queue);
}

Result<std::unique_ptr<Plan>> SizingBackend::compile(const Graph& graph, Queue& queue,
                                                     const CompileOptions& options) {
    const Result<size_t> bytes = real_.plan_bytes(graph, queue, options);
    if (!bytes) return bytes.failure();
    Result<std::unique_ptr<Buffer>> scratch = allocate(*bytes, BufferKind::scratch);
    if (!scratch) return scratch.failure();
    std::unique_ptr<Plan> plan(new (std::nothrow) SizingPlan(std::move(*scratch)));
    if (!plan) return Failure(Status::out_of_memory, "no memory");
    return plan;
}

}  // namespace pillion
