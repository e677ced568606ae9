// The matmuls for Armv8.2 with the dot product extension.
#include <arm_neon.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::arm_dotprod {

#include "backends/cpu/arm_dotprod/dot.h"

// These files use dot.h.
#include "backends/cpu/body/matmul.inl"
#include "backends/cpu/body/matmul_float.inl"

// Also uses matmul.inl.
#include "backends/cpu/body/attend_all.inl"

void fill_matmul(KernelTable& table) {
    fill_quantized(table);
    fill_float(table);
    fill_attend_all(table);
    table.matvec_most = 9;
    table.prefetch = 0;  // not measured on a machine yet
}

}  // namespace pillion::cpu::arm_dotprod
