// The matmuls for AVX-VNNI without AVX-512.
#include <immintrin.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::x86_avx_vnni {

#include "backends/cpu/x86_avx_vnni/dot.h"

// These files use dot.h.
#include "backends/cpu/body/matmul.inl"
#include "backends/cpu/body/matmul_float.inl"

// Also uses matmul.inl.
#include "backends/cpu/body/attend_all.inl"

void fill_matmul(KernelTable& table) {
    __builtin_cpu_init();
    fill_quantized(table);
    fill_float(table);
    fill_attend_all(table);
    // Measured on Zen 5 with AVX-512 left out: 4 columns of Q4_0 cost 1.6 times one and reach 73 %
    // of the int8 peak; 8 in two groups of 4 cost 3.3 times one, where one pass takes 4.2.
    table.matvec_most = 5;
    // See x86_avx512.
    table.prefetch = __builtin_cpu_is("intel") ? 2048 : 6144;
}

}  // namespace pillion::cpu::x86_avx_vnni
