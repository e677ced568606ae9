// The table of AVX-VNNI: the matmuls are its own, all else is AVX2's.
#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace x86_avx_vnni {

void fill_matmul(KernelTable&);  // matmul.cpp

static KernelTable make_table() {
    KernelTable t = *x86_avx2_table();
    t.name = "x86_avx_vnni";
    fill_matmul(t);
    return t;
}

}  // namespace x86_avx_vnni

// Made at the first call, not at program start: the machine may lack the instructions.
const KernelTable* x86_avx_vnni_table() {
    static const KernelTable table = x86_avx_vnni::make_table();
    return &table;
}

}  // namespace pillion::cpu
