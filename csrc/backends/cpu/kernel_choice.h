// Chooses the kernel table of this process: the best compiled one that the machine can run, or the
// one that the environment variable PILLION_CPU_ISA names. The first call decides; later calls
// return the same table.
#pragma once
#include <stdint.h>

#include "backends/cpu/kernel_table.h"
#include "core/result.h"

namespace pillion::cpu {

struct KernelCandidate {
    // a value of PILLION_CPU_ISA; equals the table's name
    const char* name;
    uint64_t needs;                 // bits of feature::
    const KernelTable* (*table)();  // call only if can_run()
};

// The compiled tables, best first. The last one is `generic`, which always runs.
const KernelCandidate* kernel_candidates(int* n);
bool can_run(const KernelCandidate& candidate);

// invalid_argument if PILLION_CPU_ISA names a table that does not exist or cannot run here.
Result<const KernelTable*> choose_kernels();

// The same decision for a given name (null or "": the best), without keeping it.
Result<const KernelTable*> find_kernels(const char* name);

}  // namespace pillion::cpu
