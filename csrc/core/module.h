// A backend in a shared module of its own, opened on demand. The module is compiled with its own
// copy of core's plain code and exports one C function; both sides must come from the same headers
// and compiler, which the build id says.
#pragma once
#include "core/backend.h"
#include "core/log.h"

namespace pillion {

struct ModuleRequest {
    const char* build_id;  // of the core that asks; first, so that any module can read it
    int32_t device;        // "cuda:1" asks for 1, "htp:sim" too
    void (*log)(LogLevel level, const char* format, ...)
        __attribute__((format(printf, 2, 3)));  // into that core's sink
};

// The exported function: extern "C", named kModuleEntry. Null with a reason: not on this machine.
using ModuleEntry = Backend* (*)(const ModuleRequest* request, Reason* reason);
constexpr const char* kModuleEntry = "pillion_module_backend";

// What core's headers, its version and the compiler hash to (CMakeLists.txt).
const char* build_id();
// For a module: whether it may serve the core that asks. False, with a reason: another build.
bool is_same_build(const ModuleRequest& request, Reason& reason);

// The backend of a device that a module serves ("cuda", "cuda:1", "cuda:sim", "htp", "htp:sim").
// Null with a reason. `known` tells such a name from one that no module is for.
Backend* open_module_device(const std::string& device, bool& known, Reason& reason);

}  // namespace pillion
