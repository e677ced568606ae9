// The CPU as a backend: kernel table chosen once, lane-packed weights, a thread pool per queue.
#pragma once
#include "core/backend.h"

namespace pillion::cpu {

// For register_backend. Null with a reason when PILLION_CPU_ISA names a table that this machine
// cannot run.
Backend* make_cpu_backend(Reason& reason);

// Over a table of one's own choice, which this machine must be able to run. For the test lab.
struct KernelTable;
Backend* make_cpu_backend_with(const KernelTable& table);

}  // namespace pillion::cpu
