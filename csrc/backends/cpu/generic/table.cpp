// The table of plain C++: the reference kernels, and the fallback for every machine.
#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace generic {

void fill_ops(KernelTable&);         // ops.cpp
void fill_matmul(KernelTable&);      // matmul.cpp
void fill_attend_all(KernelTable&);  // attend_all.cpp

static KernelTable make_table() {
    KernelTable t = {};
    t.name = "generic";
    fill_ops(t);
    fill_matmul(t);
    fill_attend_all(t);
    return t;
}

}  // namespace generic

const KernelTable* generic_table() {
    static const KernelTable table = generic::make_table();
    return &table;
}

}  // namespace pillion::cpu
