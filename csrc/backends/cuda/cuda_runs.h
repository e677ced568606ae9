// The runs of a compiled graph. What a step of a run may have at most decides the grids; what it
// has is read on the device. Runs of few rows are captured once per Bounds and replayed; longer
// ones are enqueued launch by launch, which their work hides.
//
// Outputs in buffers that the host reads are made in device memory and copied out when nobody needs
// them any more: what comes after them (a head's soft-cap and argmax, the next draft step) must not
// read across the bus.
#pragma once
#include <memory>
#include <vector>

#include "backends/cuda/cuda_arena.h"
#include "backends/cuda/cuda_queue.h"
#include "backends/cuda/cuda_steps.h"
#include "backends/cuda/replay_cache.h"
#include "backends/cuda/run_tables.h"
#include "core/plan_layout.h"

namespace pillion::cuda {

class CudaPlan final : public Plan {
  public:
    CudaPlan(CudaQueue& queue, const Graph& graph);
    ~CudaPlan() override;
    Result<void> run(const StepState& state) override;
    Result<void> wait() override;
    size_t scratch_bytes() const override { return scratch_bytes_; }
    std::vector<StepInfo> steps() const override;

    // --- for the compiler ---
    // Of a run's StepState and the page numbers behind it.
    size_t state_bytes() const { return state_bytes(segments_max_); }
    const StepState* device_state() const {
        return reinterpret_cast<const StepState*>(device_state_->device());
    }
    KvPages pages(const KvStore& store) const {
        return tables_.pages(store, records(device_state_->device()));
    }
    std::vector<Step> steps_;
    std::vector<std::unique_ptr<Allocation>> constants_;
    std::unique_ptr<Allocation> scratch_, device_state_, host_state_;
    size_t scratch_bytes_ = 0;

  private:
    size_t state_bytes(int segments) const {
        return sizeof(StepState) + size_t(segments) * tables_.record_bytes();
    }
    static int32_t* records(uint8_t* state) {
        return reinterpret_cast<int32_t*>(state + sizeof(StepState));
    }
    Bounds bounds_of(const StepState& state) const;
    void enqueue(Stream& stream, const Bounds& bounds) const;
    void enqueue_run(Stream& stream, const Bounds& bounds);

    CudaQueue& queue_;
    RunLimits limits_;
    RunTables tables_;
    int segments_max_;
    ReplayCache<Bounds> replays_;
    bool pending_ = false, cancelled_ = false;
};

}  // namespace pillion::cuda
