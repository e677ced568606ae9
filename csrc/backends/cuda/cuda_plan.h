// A graph as launches on a stream.
#pragma once
#include "backends/cuda/cuda_queue.h"
#include "core/backend.h"

namespace pillion::cuda {

bool cuda_supports(const Graph& graph, const Node& node, const DeviceInfo& device, Reason& reason);

// Throws Error. The graph is not needed afterwards; its weights, caches and outer buffers are.
std::unique_ptr<Plan> compile_plan(const Graph& graph, int device_index, const DeviceInfo& device, CudaQueue& queue);

}  // namespace pillion::cuda
