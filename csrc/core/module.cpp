#include "core/module.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace pillion {
namespace {

struct Name {
    const char* file = nullptr;
    int device = 0;
};

// Parses "cuda", "cuda:<number>", "htp", and the emulations of development builds.
Name parse(const std::string& device) {
    if (device == "htp") return {"libpillion_htp.so", 0};
    if (device == "htp:sim") return {"libpillion_htp.so", 1};
    if (device == "cuda") return {"libpillion_cuda.so", 0};
    if (device == "cuda:sim") return {"libpillion_cuda_sim.so", 0};
    if (device.compare(0, 5, "cuda:") != 0 || device.size() == 5 || device.size() > 8) return {};
    if (device.find_first_not_of("0123456789", 5) != std::string::npos) return {};
    return {"libpillion_cuda.so", atoi(device.c_str() + 5)};
}

// The folder of the library or Python module that holds this code.
std::string own_folder() {
    Dl_info info = {};
    if (!dladdr(reinterpret_cast<void*>(&open_module_device), &info) || !info.dli_fname) return ".";
    const std::string path = info.dli_fname;
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

Result<ModuleEntry> load(const char* file) {
    const std::string folder = own_folder(), path = folder + "/" + file;
    if (access(path.c_str(), F_OK) != 0)
        return Failure(Status::no_backend, "its module %s is not installed in %s", file,
                       folder.c_str());
    // Never closed: backends live as long as the process.
    void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!module) return Failure(Status::no_backend, "its module does not load: %s", dlerror());
    const auto entry = reinterpret_cast<ModuleEntry>(dlsym(module, kModuleEntry));
    if (!entry)
        return Failure(Status::no_backend, "%s has no function %s", path.c_str(), kModuleEntry);
    return entry;
}

}  // namespace

const char* build_id() { return PILLION_BUILD_ID; }

Result<void> check_build(const ModuleRequest& request) {
    if (strcmp(request.build_id, build_id()) == 0) return ok();
    return Failure(Status::no_backend,
                   "its module belongs to another build (%s) than this library (%s)", build_id(),
                   request.build_id);
}

Backend* answer(const Result<Backend*>& backend, ModuleReason& reason) {
    if (backend) return *backend;
    snprintf(reason.text, sizeof reason.text, "%s", backend.failure().sentence());
    return nullptr;
}

bool is_module_device(const std::string& device) { return parse(device).file != nullptr; }

Result<Backend*> open_module_device(const std::string& device) {
    const Name name = parse(device);
    const Result<ModuleEntry> entry = load(name.file);
    if (!entry) return entry.failure();
    const ModuleRequest request = {build_id(), name.device, log};
    ModuleReason reason;
    if (Backend* backend = (*entry)(&request, &reason)) return backend;
    return Failure(Status::no_backend, "%s", reason.text);
}

}  // namespace pillion
