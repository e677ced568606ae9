// The matmuls for AVX2 with FMA and F16C.
#include <immintrin.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::x86_avx2 {

#include "backends/cpu/x86_avx2/dot.h"

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
    table.matvec_most = 6;
    // See x86_avx512. On Zen 4 one column reads at 101 % of the probe's bandwidth, against 93 %
    // with hints into the first cache (Q4_0), and at 91 against 69 % (Q6_K). The bits are equal
    // either way. On Intel one column of Q4_0 reads at 78 % against 64 %.
    table.prefetch = __builtin_cpu_is("amdfam19h") ? -6144
                     : __builtin_cpu_is("intel")   ? 2048
                                                   : 6144;
}

}  // namespace pillion::cpu::x86_avx2
