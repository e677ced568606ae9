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
Status report(int index, cudaError_t e, const char* what, Reason& reason) {
    cudaGetLastError();
    if (is_lost(index, reason)) return Status::device_lost;
    reason.set("device %d, %s: %s (%d): %s", index, what, cudaGetErrorName(e), int(e),
               cudaGetErrorString(e));
    if (loses_device(e)) lose_device(index, reason.text), (void)is_lost(index, reason);
    return status_of(e);
}

int attribute(cudaDeviceAttr what, int index) {
    int value = 0;
    return cudaDeviceGetAttribute(&value, what, index) == cudaSuccess ? value : 0;
}

}  // namespace

Status find_device(int index, DeviceInfo& info, Reason& reason) {
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        reason.set("no NVIDIA driver, or one that is too old for CUDA %d.%d", CUDART_VERSION / 1000,
                   CUDART_VERSION % 1000 / 10);
    } else if (e == cudaErrorNoDevice || (e == cudaSuccess && n == 0)) {
        reason.set("the driver sees no NVIDIA GPU");
    } else if (e != cudaSuccess) {
        reason.set("the driver does not start: %s (%d): %s", cudaGetErrorName(e), int(e),
                   cudaGetErrorString(e));
    } else if (index >= n) {
        reason.set("there is no device %d, the driver sees %d", index, n);
    } else {
        cudaDeviceProp p;
        if (const cudaError_t why = cudaGetDeviceProperties(&p, index); why != cudaSuccess) {
            (void)report(index, why, "properties", reason);
            return Status::no_backend;
        }
        if (p.major < kOldestMajor) {
            reason.set("%s has compute capability %d.%d, %d.0 is the oldest supported", p.name,
                       p.major, p.minor, kOldestMajor);
            return Status::no_backend;
        }
        snprintf(info.name, sizeof info.name, "%.127s", p.name);
        info.major = p.major, info.minor = p.minor, info.memory_bytes = p.totalGlobalMem;
        info.limits = {size_t(p.sharedMemPerBlockOptin), p.multiProcessorCount};
        info.reads_pageable = attribute(cudaDevAttrPageableMemoryAccess, index) != 0;
        info.unified = p.integrated != 0 && attribute(cudaDevAttrManagedMemory, index) != 0;
        return Status::ok;
    }
    cudaGetLastError();  // the runtime repeats an error until it is read
    return Status::no_backend;
}

void memory_now(int index, size_t& total, size_t& free) {
    if (is_lost(index) || cudaSetDevice(index) != cudaSuccess ||
        cudaMemGetInfo(&free, &total) != cudaSuccess)
        total = free = 0;
    cudaGetLastError();
}

void make_unwritten(uint8_t*, size_t) {}

std::unique_ptr<Memory> Memory::allocate(int index, size_t bytes, MemoryKind kind, Status& status,
                                         Reason& reason) {
    if (is_lost(index, reason)) return status = Status::device_lost, nullptr;
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    status = Status::out_of_memory;
    if (!m) return reason.set("no memory for %zu bytes", bytes), nullptr;
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
    if (e == cudaSuccess) return status = Status::ok, std::move(m);
    status = report(index, e, "memory", reason);
    size_t free = 0, total = 0;
    if (status == Status::out_of_memory) memory_now(index, total, free);
    if (total > 0)
        reason.set("no memory for %zu bytes, the device has %zu of %zu free", bytes, free, total);
    return nullptr;
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
    if (!m || cudaSetDevice(index) != cudaSuccess) return nullptr;
    m->index_ = index, m->owned_ = false;
    m->host_ = m->device_ = static_cast<uint8_t*>(const_cast<void*>(host));
    if (attribute(cudaDevAttrPageableMemoryAccess, index)) return m;
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

std::unique_ptr<Stream> Stream::create(int index, Status& status, Reason& reason) {
    if (is_lost(index, reason)) return status = Status::device_lost, nullptr;
    std::unique_ptr<Stream> s(new (std::nothrow) Stream);
    cudaStream_t handle = nullptr;
    cudaError_t e = s ? cudaSetDevice(index) : cudaErrorMemoryAllocation;
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking);
    if (e == cudaSuccess) {
        s->index_ = index, s->handle_ = handle;
        return status = Status::ok, std::move(s);
    }
    return status = report(index, e, "stream", reason), nullptr;
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

Status Stream::wait(Reason& reason) {
    if (!failed())
        if (const cudaError_t e = cudaStreamSynchronize(static_cast<cudaStream_t>(handle_));
            e != cudaSuccess)
            fail_call(int(e), "run");
    return take_error(reason);
}

void Stream::fail(Status status, const char* what, const char* why) {
    if (failed()) return;
    status_ = status;
    reason_.set("device %d, %s: %s", index_, what, why);
}

void Stream::fail_call(int error, const char* what) {
    Reason reason;
    const Status status = report(index_, cudaError_t(error), what, reason);
    if (status_ == Status::ok) status_ = status, reason_ = reason;
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
