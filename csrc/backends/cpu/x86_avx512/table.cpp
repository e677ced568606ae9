// The table of AVX-512 with VNNI.
// gcc 12 warns about the deliberately undefined operand of its own masked intrinsics.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace x86_avx512 {

#include "backends/cpu/x86_avx512/simd.h"

// 32 registers. Scores: 2 x 8 sums, 2 keys, 1 query. Values: at most 24 sums, the rest for weights
// and a value.
constexpr int kGroup = 8, kScoreSums = 16, kValueSums = 24;
#include "backends/cpu/body/ops.inl"

void fill_matmul(KernelTable&);  // matmul.cpp

static KernelTable make_table() {
    KernelTable t = {};
    t.name = "x86_avx512";
    fill_ops(t);
    fill_matmul(t);
    return t;
}

}  // namespace x86_avx512

// Made at the first call, not at program start: the machine may lack the instructions.
const KernelTable* x86_avx512_table() {
    static const KernelTable table = x86_avx512::make_table();
    return &table;
}

}  // namespace pillion::cpu
