// runtime.h over the CUDA runtime, which is linked statically and looks for the driver at its first
// call.
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <new>

#include "backends/cuda/device/runtime.h"

namespace pillion::cuda {
namespace {

constexpr int kOldestMajor = 8;  // ldmatrix, cp.async, mma m16n8k16

// True for errors after which every call of the process on that device returns the same error.
bool loses_device(cudaError_t e) {
    switch (e) {
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorContextIsDestroyed:
        case cudaErrorCudartUnloading:
        case cudaErrorExternalDevice:
        case cudaErrorUnknown: return true;
        default: break;
    }
    switch (int(e)) {  // by number: CUDA 12.6 lacks some of the names
        case 226:      // cudaErrorContained
        case 721:      // cudaErrorTensorMemoryLeak
        case 810:      // cudaErrorMpsClientTerminated
            return true;
        default: return false;
    }
}

Status status_of(cudaError_t e) {
    if (loses_device(e)) return Status::device_lost;
    switch (e) {
        case cudaSuccess: return Status::ok;
        case cudaErrorMemoryAllocation: return Status::out_of_memory;
        case cudaErrorInsufficientDriver:
        case cudaErrorNoDevice:
        case cudaErrorInvalidDevice:
        case cudaErrorDevicesUnavailable:
        case cudaErrorInitializationError:
        case cudaErrorSystemNotReady:
        case cudaErrorSystemDriverMismatch: return Status::no_backend;
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorInvalidDeviceFunction:
        case cudaErrorUnsupportedPtxVersion:
        case cudaErrorNotSupported: return Status::unsupported_op;
        default: return Status::internal;
    }
}

// Makes a sentence like "device 0, copy: cudaErrorInvalidValue (1): invalid argument". Takes the
// error from the runtime, which repeats it until it is read, and records a lost device.
Failure report(int index, cudaError_t e, const char* what) {
    cudaGetLastError();
    if (const Result<void> there = check_device(index); !there) return there.failure();
    const Failure failure(status_of(e), "device %d, %s: %s (%d): %s", index, what,
                          cudaGetErrorName(e), int(e), cudaGetErrorString(e));
    if (!loses_device(e)) return failure;
    lose_device(index, failure.sentence());
    const Result<void> lost = check_device(index);
    return lost ? failure : lost.failure();  // ok: a device number past lost.h's
}

int attribute(cudaDeviceAttr what, int index) {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, what, index) == cudaSuccess) return value;
    cudaGetLastError();  // else the next launch would report it as its own
    return 0;
}

}  // namespace

Result<DeviceInfo> find_device(int index) {
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    cudaGetLastError();  // the runtime repeats an error until it is read
    if (e == cudaErrorInsufficientDriver)
        return Failure(Status::no_backend,
                       "no NVIDIA driver, or one that is too old for CUDA %d.%d",
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && n == 0))
        return Failure(Status::no_backend, "the driver sees no NVIDIA GPU");
    if (e != cudaSuccess)
        return Failure(Status::no_backend, "the driver does not start: %s (%d): %s",
                       cudaGetErrorName(e), int(e), cudaGetErrorString(e));
    if (index >= n)
        return Failure(Status::no_backend, "there is no device %d, the driver sees %d", index, n);
    cudaDeviceProp p;
    if (const cudaError_t why = cudaGetDeviceProperties(&p, index); why != cudaSuccess)
        return report(index, why, "properties").as(Status::no_backend);
    if (p.major < kOldestMajor)
        return Failure(Status::no_backend,
                       "%s has compute capability %d.%d, %d.0 is the oldest supported", p.name,
                       p.major, p.minor, kOldestMajor);
    DeviceInfo info;
    snprintf(info.name, sizeof info.name, "%.127s", p.name);
    info.major = p.major, info.minor = p.minor, info.memory_bytes = p.totalGlobalMem;
    info.limits = {size_t(p.sharedMemPerBlockOptin), p.multiProcessorCount};
    info.unified = p.integrated != 0 && attribute(cudaDevAttrManagedMemory, index) != 0;
    return info;
}

