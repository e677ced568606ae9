#include "backends/cpu/cpu_features.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace pillion::cpu {

#if defined(__x86_64__) || defined(__i386__)

static uint64_t read_features() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const bool has_xgetbv = c >> 27 & 1;
    if (!has_xgetbv) return 0;
    // Replaces _xgetbv(): this file is compiled for the plainest machine, for which the compiler
    // refuses the intrinsic.
    uint32_t saved, saved_high;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(saved_high) : "c"(0));
    const bool saves_256 = (saved & 0x06) == 0x06;  // xmm, ymm
    const bool saves_512 = (saved & 0xE6) == 0xE6;  // and opmask, upper zmm, zmm16..31
    const bool avx = saves_256 && (c >> 28 & 1);
    if (!avx) return 0;
    uint64_t f = 0;
    if (c >> 12 & 1) f |= feature::fma;
    if (c >> 29 & 1) f |= feature::f16c;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
    const unsigned subleaves = a;
    if (b >> 5 & 1) f |= feature::avx2;
    if (saves_512) {
        if (b >> 16 & 1) f |= feature::avx512f;
        if (b >> 17 & 1) f |= feature::avx512dq;
        if (b >> 30 & 1) f |= feature::avx512bw;
        if (b >> 31 & 1) f |= feature::avx512vl;
        if (c >> 11 & 1) f |= feature::avx512_vnni;
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        if (a >> 4 & 1) f |= feature::avx_vnni;
        if (saves_512 && (a >> 5 & 1)) f |= feature::avx512_bf16;
    }
    return f;
}

#elif defined(__aarch64__) && defined(__linux__)

// The bits of the kernel's hwcap words as numbers: older headers lack the newer names.
static uint64_t read_features() {
    const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    uint64_t f = 0;
    if (one >> 1 & 1) f |= feature::asimd;
    if (one >> 10 & 1) f |= feature::fp16;
    if (one >> 20 & 1) f |= feature::dotprod;
    if (one >> 22 & 1) f |= feature::sve;
    if (two >> 13 & 1) f |= feature::i8mm;
    if (two >> 14 & 1) f |= feature::bf16;
    return f;
}

#else

static uint64_t read_features() { return 0; }

#endif

uint64_t cpu_features() {
    static const uint64_t features = read_features();
    return features;
}

void feature_names(uint64_t features, char* text, size_t text_bytes) {
    static const struct {
        uint64_t bit;
        const char* name;
    } kNames[] = {
        {feature::avx2, "avx2"},
        {feature::fma, "fma"},
        {feature::f16c, "f16c"},
        {feature::avx512f, "avx512f"},
        {feature::avx512bw, "avx512bw"},
        {feature::avx512vl, "avx512vl"},
        {feature::avx512dq, "avx512dq"},
        {feature::avx512_vnni, "avx512_vnni"},
        {feature::avx512_bf16, "avx512_bf16"},
        {feature::avx_vnni, "avx_vnni"},
        {feature::asimd, "asimd"},
        {feature::fp16, "fp16"},
        {feature::dotprod, "dotprod"},
        {feature::i8mm, "i8mm"},
        {feature::bf16, "bf16"},
        {feature::sve, "sve"},
    };
    size_t used = 0;
    if (text_bytes > 0) text[0] = 0;
    for (const auto& n : kNames) {
        if (!(features & n.bit)) continue;
        const size_t length = strlen(n.name);
        if (used + length + 2 > text_bytes) return;
        if (used > 0) text[used++] = ' ';
        memcpy(text + used, n.name, length + 1);
        used += length;
    }
}

}  // namespace pillion::cpu
