// AVX-512 VNNI: matmuls.
#include "backends/cpu/kernel_table.h"
#include <immintrin.h>    // before the namespace opens

namespace pillion::cpu::x86_avx512 {

#include "dot.h"
#include "../body/matmul.inl"
#include "../body/matmul_float.inl"

void fill_matmul(KernelTable& table) {
    fill_quantised(table);
    fill_float(table);
    table.few_best = 9;
    table.prefetch = 6144;    // fits 40 GB/s x 150 ns; prototypes/lane-pack has the measurements
}

}  // namespace pillion::cpu::x86_avx512