void memory_now(int index, size_t& total, size_t& free) {
    if (is_lost(index) || cudaSetDevice(index) != cudaSuccess ||
        cudaMemGetInfo(&free, &total) != cudaSuccess)
        total = free = 0;
    cudaGetLastError();
}

void make_unwritten(uint8_t*, size_t) {}

Result<std::unique_ptr<Memory>> Memory::allocate(int index, size_t bytes, MemoryKind kind) {
    if (const Result<void> there = check_device(index); !there) return there.failure();
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    if (!m) return Failure(Status::out_of_memory, "no memory for %zu bytes", bytes);
    m->index_ = index, m->kind_ = kind, m->bytes_ = bytes;
    void* p = nullptr;
    cudaError_t e = cudaSetDevice(index);
    if (e == cudaSuccess && kind == MemoryKind::device)
        e = cudaMalloc(&p, bytes), m->device_ = static_cast<uint8_t*>(p);
    // Attached to the host: the host may write it while other streams' kernels run, also if the
    // device cannot share memory at the same time. Page-locked memory would need no hand-over, but
    // Tegra's GPUs do not cache it, and tiles read weights more than once.
    if (e == cudaSuccess && kind == MemoryKind::shared) {
        e = cudaMallocManaged(&p, bytes, cudaMemAttachHost);
        m->host_ = m->device_ = static_cast<uint8_t*>(p);
    }
    if (e == cudaSuccess && kind == MemoryKind::mapped) {
        e = cudaHostAlloc(&p, bytes, cudaHostAllocMapped);
        m->host_ = static_cast<uint8_t*>(p);
        if (e == cudaSuccess)
            e = cudaHostGetDevicePointer(&p, m->host_, 0), m->device_ = static_cast<uint8_t*>(p);
    }
    if (e == cudaSuccess) return m;
    const Failure failure = report(index, e, "memory");
    size_t free = 0, total = 0;
    if (failure.code() == Status::out_of_memory) memory_now(index, total, free);
    if (total == 0) return failure;
    return Failure(Status::out_of_memory, "no memory for %zu bytes, the device has %zu of %zu free",
                   bytes, free, total);
}

void Memory::give_to_device(Stream& stream) {
    if (kind_ != MemoryKind::shared || !host_ || stream.failed()) return;
    const cudaError_t e = cudaStreamAttachMemAsync(static_cast<cudaStream_t>(stream.handle_),
                                                   device_, 0, cudaMemAttachGlobal);
    if (e != cudaSuccess) return stream.fail_call(int(e), "shared memory");
    // Other streams may read it first.
    if (const cudaError_t done = cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle_));
        done != cudaSuccess)
        return stream.fail_call(int(done), "shared memory");
    host_ = nullptr;
}

std::unique_ptr<Memory> Memory::lend(int index, const void* host, size_t bytes) {
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    if (!m || cudaSetDevice(index) != cudaSuccess) return cudaGetLastError(), nullptr;
    m->index_ = index, m->owned_ = false;
    m->host_ = m->device_ = static_cast<uint8_t*>(const_cast<void*>(host));
    // Only where the device walks the host's page tables. Elsewhere pageable memory is reached by
    // faults of the device, tens of microseconds each, and a file cut short takes the device away.
    if (attribute(cudaDevAttrPageableMemoryAccessUsesHostPageTables, index)) return m;
    // Whole pages. Tables that share a page request it twice, and the driver refuses the second
    // request.
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE)), begin = uintptr_t(host) / page * page;
    const size_t whole = (uintptr_t(host) + bytes - begin + page - 1) / page * page;
    const unsigned flags =
        cudaHostRegisterMapped |
        (attribute(cudaDevAttrHostRegisterReadOnlySupported, index) ? cudaHostRegisterReadOnly : 0);
    void* const first = reinterpret_cast<void*>(begin);
    void* p = nullptr;
    if (cudaHostRegister(first, whole, flags) != cudaSuccess) return cudaGetLastError(), nullptr;
    m->registered_ = first;
    if (cudaHostGetDevicePointer(&p, first, 0) != cudaSuccess) return cudaGetLastError(), nullptr;
    m->device_ = static_cast<uint8_t*>(p) + (uintptr_t(host) - begin);
    return m;
}

