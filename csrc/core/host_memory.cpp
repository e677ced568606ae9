#include <stdio.h>

#include "core/backend.h"

namespace pillion {

MemoryInfo host_memory() {
    MemoryInfo info;
    info.unified = true;
    FILE* f = fopen("/proc/meminfo", "r");
    if (!f) return info;
    char line[128];
    unsigned long long kb = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %llu", &kb) == 1) info.total = size_t(kb) * 1024;
        else if (sscanf(line, "MemAvailable: %llu", &kb) == 1) info.free = size_t(kb) * 1024;
    }
    fclose(f);
    return info;
}

}  // namespace pillion
