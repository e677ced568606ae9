// How many CPUs this process may use: those that are online and in its affinity mask, no more than
// the CPU quotas of its cgroups pay for.
#pragma once
#include <stddef.h>

#include <functional>
#include <string>

namespace pillion {

struct CpuCount {
    int n = 1;         // at least 1
    std::string from;  // what decided: "a quota of 2.50 CPUs in /sys/fs/cgroup/cpu.max"
};

// Fills a mask of so many bytes and returns how many of them it wrote; -1 with errno: EINVAL says
// that the mask is too small.
using AffinityCall = std::function<int(size_t bytes, void* mask)>;

// `root` is put before every file name, and `affinity` stands for the system's call: a test gives a
// tree and a mask of its own.
CpuCount count_cpus(const std::string& root = "", const AffinityCall& affinity = nullptr);

inline int usable_cpus() { return count_cpus().n; }

}  // namespace pillion
