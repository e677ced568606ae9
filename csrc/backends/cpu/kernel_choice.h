// Which table of kernels this process uses: the best one that is compiled in and that the machine
// can run, or the one that the environment variable PILLION_CPU_ISA names. Chosen at the first
// question and kept.
#pragma once
#include <stdint.h>

#include "backends/cpu/kernel_table.h"
#include "core/error.h"

namespace pillion::cpu {

struct KernelCandidate {
    const char* name;               // what PILLION_CPU_ISA may say; equals the table's name
    uint64_t needs;                 // bits of feature::
    const KernelTable* (*table)();  // call only if can_run()
};

// Compiled in, best first; `generic` is the last and always runs.
const KernelCandidate* kernel_candidates(int* n);
bool can_run(const KernelCandidate& candidate);

// ok, or invalid_argument with a sentence when PILLION_CPU_ISA names a table that does not exist or
// cannot run here.
Status choose_kernels(const KernelTable** table, Reason& reason);

// The same decision for a given name (null or "": the best), not kept.
Status find_kernels(const char* name, const KernelTable** table, Reason& reason);

}  // namespace pillion::cpu
