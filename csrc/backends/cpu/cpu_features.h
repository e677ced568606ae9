// The features that this machine's processor offers and its operating system enables, read once.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion::cpu {

namespace feature {
constexpr uint64_t avx2 = 1ull << 0;
constexpr uint64_t fma = 1ull << 1;
constexpr uint64_t f16c = 1ull << 2;
constexpr uint64_t avx512f = 1ull << 3;
constexpr uint64_t avx512bw = 1ull << 4;
constexpr uint64_t avx512vl = 1ull << 5;
constexpr uint64_t avx512dq = 1ull << 6;
constexpr uint64_t avx512_vnni = 1ull << 7;
constexpr uint64_t avx_vnni = 1ull << 8;
constexpr uint64_t avx512_bf16 = 1ull << 9;
constexpr uint64_t asimd = 1ull << 16;
constexpr uint64_t fp16 = 1ull << 17;  // half arithmetic (asimdhp)
constexpr uint64_t dotprod = 1ull << 18;
constexpr uint64_t i8mm = 1ull << 19;
constexpr uint64_t bf16 = 1ull << 20;
constexpr uint64_t sve = 1ull << 21;
}  // namespace feature

// Bits of feature::. A vector feature counts only if the system saves its registers.
uint64_t cpu_features();

// Writes the names of the set bits, separated by blanks, cut to fit (`pillion doctor`, error
// sentences).
void feature_names(uint64_t features, char* text, size_t text_bytes);

}  // namespace pillion::cpu
