// The table of AVX2 with FMA and F16C.
#include <immintrin.h>  // before the namespace opens

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu {
namespace x86_avx2 {

#include "backends/cpu/x86_avx2/simd.h"

// 16 registers. Scores: 2 x 4 sums (the latency of two FMA pipes), 2 keys, 1 query. Values: 8 sums,
// 4 weights, 1 value.
constexpr int kGroup = 4, kScoreSums = 8, kValueSums = 8;
#include "backends/cpu/body/ops.inl"

void fill_matmul(KernelTable&);  // matmul.cpp

static KernelTable make_table() {
    KernelTable t = {};
    t.name = "x86_avx2";
    fill_ops(t);
    fill_matmul(t);
    return t;
}

}  // namespace x86_avx2

// Made at the first call, not at program start: the machine may lack the instructions.
const KernelTable* x86_avx2_table() {
    static const KernelTable table = x86_avx2::make_table();
    return &table;
}

}  // namespace pillion::cpu
