// Every level of a cgroup's path may have a quota, so the code reads all levels and takes the
// least. A quota of 2.5 CPUs gives two threads: the kernel would stop a third one for a part of
// every period, and the others would wait for it.
#include "core/cpu_count.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pillion {
namespace {

// In bytes. The minimum holds 1,024 CPUs; the maximum holds more than any kernel is built for.
constexpr size_t kMaskMin = 128, kMaskMax = size_t(1) << 20;

int system_affinity(size_t bytes, void* mask) {
#ifdef __linux__
    return int(syscall(SYS_sched_getaffinity, 0, bytes, mask));
#else
    (void)bytes, (void)mask;
    return errno = ENOSYS, -1;
#endif
}

// Number of CPUs in the affinity mask; 0: unknown. The kernel refuses a mask shorter than its own.
int affinity_cpus(const AffinityCall& call) {
    for (size_t bytes = kMaskMin; bytes <= kMaskMax; bytes *= 2) {
        std::vector<unsigned char> mask(bytes);
        const int written = call(bytes, mask.data());
        if (written < 0 && errno == EINVAL) continue;
        int n = 0;
        for (int i = 0; i < std::min(written, int(bytes)); i++)
            n += __builtin_popcount(mask[size_t(i)]);
        return n;
    }
    return 0;
}

// Number of CPUs in a list like "0-3,8,10-11"; 0: not such a list.
int list_cpus(const std::string& text) {
    int n = 0;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        int first = 0, last = 0;
        const int got = sscanf(item.c_str(), "%d-%d", &first, &last);
        if (got < 1) return 0;
        if (got == 1) last = first;
        if (first < 0 || last < first || last - first >= 1 << 20) return 0;
        n += last - first + 1;
    }
    return n;
}

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// The mount point of a cgroup hierarchy, and the folder of it that the mount shows.
struct Mount {
    std::string point, shows;
    bool is_v2 = false;
};

// mountinfo writes a space in a name as \040.
std::string unescaped(const std::string& text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        const bool escape =
            text[i] == '\\' && i + 3 < text.size() && strspn(text.c_str() + i + 1, "01234567") >= 3;
        out += escape ? char(strtol(text.substr(i + 1, 3).c_str(), nullptr, 8)) : text[i];
        if (escape) i += 3;
    }
    return out;
}

bool has_word(const std::string& list, const char* word) {
    std::istringstream words(list);
    for (std::string w; std::getline(words, w, ',');)
        if (w == word) return true;
    return false;
}

// Lines are "id parent device shows point options [tags] - type source super-options".
std::vector<Mount> cgroup_mounts(const std::string& root) {
    std::vector<Mount> mounts;
    std::ifstream file(root + "/proc/self/mountinfo");
    for (std::string line; std::getline(file, line);) {
        const size_t bar = line.find(" - ");
        if (bar == std::string::npos) continue;
        std::string id, parent, device, type, source, options;
        Mount m;
        std::istringstream(line.substr(0, bar)) >> id >> parent >> device >> m.shows >> m.point;
        std::istringstream(line.substr(bar + 3)) >> type >> source >> options;
        m.is_v2 = type == "cgroup2";
        if (!m.is_v2 && (type != "cgroup" || !has_word(options, "cpu"))) continue;
        m.point = unescaped(m.point), m.shows = unescaped(m.shows);
        mounts.push_back(m);
    }
    return mounts;
}

// This process's folder in the hierarchy; "": it has none. Lines are "number:controllers:path"; v2
// leaves the controllers empty.
std::string cgroup_path(const std::string& root, bool is_v2) {
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        const size_t first = line.find(':'),
                     second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (is_v2 ? controllers.empty() : has_word(controllers, "cpu"))
            return line.substr(second + 1);
    }
    return "";
}

// The path below the mount point. Inside a container, the mount may show the container's own folder
// as the root, or the path may be unknown there.
std::string below_mount(std::string path, const std::string& shows) {
    if (shows != "/") {
        const bool inside = path.compare(0, shows.size(), shows) == 0 &&
                            (path.size() == shows.size() || path[shows.size()] == '/');
        path = inside ? path.substr(shows.size()) : "";
    }
    if (path.find("/..") != std::string::npos) path.clear();
    while (!path.empty() && path.back() == '/') path.pop_back();
    return path;
}

// Number of CPUs that a folder's quota pays for; infinite without a quota. Both numbers in the file
// are microseconds.
double quota_in(const std::string& folder, bool is_v2, std::string& name) {
    long long quota = 0, period = 0;
    if (is_v2) {
        name = "cpu.max";
        if (sscanf(first_line(folder + "/cpu.max").c_str(), "%lld %lld", &quota, &period) != 2)
            return INFINITY;  // "max 100000"
    } else {
        name = "cpu.cfs_quota_us";
        quota = atoll(first_line(folder + "/cpu.cfs_quota_us").c_str());
        period = atoll(first_line(folder + "/cpu.cfs_period_us").c_str());
    }
    return quota > 0 && period > 0 ? double(quota) / double(period) : INFINITY;
}

// The least quota between the process's folder and the mount point.
double least_quota(const std::string& root, std::string& from) {
    double least = INFINITY;
    for (const Mount& m : cgroup_mounts(root)) {
        const std::string path = cgroup_path(root, m.is_v2);
        if (path.empty()) continue;
        for (std::string below = below_mount(path, m.shows);; below.resize(below.rfind('/'))) {
            std::string name;
            const std::string folder = m.point + below;
            const double quota = quota_in(root + folder, m.is_v2, name);
            if (quota < least) least = quota, from = folder + "/" + name;
            if (below.empty()) break;
        }
    }
    return least;
}

}  // namespace

CpuCount count_cpus(const std::string& root, const AffinityCall& affinity) {
    CpuCount count;
    count.n = affinity_cpus(affinity ? affinity : system_affinity);
    count.from = "the CPUs of the affinity mask";
    const int online = list_cpus(first_line(root + "/sys/devices/system/cpu/online"));
    if (online > 0 && (count.n == 0 || online < count.n))
        count.n = online, count.from = "the CPUs that are online";
    if (count.n == 0)
        count.n = int(std::thread::hardware_concurrency()), count.from = "the CPUs of the machine";
    count.n = std::max(1, count.n);
    std::string file;
    const double quota = least_quota(root, file);
    if (quota < count.n) {
        char text[64];
        snprintf(text, sizeof text, "a quota of %.2f CPUs in ", quota);
        count.n = std::max(1, int(quota)), count.from = text + file;
    }
    return count;
}

}  // namespace pillion
