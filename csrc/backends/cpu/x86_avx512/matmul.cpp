// AVX-512 VNNI: matmuls.
#include "backends/cpu/kernel_table.h"
#include <immintrin.h>    // before the namespace opens

namespace pillion::cpu::x86_avx512 {

#include "dot.h"
#include "../body/matmul.inl"
#include "../body/matmul_float.inl"

void fill_matmul(KernelTable& table) {
    __builtin_cpu_init();
    fill_quantised(table);
    fill_float(table);
    table.few_best = 9;
    // Zen 4 (33 GB/s a core) reads one column fastest with its own prefetchers, and 3 or more with hints into the second cache: 98 %
    // of the bandwidth against 92 % (Q4_0), 73 against 55 % (Q6_K). Zen 5 (42 GB/s) wants them in the first, 6 KB ahead: see
    // prototypes/lane-pack. Bits equal either way.
    table.prefetch = __builtin_cpu_is("amdfam19h") ? -6144 : 6144;
}

}  // namespace pillion::cpu::x86_avx512
