// Opens a backend in its own shared module, on demand. A module contains its own copy of core's
// plain code and exports one C function. Both sides must be built from the same headers by the same
// compiler; the build id checks that.
#pragma once
#include "core/backend.h"
#include "core/log.h"

namespace pillion {

struct ModuleRequest {
    // of the requesting core; the first field, so that any module can read it
    const char* build_id;
    int32_t device;  // "cuda:1" requests 1, and so does "htp:sim"
    // writes to the requesting core's log sink
    void (*log)(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));
};

// Why a module returns no backend. Plain memory of a fixed size, as between any two builds.
struct ModuleReason { char text[512] = ""; };

// The exported function: extern "C", named kModuleEntry. Returns null with a reason if the device
// is absent.
using ModuleEntry = Backend* (*)(const ModuleRequest* request, ModuleReason* reason);
constexpr const char* kModuleEntry = "pillion_module_backend";

// A hash of core's headers, its version and the compiler (CMakeLists.txt).
const char* build_id();
// For a module: whether it may serve the core that asks. no_backend: another build.
Result<void> check_build(const ModuleRequest& request);
// For a module: its answer as the entry returns it.
Backend* answer(const Result<Backend*>& backend, ModuleReason& reason);

// Whether the device is one of a module: "cuda", "cuda:1", "cuda:sim", "htp", "htp:sim".
bool is_module_device(const std::string& device);
// Returns the backend of such a device.
Result<Backend*> open_module_device(const std::string& device);

}  // namespace pillion
