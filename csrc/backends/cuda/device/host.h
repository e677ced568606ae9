// Starts kernels, by one macro for a GPU and for the emulation. .cu files and test runners include
// it, plain C++ never.
#pragma once

#include "backends/cuda/device/device.h"
#include "backends/cuda/device/runtime.h"
#ifndef __CUDACC__
#include "backends/cuda/sim/faults.h"
#endif

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pillion::cuda {

#ifdef __CUDACC__

inline void check(cudaError_t e, const char* what) {
    if (e != cudaSuccess)
        throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(e));
}

template <class... P, class... A>
inline void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                   stream_t stream, A&&... args) {
    if (stream && stream->failed()) return;
    cudaError_t e = cudaSuccess;
    if (shared > 48 * 1024)
        e = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (e == cudaSuccess) {
        kernel<<<grid, block, shared,
                 stream ? static_cast<cudaStream_t>(stream->handle()) : nullptr>>>(
            static_cast<P>(std::forward<A>(args))...);
        e = cudaGetLastError();
    }
    if (e == cudaSuccess) return;
    if (!stream) check(e, name);  // test runners
    stream->fail_call(int(e), name);
}

// True if this binary holds the kernel for the current device and a block with this much shared
// memory can be resident.
template <class... P>
inline bool can_launch(void (*kernel)(P...), int threads, size_t shared) {
    cudaFuncAttributes attributes;
    const void* f = reinterpret_cast<const void*>(kernel);
    int blocks = 0;
    cudaError_t e = cudaFuncGetAttributes(&attributes, f);
    if (e == cudaSuccess && shared > 48 * 1024)
        e = cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (e == cudaSuccess)
        e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, threads, shared);
    if (e != cudaSuccess) cudaGetLastError();
    return e == cudaSuccess && blocks > 0;
}

// Leaves a failure (unsupported_op) in the stream if this binary does not hold the kernel for the
// current device.
template <class... P>
inline void probe_code(void (*kernel)(P...), stream_t stream) {
    cudaFuncAttributes attributes;
    const cudaError_t e = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel));
    if (e != cudaSuccess) stream->fail_call(int(e), "kernels");
}

inline DeviceLimits device_limits() {
    int dev = 0, shared = 0, sms = 0;
    check(cudaGetDevice(&dev), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, dev),
          "shared memory limit");
    check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, dev),
          "multiprocessor count");
    return {size_t(shared), sms};
}
inline void* device_alloc(size_t n) {
    void* p = nullptr;
    check(cudaMalloc(&p, n ? n : 1), "cudaMalloc");
    // Unwritten memory shows as NaN.
    check(cudaMemset(p, 0xff, n ? n : 1), "cudaMemset");
    return p;
}
inline void device_free(void* p) { cudaFree(p); }
inline void to_device(void* d, const void* h, size_t n) {
    check(cudaMemcpy(d, h, n, cudaMemcpyHostToDevice), "copy to device");
}
inline void to_host(void* h, const void* d, size_t n) {
    check(cudaMemcpy(h, d, n, cudaMemcpyDeviceToHost), "copy to host");
}

#else

template <class... P, class... A>
inline void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                   stream_t stream, A&&... args) {
    if (stream && stream->failed()) return;
    const auto run = [=] {
        if (stream) sim::Faults::get().launch(name);
        sim::launch(name, grid, block, shared, [=] { kernel(static_cast<P>(args)...); });
    };
    if (!stream) return run();
    if (stream->recording()) stream->recording()->push_back(run);
    else stream->run(run);
}

template <class... P>
inline bool can_launch(void (*)(P...), int threads, size_t shared) {
    return threads <= int(sim::config().max_threads) && shared <= sim::config().shared_limit_optin;
}

template <class... P>
inline void probe_code(void (*)(P...), stream_t stream) {
    if (sim::Faults::get().number("code="))
        stream->fail(Status::unsupported_op, "kernels", "they were made to be absent");
}

inline DeviceLimits device_limits() { return {sim::config().shared_limit_optin, 8}; }
inline void* device_alloc(size_t n) {
    // The exact size, so that AddressSanitizer sees every overrun.
    void* p = nullptr;
    if (posix_memalign(&p, 256, n ? n : 1)) throw std::bad_alloc();
    std::memset(p, 0xff, n);
    return p;
}
inline void device_free(void* p) { std::free(p); }
inline void to_device(void* d, const void* h, size_t n) { std::memcpy(d, h, n); }
inline void to_host(void* h, const void* d, size_t n) { std::memcpy(h, d, n); }

#endif

// PILLION_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
// Put the kernel in parentheses when its template arguments contain commas.
#define PILLION_LAUNCH(kernel, ...) ::pillion::cuda::launch(#kernel, kernel, __VA_ARGS__)

// A device array of a test runner; throws on errors.
template <class T>
class Buffer {
  public:
    explicit Buffer(size_t n) : p_(static_cast<T*>(device_alloc(n * sizeof(T)))), n_(n) {}
    explicit Buffer(const std::vector<T>& v) : Buffer(v.size()) {
        if (n_) to_device(p_, v.data(), n_ * sizeof(T));
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { device_free(p_); }
    T* get() const { return p_; }
    size_t size() const { return n_; }
    std::vector<T> host() const {
        std::vector<T> v(n_);
        if (n_) to_host(v.data(), p_, n_ * sizeof(T));
        return v;
    }

  private:
    T* p_;
    size_t n_;
};

}  // namespace pillion::cuda
