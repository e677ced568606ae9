// AVX2 with FMA and F16C: matmuls.
#include "backends/cpu/kernel_table.h"
#include <immintrin.h>    // before the namespace opens

namespace pillion::cpu::x86_avx2 {

#include "dot.h"
#include "../body/matmul.inl"
#include "../body/matmul_float.inl"

void fill_matmul(KernelTable& table) {
    fill_quantised(table);
    fill_float(table);
    table.few_best = 4;
    table.prefetch = 6144;
}

}  // namespace pillion::cpu::x86_avx2
