#include "core/backend.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/fork.h"
#include "core/module.h"

namespace pillion {
namespace {

struct Entry {
    const char* name;
    BackendFactory factory;
    Backend* backend;  // made on first use, lives as long as the process
};

ForkMutex g_mutex;
// Never destroyed, like the backends: a program may free a handle after its static objects.
std::vector<Entry>& entries() {
    static auto* const list = new std::vector<Entry>;
    return *list;
}

Result<Backend*> open(Entry& e) {
    if (e.backend) return e.backend;
    // Repeats a failed attempt: its cause may be an environment variable that has changed since.
    const Result<Backend*> made = e.factory();
    if (made) e.backend = *made;
    return made;
}

// Devices of opened modules, by their requested names. Plain data: a fork() may copy it while a
// thread writes.
struct Opened {
    char name[16];
    Backend* backend;
};
constexpr int kOpenedMax = 64;
Opened g_opened[kOpenedMax];
int g_n_opened = 0;

// The device modules. A driver that a process has used does not work in forks of that process, for
// any of its devices.
struct Driver {
    const char* name;  // device names: this, or this and a colon
    // 0: unused; else fork_count() + 1 of the process that uses the driver
    uint32_t user;
    pid_t process;
} g_drivers[] = {{"cuda", 0, 0}, {"htp", 0, 0}};

Driver* driver_of(const std::string& device) {
    for (Driver& d : g_drivers)
        if (device.compare(0, device.find(':'), d.name) == 0) return &d;
    return nullptr;
}

// name: is_module_device.
Result<Backend*> open_module(const std::string& name) {
    // One device has one backend: code compares backends to see whether they share memory.
    const std::string device = name == "cuda:0" ? "cuda" : name;
    const uint32_t here = fork_count() + 1;
    Driver* const driver = driver_of(device);
    if (driver && driver->user != 0 && driver->user != here)
        return Failure(
            Status::no_backend,
            "process %d uses its driver, and this one was forked from it: open the device in the "
            "child only, or start processes by \"spawn\"",
            int(driver->process));
    for (int i = 0; i < g_n_opened; i++)
        if (device == g_opened[i].name) return g_opened[i].backend;
    const uint32_t before = driver ? driver->user : 0;
    if (driver) driver->process = getpid(), driver->user = here;
    const Result<Backend*> backend = open_module_device(device);
    if (driver && !backend) driver->user = before;
    if (backend && g_n_opened < kOpenedMax) {
        snprintf(g_opened[g_n_opened].name, sizeof g_opened[0].name, "%s", device.c_str());
        g_opened[g_n_opened].backend = *backend;
        g_n_opened++;
    }
    return backend;
}

// A CUDA device if one is present. The search runs once: a process that began without a device
// stays without. A device that a fork() made unusable is an error, because the CPU would be another
// device than the parent's.
Backend* best_device() {
    static bool looked = false, found = false;
    if (looked && !found) return nullptr;
    const Result<Backend*> best = open_module("cuda");
    if (looked && !best) fail(Status::no_backend, "device \"cuda\": %s", best.failure().sentence());
    found = bool(best), looked = true;
    return found ? *best : nullptr;
}

Json availability_json(const char* name, const Result<Backend*>& backend) {
    JsonObject out;
    out.add("name", name).add("available", bool(backend));
    return backend ? out.add("info", (*backend)->info_json())
                   : out.add("reason", backend.failure().sentence());
}

// `device` is the name for the sentence.
Backend& backend_or_throw(const Result<Backend*>& backend, const char* device) {
    if (!backend)
        fail(Status::no_backend, "device \"%s\": %s", device, backend.failure().sentence());
    return **backend;
}

}  // namespace

void register_backend(const char* name, BackendFactory factory) {
    const ForkLock lock(g_mutex);
    for (const Entry& e : entries())
        if (std::string(e.name) == name) return;
    entries().push_back({name, factory, nullptr});
}

Backend& find_backend(const std::string& asked) {
    const ForkLock lock(g_mutex);
    const bool automatic = asked == "auto" || asked.empty();
    if (automatic)
        if (Backend* b = best_device()) return *b;
    const std::string device = automatic ? "cpu" : asked;
    std::string known;
    for (Entry& e : entries()) {
        if (device == e.name) return backend_or_throw(open(e), e.name);
        known += known.empty() ? e.name : std::string(", ") + e.name;
    }
    if (is_module_device(device)) return backend_or_throw(open_module(device), device.c_str());
    fail(Status::no_backend, "device \"%s\" is not built into this library (it has: auto, %s)",
         device.c_str(), known.c_str());
}

Json backends_json() {
    const ForkLock lock(g_mutex);
    JsonArray out;
    for (Entry& e : entries()) out.add(availability_json(e.name, open(e)));
    for (const Driver& driver : g_drivers)
        out.add(availability_json(driver.name, open_module(driver.name)));
    return out;
}

Json Plan::to_json() const {
    JsonArray out;
    for (const StepInfo& s : steps()) {
        JsonObject step;
        step.add("op", s.op == Op::count ? "" : info(s.op).name)
            .add("layer", s.layer)
            .add("backend", s.backend)
            .add("kernel", s.kernel);
        if (s.session >= 0) step.add("session", s.session);
        out.add(step);
    }
    return out;
}

// Default: makes the plan. For backends whose plans take no memory before they run.
Result<size_t> Backend::plan_bytes(const Graph& graph, Queue& queue,
                                   const CompileOptions& options) {
    const Result<std::unique_ptr<Plan>> plan = compile(graph, queue, options);
    if (!plan) return plan.failure();
    return (*plan)->scratch_bytes();
}

// Default for memory that the host sees: the host copies it.
Result<void> Backend::read(const Buffer& from, size_t offset, size_t bytes, void* to) {
    if (!from.host())
        return Failure(Status::internal,
                       "backend %s keeps this buffer where the host can't read it", name());
    memcpy(to, from.host() + offset, bytes);
    return ok();
}

Result<void> Backend::write(const void* from, size_t bytes, Buffer& to, size_t offset) {
    if (!to.host())
        return Failure(Status::internal,
                       "backend %s keeps this buffer where the host can't write it", name());
    memcpy(to.host() + offset, from, bytes);
    return ok();
}

}  // namespace pillion
