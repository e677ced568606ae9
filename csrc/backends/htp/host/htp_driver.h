// libcdsprpc, Qualcomm's user-space driver, opened at run time. Only the functions that pillion
// calls. The numbers and layouts are the driver's ABI.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/result.h"

namespace pillion::htp {

// --- the driver's ABI: remote.h, rpcmem.h and dspqueue.h of the public FastRPC project
// (docs/hexagon_driver.md) ---

constexpr int kDomainCdsp = 3;
constexpr const char* kDomainName = "cdsp";

constexpr int kHeapSystem = 25;
constexpr uint32_t kHeapFlags = 1;

enum SessionRequest : uint32_t {
    kRequestUnsigned = 2,
    kRequestKill = 6,
    kRequestReserveSession = 13,
    kRequestUri = 15
};
enum HandleRequest : uint32_t { kRequestLatency = 1, kRequestDspInfo = 2 };
enum DspAttribute : uint32_t { kAttributeUnsigned = 1, kAttributeArch = 6 };
enum MapFlags : int { kMapFd = 2 };
enum BufferFlags : uint32_t { kFlushSender = 0x10, kInvalidateRecipient = 0x80 };
enum Code : int {
    kEExpired = 0x0C,
    kENoSuch = 39,
    kEInterrupted = 46,
    kEConnReset = 104,
    kEWouldBlock = 516
};

struct UnsignedModule { int domain, enable; };
struct DspCapability { uint32_t domain, attribute, capability; };
struct Latency { uint32_t enable, microseconds; };
struct ProcessKill { int domain; };
struct ReserveSession {
    const char* domain_name;
    uint32_t domain_name_length;
    const char* session_name;
    uint32_t session_name_length;
    uint32_t effective_domain, session;  // the driver fills these in
};
struct SessionUri {
    const char* domain_name;
    uint32_t domain_name_length;
    uint32_t session;
    const char* module_uri;
    uint32_t module_uri_length;
    char* uri;  // the driver fills this in
    uint32_t uri_length;
};
union RemoteArgument {
    struct {
        void* data;
        size_t bytes;
    } buffer;
    uint64_t handle;
};
// The code of a call of one method with n_in input and n_out output buffers.
constexpr uint32_t remote_scalars(uint32_t method, uint32_t n_in, uint32_t n_out) {
    return method << 24 | n_in << 16 | n_out << 8;
}

struct QueueBuffer {
    uint32_t fd, size, offset, flags;
    uint64_t address;
};
using QueueCallback = void (*)(void* queue, int error, void* context);

// --- the library ---

struct Driver {
    char path[256];  // of the opened library

    void* (*rpcmem_alloc)(int heap, uint32_t flags, int bytes);
    // null on older systems
    void* (*rpcmem_alloc2)(int heap, uint32_t flags, size_t bytes);
    void (*rpcmem_free)(void* memory);
    int (*rpcmem_to_fd)(void* memory);
    int (*fastrpc_mmap)(int domain, int fd, void* address, int offset, size_t bytes, int flags);
    int (*fastrpc_munmap)(int domain, int fd, void* address, size_t bytes);
    int (*remote_handle64_open)(const char* uri, uint64_t* handle);
    int (*remote_handle64_invoke)(uint64_t handle, uint32_t scalars, RemoteArgument* arguments);
    int (*remote_handle64_close)(uint64_t handle);
    int (*remote_handle64_control)(uint64_t handle, uint32_t request, void* data, uint32_t bytes);
    int (*remote_handle_control)(uint32_t request, void* data, uint32_t bytes);
    int (*remote_session_control)(uint32_t request, void* data, uint32_t bytes);
    int (*dspqueue_create)(int domain, uint32_t flags, uint32_t request_bytes,
                           uint32_t response_bytes, QueueCallback packet, QueueCallback error,
                           void* context, void** queue);
    int (*dspqueue_close)(void* queue);
    int (*dspqueue_export)(void* queue, uint64_t* id);
    int (*dspqueue_write)(void* queue, uint32_t flags, uint32_t n_buffers, QueueBuffer* buffers,
                          uint32_t message_bytes, const uint8_t* message, uint32_t timeout_us);
    int (*dspqueue_read)(void* queue, uint32_t* flags, uint32_t buffers_max, uint32_t* n_buffers,
                         QueueBuffer* buffers, uint32_t message_max, uint32_t* message_bytes,
                         uint8_t* message, uint32_t timeout_us);
};

// Opens the driver once for the process; no_backend if it is absent. PILLION_HTP_DRIVER names
// another library.
Result<const Driver*> open_driver();

// Whether a folder of ADSP_LIBRARY_PATH holds the DSP library of an architecture
// ("libpillion_htp_v75.so"); else no_backend.
Result<void> find_dsp_library(int arch);
void dsp_library_name(int arch, char* name, size_t bytes);

}  // namespace pillion::htp
