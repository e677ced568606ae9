// Counts the CPUs that this process may use: those online and in its affinity mask, at most as many
// as the CPU quotas of its cgroups pay for.
#pragma once
#include <stddef.h>

#include <functional>
#include <string>

namespace pillion {

struct CpuCount {
    int n = 1;  // at least 1
    // the limit that decided: "a quota of 2.50 CPUs in /sys/fs/cgroup/cpu.max"
    std::string from;
};

// Fills a mask of `bytes` bytes and returns the number of bytes written; -1 with errno on failure.
// EINVAL: the mask is too small.
using AffinityCall = std::function<int(size_t bytes, void* mask)>;

// For tests: `root` is prepended to every file name, and `affinity` replaces the system call.
CpuCount count_cpus(const std::string& root = "", const AffinityCall& affinity = nullptr);

inline int usable_cpus() { return count_cpus().n; }

}  // namespace pillion