// A lost device reports its error here too; the destructor ignores it.
Memory::~Memory() {
    cudaSetDevice(index_);
    if (registered_) cudaHostUnregister(registered_);
    if (owned_ && kind_ == MemoryKind::mapped && host_) cudaFreeHost(host_);
    else if (owned_ && device_) cudaFree(device_);
    cudaGetLastError();
}

Result<std::unique_ptr<Stream>> Stream::create(int index) {
    if (const Result<void> there = check_device(index); !there) return there.failure();
    std::unique_ptr<Stream> s(new (std::nothrow) Stream);
    cudaStream_t handle = nullptr;
    cudaError_t e = s ? cudaSetDevice(index) : cudaErrorMemoryAllocation;
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking);
    if (e != cudaSuccess) return report(index, e, "stream");
    s->index_ = index, s->handle_ = handle;
    s->multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount, index);
    return s;
}

Stream::~Stream() {
    companion_.reset();
    if (handle_) cudaStreamDestroy(static_cast<cudaStream_t>(handle_));
    cudaGetLastError();
}

void Stream::make_current() {
    if (const cudaError_t e = cudaSetDevice(index_); e != cudaSuccess) fail_call(int(e), "device");
}

void Stream::copy(void* to, const void* from, size_t bytes) {
    if (failed() || bytes == 0) return;
    const cudaError_t e =
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(handle_));
    if (e != cudaSuccess) fail_call(int(e), "copy");
}

Result<void> Stream::wait() {
    if (!failed())
        if (const cudaError_t e = cudaStreamSynchronize(static_cast<cudaStream_t>(handle_));
            e != cudaSuccess)
            fail_call(int(e), "run");
    return take_failure();
}

void Stream::fail(Status status, const char* what, const char* why) {
    if (failed()) return;
    failure_.emplace(status, "device %d, %s: %s", index_, what, why);
}

void Stream::fail_call(int error, const char* what) {
    const Failure failure = report(index_, cudaError_t(error), what);
    if (!failure_) failure_ = failure;
}

void Stream::run(const std::function<void()>& launch) { launch(); }

void Replay::begin(Stream& s) {
    if (s.failed()) return;
    const cudaError_t e = cudaStreamBeginCapture(static_cast<cudaStream_t>(s.handle_),
                                                 cudaStreamCaptureModeThreadLocal);
    if (e != cudaSuccess) s.fail_call(int(e), "capture");
}

std::unique_ptr<Replay> Replay::end(Stream& s) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t e = cudaStreamEndCapture(static_cast<cudaStream_t>(s.handle_), &graph);
    if (e == cudaSuccess && !s.failed()) e = cudaGraphInstantiate(&executable, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (e != cudaSuccess) s.fail_call(int(e), "capture");
    std::unique_ptr<Replay> replay(executable ? new (std::nothrow) Replay : nullptr);
    if (replay) replay->graph_ = executable;
    else if (executable)
        cudaGraphExecDestroy(executable), s.fail(Status::out_of_memory, "capture", "no memory");
    return replay;
}

Replay::~Replay() {
    if (graph_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph_));
    cudaGetLastError();
}

void Replay::launch(Stream& s) const {
    if (s.failed()) return;
    const cudaError_t e =
        cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_), static_cast<cudaStream_t>(s.handle_));
    if (e != cudaSuccess) s.fail_call(int(e), "replay");
}

}  // namespace pillion::cuda
