#include "runtime/split_plan.h"

#include <string.h>

#include "core/graph_split.h"

namespace pillion {
namespace {

class SplitPlan final : public Plan {
  public:
    SplitPlan(std::vector<std::unique_ptr<Plan>> parts, std::unique_ptr<Buffer> crossing)
        : crossing_(std::move(crossing)), parts_(std::move(parts)) {}

    Result<void> run(const StepState& state) override {
        for (size_t i = 0; i < parts_.size(); i++) {
            // The values that this part reads must be there.
            if (i > 0)
                if (const Result<void> waited = parts_[i - 1]->wait(); !waited) return waited;
            if (const Result<void> ran = parts_[i]->run(state); !ran) return ran;
        }
        return ok();
    }
    Result<void> wait() override { return parts_.back()->wait(); }
    size_t scratch_bytes() const override {
        size_t n = crossing_ ? crossing_->size() : 0;
        for (const auto& p : parts_) n += p->scratch_bytes();
        return n;
    }
    std::vector<StepInfo> steps() const override {
        std::vector<StepInfo> all;
        for (const auto& p : parts_)
            for (StepInfo& s : p->steps()) all.push_back(std::move(s));
        return all;
    }

  private:
    std::unique_ptr<Buffer> crossing_;  // outlives the plans that write to it
    std::vector<std::unique_ptr<Plan>> parts_;
};

// The backend whose buffers every part can reach. A buffer of kind `state` is visible to its
// backend and to the host, so all parts that are not on the host must share one backend.
Backend& meeting_place(const std::vector<PartPlace>& places) {
    Backend* device = nullptr;
    for (const PartPlace& p : places) {
        if (!p.backend || p.backend->is_host()) continue;
        if (device && strcmp(device->name(), p.backend->name()) != 0)
            fail(Status::unsupported_op,
                 "%s and %s see no memory in common; one of the two must be the cpu",
                 device->name(), p.backend->name());
        device = p.backend;
    }
    return device ? *device : *places.front().backend;
}

std::unique_ptr<Buffer> place_crossing(const Graph& graph, const std::vector<Value>& crossing,
                                       const std::vector<PartPlace>& places,
                                       std::vector<Tensor>& tensors) {
    size_t bytes = 0;
    for (const Value v : crossing) {
        const ValueInfo& info = graph.value(v);
        const int64_t rows = graph.rows_max(info.rows);
        tensors.push_back({DType::f32, Layout::rows, info.width, rows, 1, nullptr, bytes});
        bytes += (size_t(info.width * rows) * 4 + 255) / 256 * 256;
    }
    if (bytes == 0) return nullptr;
    std::unique_ptr<Buffer> buffer = meeting_place(places)
                                         .allocate(bytes, BufferKind::state)
                                         .value_or_throw("rows that cross between devices");
    for (Tensor& t : tensors) t.buffer = buffer.get();
    return buffer;
}

std::unique_ptr<Plan> compile_one(const Graph& graph, const PartPlace& place,
                                  const CompileOptions& options) {
    return place.backend->compile(graph, *place.queue, options).value_or_throw();
}

}  // namespace

std::unique_ptr<Plan> compile_parts(const Graph& graph, const std::vector<PartPlace>& places,
                                    const CompileOptions& options) {
    const int n = count_parts(graph);
    PILLION_CHECK(size_t(n) <= places.size());
    if (n == 1) return compile_one(graph, places[0], options);
    const std::vector<Value> crossing = crossing_values(graph);
    std::vector<Tensor> tensors;
    std::unique_ptr<Buffer> buffer = place_crossing(graph, crossing, places, tensors);
    std::vector<std::unique_ptr<Plan>> parts;
    for (int i = 0; i < n; i++) {
        const Graph part = take_part(graph, i, crossing, tensors);
        if (!part.nodes().empty()) parts.push_back(compile_one(part, places[size_t(i)], options));
    }
    return std::make_unique<SplitPlan>(std::move(parts), std::move(buffer));
}

}  // namespace pillion
