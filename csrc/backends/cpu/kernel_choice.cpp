#include "backends/cpu/kernel_choice.h"

#include <stdlib.h>
#include <string.h>

#include "backends/cpu/cpu_features.h"

namespace pillion::cpu {

static const KernelCandidate kCandidates[] = {
#if defined(__x86_64__)
    {"x86_avx512",
     feature::avx512f | feature::avx512bw | feature::avx512vl | feature::avx512dq |
         feature::avx512_vnni | feature::f16c | feature::fma,
     x86_avx512_table},
    {"x86_avx_vnni", feature::avx2 | feature::fma | feature::f16c | feature::avx_vnni,
     x86_avx_vnni_table},
    {"x86_avx2", feature::avx2 | feature::fma | feature::f16c, x86_avx2_table},
#elif defined(__aarch64__)
    {"arm_i8mm", feature::asimd | feature::fp16 | feature::dotprod | feature::i8mm, arm_i8mm_table},
    {"arm_dotprod", feature::asimd | feature::fp16 | feature::dotprod, arm_dotprod_table},
#endif
    {"generic", 0, generic_table},
};
constexpr int kCandidateCount = int(sizeof kCandidates / sizeof kCandidates[0]);

const KernelCandidate* kernel_candidates(int* n) {
    *n = kCandidateCount;
    return kCandidates;
}

bool can_run(const KernelCandidate& candidate) { return (candidate.needs & ~cpu_features()) == 0; }

Result<const KernelTable*> find_kernels(const char* name) {
    const bool any = !name || !*name;
    for (const KernelCandidate& c : kCandidates) {
        if (any ? !can_run(c) : strcmp(c.name, name) != 0) continue;
        if (!can_run(c)) {
            char missing[256];
            feature_names(c.needs & ~cpu_features(), missing, sizeof missing);
            return Failure(Status::invalid_argument,
                           "PILLION_CPU_ISA: this machine cannot run the kernels '%s': it lacks %s",
                           name, missing);
        }
        return c.table();
    }
    char known[256] = "";
    for (const KernelCandidate& c : kCandidates) {
        if (*known) strcat(known, ", ");
        strcat(known, c.name);
    }
    return Failure(Status::invalid_argument,
                   "PILLION_CPU_ISA: no kernels are named '%.64s' (this build has %s)", name,
                   known);
}

Result<const KernelTable*> choose_kernels() {
    static const Result<const KernelTable*> choice = find_kernels(getenv("PILLION_CPU_ISA"));
    return choice;
}

}  // namespace pillion::cpu
