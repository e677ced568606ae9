// A backend that computes sizes and allocates nothing. Models, contexts and pairs made on it know
// all their sizes before any memory is taken. The real backend answers every call except two:
// memory has a size and no address, and plans know their scratch and do not run.
#pragma once
#include "core/backend.h"

namespace pillion {

class SizingBackend final : public Backend {
  public:
    explicit SizingBackend(Backend& real) : real_(real) {}

    const char* name() const override { return real_.name(); }
    Json info_json() const override { return real_.info_json(); }
    MemoryInfo memory() const override { return real_.memory(); }
    Result<void> supports(const Graph& graph, const Node& node) const override {
        return real_.supports(graph, node);
    }
    Result<std::unique_ptr<Buffer>> allocate(size_t size, BufferKind kind) override;
    std::unique_ptr<Buffer> map_host(uint8_t* bytes, size_t size) override;
    // Returns zeros.
    Result<void> read(const Buffer& from, size_t offset, size_t bytes, void* to) override;
    Result<void> write(const void*, size_t, Buffer&, size_t) override { return ok(); }
    Result<std::unique_ptr<Queue>> make_queue(int n_threads) override {
        return real_.make_queue(n_threads);
    }
    Result<size_t> weight_bytes(const WeightSource& source) const override {
        return real_.weight_bytes(source);
    }
    Result<Tensor> import_weight(const WeightSource& source, Buffer& buffer, size_t offset,
                                 Queue& queue) override;
    size_t kv_bytes(const KvSpec& spec) const override { return real_.kv_bytes(spec); }
    const char* kv_layout() const override { return real_.kv_layout(); }
    std::vector<KvStrip> kv_strips(const KvSpec& spec) const override {
        return real_.kv_strips(spec);
    }
    Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                          const CompileOptions& options) override;
    Result<size_t> plan_bytes(const Graph& graph, Queue& queue,
                              const CompileOptions& options) override {
        return real_.plan_bytes(graph, queue, options);
    }
    Result<MachineLimits> measure_limits(Queue& queue) override {
        return real_.measure_limits(queue);
    }

    // Bytes of the live buffers and plans in the device's own memory, by BufferKind without
    // `state`. Outlives this backend.
    struct Use {
        size_t bytes[4] = {};
        size_t of(BufferKind kind) const { return bytes[int(kind)]; }
        size_t total() const {
            return of(BufferKind::weights) + of(BufferKind::kv) + of(BufferKind::scratch);
        }
    };
    Use use() const { return *use_; }

  private:
    Backend& real_;
    std::shared_ptr<Use> use_ = std::make_shared<Use>();
};

}  // namespace pillion
