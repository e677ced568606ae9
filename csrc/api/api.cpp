// Library-wide calls and the helpers of the error boundary.
#include <string.h>
#include <unistd.h>

#include "api/handles.h"
#include "backends/cpu/cpu_backend.h"
#include "core/json.h"
#include "core/log.h"

using namespace pillion;

static_assert(int(Status::context_full) == PILLION_ERROR_CONTEXT_FULL &&
                  int(Status::file_not_found) == PILLION_ERROR_FILE_NOT_FOUND &&
                  int(Status::pairing) == PILLION_ERROR_PAIRING &&
                  int(Status::no_backend) == PILLION_ERROR_NO_BACKEND &&
                  int(Status::device_lost) == PILLION_ERROR_DEVICE_LOST &&
                  int(Status::cancelled) == PILLION_ERROR_CANCELLED &&
                  int(Status::internal) == PILLION_ERROR_INTERNAL &&
                  int(Status::buffer_too_small) == PILLION_ERROR_BUFFER_TOO_SMALL,
              "core/error.h and pillion.h number alike");

namespace pillion::api {
namespace {

thread_local char g_last_error[1024];

// The one place that knows which backends are linked in.
const bool g_registered = [] {
    register_backend("cpu", cpu::make_cpu_backend);
    return true;
}();

}  // namespace

void set_last_error(const char* sentence) {
    snprintf(g_last_error, sizeof g_last_error, "%s", sentence);
}

void init_config(void* config, size_t size) {
    const uint32_t struct_size = uint32_t(size);
    if (!config || size < sizeof struct_size) return;
    memset(config, 0, size);
    memcpy(config, &struct_size, sizeof struct_size);
}

void copy_config(void* ours, size_t our_size, const void* theirs, const char* name) {
    uint32_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size)
        fail(Status::invalid_argument, "%s: struct_size %u was not set", name, size);
    const auto* bytes = static_cast<const uint8_t*>(theirs);
    for (size_t i = our_size; i < size; i++)
        if (bytes[i] != 0)
            fail(Status::invalid_argument,
                 "%s: struct_size %u has fields that this version (%zu bytes) does not know", name,
                 size, our_size);
    memcpy(ours, theirs, size < our_size ? size : our_size);
}

void write_info(void* theirs, size_t size, const void* ours, size_t our_size) {
    if (!theirs) fail(Status::invalid_argument, "info is NULL");
    memcpy(theirs, ours, size < our_size ? size : our_size);
    const uint32_t filled = uint32_t(size < our_size ? size : our_size);
    if (size >= sizeof filled) memcpy(theirs, &filled, sizeof filled);
}

void write_bytes(const char* from, size_t n, char* out, size_t capacity, size_t* needed) {
    if (needed) *needed = n;
    if (n > capacity || (n > 0 && !out))
        fail(Status::buffer_too_small, "%zu bytes needed, the buffer has %zu", n,
             out ? capacity : 0);
    if (n > 0) memcpy(out, from, n);
}

void write_text(const std::string& text, char* out, size_t capacity, size_t* needed) {
    write_bytes(text.data(), text.size(), out, capacity, needed);
}

void write_tokens(const int32_t* from, size_t n, int32_t* out, size_t capacity, size_t* needed) {
    if (needed) *needed = n;
    if (n > capacity || (n > 0 && !out))
        fail(Status::buffer_too_small, "%zu tokens needed, the buffer has %zu", n,
             out ? capacity : 0);
    if (n > 0) memcpy(out, from, n * sizeof *from);
}

}  // namespace pillion::api

using namespace pillion::api;

extern "C" {

uint32_t pillion_abi_version(void) { return PILLION_ABI_VERSION; }
const char* pillion_version(void) { return PILLION_VERSION; }
const char* pillion_last_error(void) { return g_last_error; }

pillion_status pillion_set_log(pillion_log_callback callback, void* user) {
    return guard([&] {
        static std::atomic<pillion_log_callback> current{
            nullptr};  // the sink below needs the C signature
        set_log_sink(
            nullptr,
            nullptr);  // after this no message is in flight, so callback and user change together
        current = callback;
        if (callback)
            set_log_sink([](LogLevel level, const char* text,
                            void* u) { current.load()(int32_t(level), text, u); },
                         user);
    });
}

pillion_status pillion_device_json(const char* device, char* out, size_t capacity, size_t* needed) {
    return guard([&] {
        const Backend& b = find_backend(&need(device, "device"));
        const MemoryInfo m = b.memory();
        JsonObject memory, json;
        memory.add("total", m.total).add("free", m.free).add("unified", m.unified);
        json.add("name", b.name())
            .add("is_host", b.is_host())
            .add("memory", memory)
            .add("info", b.info_json());
        write_text(json.text(), out, capacity, needed);
    });
}

pillion_status pillion_system_json(char* out, size_t capacity, size_t* needed) {
    return guard([&] {
        const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        JsonObject json;
        json.add("version", PILLION_VERSION)
            .add("cpu", find_backend("cpu").info_json())
            .add("backends", backends_json())
            .add("memory_bytes", int64_t(pages) * page);
        write_text(json.text(), out, capacity, needed);
    });
}

}  // extern "C"
