// Opens the driver by its absolute path before it tries the loader's search. Phones put
// /vendor/lib64 on LD_LIBRARY_PATH for OpenCL and then load the wrong dependencies, and a wrong
// library there must not win. Apps may not open files below /vendor; the plain name at the end is
// for them.
#include "backends/htp/host/htp_driver.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <vector>

namespace pillion::htp {
namespace {

constexpr const char* kFolders[] = {
    "/vendor/lib64/",
    "/system/vendor/lib64/",
    "/odm/lib64/",
    "/system/lib64/",
    "/system_ext/lib64/",  // Android
    "/usr/lib/aarch64-linux-gnu/",
    "/usr/lib64/",
    "/usr/lib/",
    "/usr/local/lib/",
    "/lib64/",  // Linux
};
constexpr const char* kNames[] = {"libcdsprpc.so", "libcdsprpc.so.1"};

template <class F>
bool resolve(void* library, const char* name, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, name));
    return function != nullptr;
}

// Name of the first missing function; null: the library has all of them.
const char* resolve_all(void* library, Driver& d) {
#define PILLION_RESOLVE(name) \
    if (!resolve(library, #name, d.name)) return #name
    PILLION_RESOLVE(rpcmem_alloc);
    PILLION_RESOLVE(rpcmem_free);
    PILLION_RESOLVE(rpcmem_to_fd);
    PILLION_RESOLVE(fastrpc_mmap);
    PILLION_RESOLVE(fastrpc_munmap);
    PILLION_RESOLVE(remote_handle64_open);
    PILLION_RESOLVE(remote_handle64_invoke);
    PILLION_RESOLVE(remote_handle64_close);
    PILLION_RESOLVE(remote_handle64_control);
    PILLION_RESOLVE(remote_handle_control);
    PILLION_RESOLVE(remote_session_control);
    PILLION_RESOLVE(dspqueue_create);
    PILLION_RESOLVE(dspqueue_close);
    PILLION_RESOLVE(dspqueue_export);
    PILLION_RESOLVE(dspqueue_write);
    PILLION_RESOLVE(dspqueue_read);
#undef PILLION_RESOLVE
    (void)resolve(library, "rpcmem_alloc2", d.rpcmem_alloc2);
    return nullptr;
}

// Opens a library and checks that it is the driver.
Result<void> open_at(const std::string& path, Driver& d) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return Failure(Status::no_backend, "%s does not load: %s", path.c_str(), dlerror());
    if (const char* missing = resolve_all(library, d)) {
        dlclose(library);
        return Failure(
            Status::no_backend,
            "%s has no function %s: the system is too old, or the file is something else",
            path.c_str(), missing);
    }
    snprintf(d.path, sizeof d.path, "%s", path.c_str());
    return ok();
}

Result<void> find_driver(Driver& d) {
    if (const char* forced = getenv("PILLION_HTP_DRIVER")) return open_at(forced, d);
    std::optional<Failure> unusable;  // of the last driver that is there
    for (const char* folder : kFolders)
        for (const char* name : kNames) {
            const std::string path = std::string(folder) + name;
            if (access(path.c_str(), F_OK) != 0) continue;
            const Result<void> opened = open_at(path, d);
            if (opened) return opened;
            unusable = opened.failure();
        }
    for (const char* name : kNames)
        if (open_at(name, d)) return ok();
    if (unusable) return *unusable;
    return Failure(Status::no_backend,
                   "no libcdsprpc.so on this machine: it has no Hexagon DSP, or its driver is not "
                   "installed");
}

// The variable that the driver reads. If the newer one is set at all, it replaces the older.
const char* dsp_variable() {
    return getenv("DSP_LIBRARY_PATH") ? "DSP_LIBRARY_PATH" : "ADSP_LIBRARY_PATH";
}

// Folders in the driver's order; in each, files for this DSP come first.
std::vector<std::string> dsp_folders() {
    std::vector<std::string> folders;
    const char* value = getenv(dsp_variable());
    std::string rest = value ? value : "";
    while (!rest.empty()) {
        const size_t end = rest.find(';');
        const std::string folder = rest.substr(0, end);
        if (!folder.empty()) folders.insert(folders.end(), {folder + "/" + kDomainName, folder});
        rest = end == std::string::npos ? "" : rest.substr(end + 1);
    }
    return folders;
}

// The architectures whose libraries lie in a folder: "v73 v75 ".
std::string architectures_in(const std::string& folder) {
    std::string found;
    DIR* dir = opendir(folder.c_str());
    if (!dir) return found;
    while (const dirent* e = readdir(dir)) {
        int arch = 0;
        char name[64];
        if (sscanf(e->d_name, "libpillion_htp_v%d.so", &arch) != 1) continue;
        dsp_library_name(arch, name, sizeof name);
        if (strcmp(name, e->d_name) == 0) found += "v" + std::to_string(arch) + " ";
    }
    closedir(dir);
    return found;
}

}  // namespace

Result<const Driver*> open_driver() {
    static std::mutex mutex;
    static Driver driver;
    static std::string opened_for;
    static bool is_open = false;
    std::lock_guard<std::mutex> lock(mutex);
    const char* forced = getenv("PILLION_HTP_DRIVER");
    if (is_open && opened_for == (forced ? forced : "")) return &driver;
    if (is_open)
        return Failure(Status::no_backend,
                       "the driver %s is in use already, PILLION_HTP_DRIVER came too late",
                       driver.path);
    // A failed attempt is repeated: the variable may be set later.
    const Result<void> found = find_driver(driver);
    is_open = bool(found), opened_for = forced ? forced : "";
    if (!found) return found.failure();
    return &driver;
}

void dsp_library_name(int arch, char* name, size_t bytes) {
    snprintf(name, bytes, "libpillion_htp_v%d.so", arch);
}

Result<void> find_dsp_library(int arch) {
    char name[64];
    dsp_library_name(arch, name, sizeof name);
    const char* variable = dsp_variable();
    const std::vector<std::string> folders = dsp_folders();
    if (folders.empty())
        return Failure(
            Status::no_backend,
            "%s is not set: it must name the folder that holds %s, the program for this device's "
            "DSP",
            variable, name);
    std::string others;
    for (const std::string& f : folders) {
        if (access((f + "/" + name).c_str(), R_OK) == 0) return ok();
        others += architectures_in(f);
    }
    if (others.empty())
        return Failure(Status::no_backend, "%s is in no folder of %s (%s%s)", name, variable,
                       folders[1].c_str(), folders.size() > 2 ? ", ..." : "");
    others.pop_back();
    return Failure(
        Status::no_backend,
        "this device's DSP is of architecture v%d, and %s holds programs for %s only: add %s", arch,
        variable, others.c_str(), name);
}

}  // namespace pillion::htp
