// The table of Armv8.2 with the dot product extension.
#include <arm_neon.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace arm_dotprod {

#include "backends/cpu/arm_dotprod/simd.h"

// 32 registers. Scores: 4 x 4 sums, 4 keys, 1 query. Values: at most 24 sums, 4 weights, 1 value.
constexpr int kGroup = 4, kScoreSums = 16, kValueSums = 24;
#include "backends/cpu/body/ops.inl"

void fill_matmul(KernelTable&);  // matmul.cpp

static KernelTable make_table() {
    KernelTable t = {};
    t.name = "arm_dotprod";
    fill_ops(t);
    fill_matmul(t);
    return t;
}

}  // namespace arm_dotprod

// Made at the first call, not at program start: the machine may lack the instructions.
const KernelTable* arm_dotprod_table() {
    static const KernelTable table = arm_dotprod::make_table();
    return &table;
}

}  // namespace pillion::cpu
