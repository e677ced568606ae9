// The table of Armv8.6 with int8 matrix products.
#include <arm_neon.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace arm_i8mm {

#include "backends/cpu/arm_i8mm/simd.h"

// As arm_dotprod.
constexpr int kGroup = 4, kScoreSums = 16, kValueSums = 24;
#include "backends/cpu/body/ops.inl"

void fill_matmul(KernelTable&);  // matmul.cpp

static KernelTable make_table() {
    KernelTable t = {};
    t.name = "arm_i8mm";
    fill_ops(t);
    fill_matmul(t);
    return t;
}

}  // namespace arm_i8mm

// Made at the first call, not at program start: the machine may lack the instructions.
const KernelTable* arm_i8mm_table() {
    static const KernelTable table = arm_i8mm::make_table();
    return &table;
}

}  // namespace pillion::cpu
