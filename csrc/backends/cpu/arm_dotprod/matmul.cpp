// Armv8.2 with dot product: matmuls.
#include "backends/cpu/kernel_table.h"
#include <arm_neon.h>    // before the namespace opens

namespace pillion::cpu::arm_dotprod {

#include "dot.h"
#include "../body/matmul.inl"
#include "../body/matmul_float.inl"

void fill_matmul(KernelTable& table) {
    fill_quantised(table);
    fill_float(table);
    table.few_best = 9;
    table.prefetch = 0;    // not measured on a machine yet
}

}  // namespace pillion::cpu::arm_dotprod
