// Armv8.2 with dot product: matmuls.
#include <arm_neon.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::arm_dotprod {

#include "../body/matmul.inl"
#include "../body/matmul_float.inl"
#include "dot.h"

void fill_matmul(KernelTable& table) {
    fill_quantised(table);
    fill_float(table);
    table.few_best = 9;
    table.prefetch = 0;  // not measured on a machine yet
}

}  // namespace pillion::cpu::arm_dotprod
