#pragma once
#include <memory>

#include "backends/cpu/kernel_table.h"
#include "backends/cpu/thread_pool.h"
#include "core/backend.h"

namespace pillion::cpu {

// Throws Error on what it cannot compile; CpuBackend::compile turns that into a Failure.
std::unique_ptr<Plan> compile_plan(const Graph& graph, const KernelTable& table, ThreadPool& pool,
                                   std::unique_ptr<Buffer> (*allocate)(size_t bytes,
                                                                       BufferKind kind),
                                   const CompileOptions& options);

}  // namespace pillion::cpu
