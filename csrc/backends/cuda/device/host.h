// Host side of a kernel call: device memory, launch, device limits. Same interface for a GPU
// and for the CPU emulation, so a test is written once and runs on both.
#pragma once

#include "backends/cuda/device/device.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pillion::cuda {

struct DeviceLimits {
    size_t shared_optin;     // largest shared memory of one block, bytes
    int    sm_count;
};

#ifdef __CUDACC__

using stream_t = cudaStream_t;

inline void check(cudaError_t e, const char * what) {
    if (e != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(e));
}
inline DeviceLimits device_limits() {
    int dev = 0, shared = 0, sms = 0;
    check(cudaGetDevice(&dev), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, dev), "shared memory limit");
    check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, dev), "multiprocessor count");
    return {size_t(shared), sms};
}
inline void * device_alloc(size_t n) { void * p = nullptr; check(cudaMalloc(&p, n ? n : 1), "cudaMalloc"); return p; }
inline void device_free(void * p) { cudaFree(p); }
inline void to_device(void * d, const void * h, size_t n) { check(cudaMemcpy(d, h, n, cudaMemcpyHostToDevice), "copy to device"); }
inline void to_host(void * h, const void * d, size_t n) { check(cudaMemcpy(h, d, n, cudaMemcpyDeviceToHost), "copy to host"); }

template <class... P, class... A>
inline void launch(const char * name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, stream_t stream, A &&... args) {
    if (shared > 48 * 1024)
        check(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), name);
    kernel<<<grid, block, shared, stream>>>(static_cast<P>(std::forward<A>(args))...);
    check(cudaGetLastError(), name);
}

#else

using stream_t = void *;

inline DeviceLimits device_limits() { return {sim::config().shared_limit_optin, 8}; }
inline void * device_alloc(size_t n) {
    void * p = nullptr;                       // exact size: AddressSanitizer sees every overrun
    if (posix_memalign(&p, 256, n ? n : 1)) throw std::bad_alloc();
    std::memset(p, 0xff, n);
    return p;
}
inline void device_free(void * p) { std::free(p); }
inline void to_device(void * d, const void * h, size_t n) { std::memcpy(d, h, n); }
inline void to_host(void * h, const void * d, size_t n) { std::memcpy(h, d, n); }

template <class... P, class... A>
inline void launch(const char * name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, stream_t, A &&... args) {
    sim::launch(name, grid, block, shared, [=] { kernel(static_cast<P>(args)...); });
}

#endif

// PILLION_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
// Put the kernel in parentheses when its template arguments contain commas.
#define PILLION_LAUNCH(kernel, ...) ::pillion::cuda::launch(#kernel, kernel, __VA_ARGS__)

// Owning device array.
template <class T> class Buffer {
public:
    explicit Buffer(size_t n) : p_(static_cast<T *>(device_alloc(n * sizeof(T)))), n_(n) {}
    explicit Buffer(const std::vector<T> & v) : Buffer(v.size()) { if (n_) to_device(p_, v.data(), n_ * sizeof(T)); }
    Buffer(const Buffer &) = delete;
    Buffer & operator=(const Buffer &) = delete;
    ~Buffer() { device_free(p_); }
    T * get() const { return p_; }
    size_t size() const { return n_; }
    std::vector<T> host() const {
        std::vector<T> v(n_);
        if (n_) to_host(v.data(), p_, n_ * sizeof(T));
        return v;
    }
private:
    T * p_;
    size_t n_;
};

}  // namespace pillion::cuda
