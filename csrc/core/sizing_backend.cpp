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
    Status run(const StepState&, Reason& reason) override {
        return reason.set("this plan only tells its size"), Status::internal;
    }
    Status wait(Reason&) override { return Status::ok; }
    size_t scratch_bytes() const override { return scratch_->size(); }
    std::vector<StepInfo> steps() const override { return {}; }

  private:
    std::unique_ptr<Buffer> scratch_;
};

}  // namespace

Status SizingBackend::allocate(size_t size, BufferKind kind, std::unique_ptr<Buffer>& buffer,
                               Reason& reason) {
    buffer = make_buffer(size, kind, use_);
    if (!buffer) reason.set("no memory");
    return buffer ? Status::ok : Status::out_of_memory;
}

std::unique_ptr<Buffer> SizingBackend::map_host(uint8_t*, size_t) {
    // Size 0: the mapped file takes none of the device's memory.
    return make_buffer(0, BufferKind::weights, use_);
}

Status SizingBackend::read(const Buffer&, size_t, size_t bytes, void* to, Reason&) {
    memset(to, 0, bytes);
    return Status::ok;
}

Status SizingBackend::import_weight(const WeightSource& source, Buffer& buffer, size_t offset,
                                    Queue& queue, Tensor& tensor, Reason& reason) {
    WeightSource place = source;
    place.data = nullptr;
    return real_.import_weight(place, buffer, offset, queue, tensor, reason);
}

Status SizingBackend::compile(const Graph& graph, Queue& queue, std::unique_ptr<Plan>& plan,
                              Reason& reason, const CompileOptions& options) {
    size_t bytes = 0;
    if (const Status s = real_.plan_bytes(graph, queue, bytes, reason, options); s != Status::ok)
        return s;
    std::unique_ptr<Buffer> scratch;
    if (const Status s = allocate(bytes, BufferKind::scratch, scratch, reason); s != Status::ok)
        return s;
    plan.reset(new (std::nothrow) SizingPlan(std::move(scratch)));
    if (!plan) reason.set("no memory");
    return plan ? Status::ok : Status::out_of_memory;
}

}  // namespace pillion
