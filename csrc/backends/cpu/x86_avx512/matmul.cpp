// The matmuls for AVX-512 with VNNI.
// gcc 12 warns about the deliberately undefined operand of its own masked intrinsics.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::x86_avx512 {

#include "backends/cpu/x86_avx512/dot.h"

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
    table.matvec_most = 9;
    // Measured on Zen 4. Other makers' processors unpack on the pipes that multiply, and groups
    // unpack again.
    if (!__builtin_cpu_is("amd"))
        for (MatvecGroup& group : table.matvec_group) group = {};
    // Zen 4 (33 GB/s a core) reads one column fastest with its own prefetchers, and 3 or more
    // columns fastest with hints into the second cache. One column reads at 98 % of the bandwidth,
    // against 92 % with hints into the first cache (Q4_0), and at 97 against 68 % (Q6_K); four
    // columns of Q4_0 read at 23.9 against 21.7 GB/s. Zen 5 (42 GB/s) is fastest with the first
    // cache, 6 KB ahead. The bits are equal either way. Intel (Xeon with AMX, 17 GB/s a core) is
    // fastest 2 KB ahead: one column of Q4_0 reads at 84 % of the bandwidth against 72 % at 6 KB,
    // IQ2 at 72 against 53 %; four columns gain 5 to 9 %.
    table.prefetch = __builtin_cpu_is("amdfam19h") ? -6144
                     : __builtin_cpu_is("intel")   ? 2048
                                                   : 6144;
}

}  // namespace pillion::cpu::x86_avx512
