// The only header that a pillion kernel includes besides mma.h. The same source compiles with nvcc
// for a GPU and with any C++17 compiler for the CPU emulation.
//
// Restricted style, which both compilers accept:
//   * blocks have a multiple of 32 threads; warp collectives take PILLION_FULL_MASK;
//   * shared memory is declared with PILLION_SHARED / PILLION_DYNAMIC_SHARED and passed to
//     helper functions as pillion::cuda::smem<T>;
//   * kernels are started with pillion::cuda::launch or PILLION_LAUNCH (host.h), never with <<<>>>;
//   * all threads of a block reach the same barriers, all lanes of a warp the same collectives.
#pragma once

#define PILLION_FULL_MASK 0xffffffffu

#ifdef __CUDACC__
// ---- nvcc ----
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define PILLION_UNROLL _Pragma("unroll")
#define PILLION_SHARED(T, name, n) __shared__ __align__(16) T name[n]
#define PILLION_DYNAMIC_SHARED(T, name)                                   \
    extern __shared__ __align__(16) unsigned char pillion_dynamic_smem[]; \
    ::pillion::cuda::smem<T> name = reinterpret_cast<T*>(pillion_dynamic_smem)

namespace pillion::cuda {

template <class T>
using smem = T*;

template <class U, class T>
__device__ __forceinline__ smem<U> shared_cast(T* p) {
    return reinterpret_cast<U*>(p);
}

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// 16-byte asynchronous copy from global to shared memory; both addresses 16-byte aligned.
template <class T>
__device__ __forceinline__ void cp_async16(T* dst, const void* src) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(dst)), "l"(src)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

}  // namespace pillion::cuda

#else
// ---- CPU ----
#ifndef PILLION_SIM
// A program has kernels of one kind only.
#error "compile with nvcc (-x cu), or with -DPILLION_SIM for the CPU emulation"
#endif
#include "backends/cuda/sim/sim.h"

#define PILLION_UNROLL
#define PILLION_SHARED(T, name, n)                                 \
    static const char pillion_key_##name = 0;                      \
    ::pillion::cuda::smem<T> name = ::pillion::cuda::sim::as_smem( \
        ::pillion::cuda::sim::shared_array<T>(&pillion_key_##name, n))
#define PILLION_DYNAMIC_SHARED(T, name) \
    ::pillion::cuda::smem<T> name =     \
        ::pillion::cuda::sim::as_smem(::pillion::cuda::sim::shared_dynamic<T>())

namespace pillion::cuda {

#if PILLION_SIM_CHECK
template <class T>
using smem = sim::View<T>;
namespace sim {
template <class T>
inline View<T> as_smem(View<T> v) {
    return v;
}
}  // namespace sim

template <class U, class T>
inline smem<U> shared_cast(sim::View<T> v) {
    return {reinterpret_cast<U*>(v.raw()), v.lower(), v.upper()};
}

template <class T>
inline void cp_async16(sim::View<T> dst, const void* src) {
    sim::copy_async(reinterpret_cast<unsigned char*>(
                        shared_cast<uint4>(dst).check(reinterpret_cast<uint4*>(dst.raw()))),
                    src);
}
#else
template <class T>
using smem = T*;
namespace sim {
template <class T>
inline T* as_smem(View<T> v) {
    return v.raw();
}
}  // namespace sim
template <class U, class T>
inline smem<U> shared_cast(T* p) {
    return reinterpret_cast<U*>(p);
}
template <class T>
inline void cp_async16(T* dst, const void* src) {
    sim::copy_async(reinterpret_cast<unsigned char*>(dst), src);
}
#endif
inline void cp_async_commit() { sim::copy_commit(); }
template <int N>
inline void cp_async_wait() {
    sim::copy_wait(N);
}

}  // namespace pillion::cuda
#endif

// ---- shared helpers ----
namespace pillion::cuda {

static __device__ __forceinline__ float warp_sum(float v) {
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32);
    return v;
}
static __device__ __forceinline__ float warp_max(float v) {
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32));
    return v;
}

// Eight halves in one 16-byte load.
union Half8 {
    uint4 v;
    half2 h[4];
};

}  // namespace pillion::cuda
