// A graph as launches on a stream.
#pragma once
#include "backends/cuda/cuda_arena.h"
#include "backends/cuda/cuda_queue.h"
#include "core/backend.h"

namespace pillion::cuda {

Result<void> cuda_supports(const Graph& graph, const Node& node, const DeviceInfo& device);

// Which attention an attend node gets: the tiled kernels, or the plain one, which is slower and
// runs every shape. unsupported_op: neither.
enum class AttendKernels : uint8_t { tiled, plain };
Result<AttendKernels> choose_attend(const Graph& graph, const Node& node, const DeviceInfo& device,
                                    Flash flash);

// Scratch of the plan that compile_plan would make; touches no memory.
size_t plan_scratch(const Graph& graph, const DeviceInfo& device, Flash flash);

struct PlanDevice {
    const DeviceInfo& info;
    Arena& scratch;  // and constants, in device memory
    Arena& state;    // that both sides see
};

// Throws Error. The graph is not needed afterwards; its weights, caches and outer buffers are.
std::unique_ptr<Plan> compile_plan(const Graph& graph, const PlanDevice& device, Flash flash,
                                   CudaQueue& queue);

}  // namespace pillion::cuda
