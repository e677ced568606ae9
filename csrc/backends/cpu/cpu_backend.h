// The CPU as a backend: kernel table chosen once, lane-packed weights, a thread pool per queue.
#pragma once
#include "core/backend.h"

namespace pillion::cpu {

// For register_backend. invalid_argument when PILLION_CPU_ISA names a table that this machine
// cannot run.
Result<Backend*> make_cpu_backend();

// Over a table of one's own choice, which this machine must be able to run. For the test bindings.
struct KernelTable;
Result<Backend*> make_cpu_backend_with(const KernelTable& table);

}  // namespace pillion::cpu
