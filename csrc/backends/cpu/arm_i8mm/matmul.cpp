// The matmuls for Armv8.6 with int8 matrix products.
#include <arm_neon.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::arm_i8mm {

#include "backends/cpu/arm_i8mm/dot.h"

// These files use dot.h.
#include "backends/cpu/body/matmul.inl"
#include "backends/cpu/body/matmul_float.inl"

// Also uses matmul.inl.
#include "backends/cpu/body/attend_all.inl"

void fill_matmul(KernelTable& table) {
    fill_quantized(table);
    fill_float(table);
    fill_attend_all(table);
    // Up to 9 columns usdot needs fewer vector instructions than this table's usmmla kernel, whose
    // codes are interleaved first (docs/performance.md).
    table.matvec_most = 9;
    table.prefetch = 0;  // not measured on a machine yet
}

}  // namespace pillion::cpu::arm_i8mm
