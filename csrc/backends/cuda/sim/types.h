// CPU versions of the CUDA value types and scalar intrinsics that pillion's kernels use. Included
// only if the compiler is not nvcc. Names follow the CUDA headers, so that a kernel source needs no
// conditional code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// ---- dimensions and vectors ---------------------------------------------------------------
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 { unsigned x, y, z; };

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(4) char4 { signed char x, y, z, w; };

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline char4 make_char4(signed char x, signed char y, signed char z, signed char w) {
    return {x, y, z, w};
}

namespace pillion::cuda {
namespace sim {

template <class To, class From>
inline To bit_cast(const From& v) {
    static_assert(sizeof(To) == sizeof(From), "size mismatch");
    To r;
    std::memcpy(&r, &v, sizeof r);
    return r;
}

// binary16 -> binary32, exact for every input. The exponent is moved by an exact power of
// two multiplication, which also normalises half subnormals.
inline float half_bits_to_float(uint16_t h) {
    const uint32_t magnitude = uint32_t(h & 0x7fffu) << 13;
    const uint32_t sign = uint32_t(h & 0x8000u) << 16;
    uint32_t r;
    if ((h & 0x7c00u) == 0x7c00u) {
        r = magnitude | 0x7f800000u;  // inf or NaN
    } else {
        r = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
    }
    return bit_cast<float>(r | sign);
}

// binary32 -> binary16, round to nearest even.
inline uint16_t float_to_half_bits(float f) {
    const uint32_t bits = bit_cast<uint32_t>(f);
    const uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
    const uint32_t mag = bits & 0x7fffffffu;
    if (mag > 0x7f800000u) return sign | 0x7fffu;           // NaN
    if (mag >= 0x477ff000u) return sign | 0x7c00u;          // rounds to infinity
    if (mag < 0x38800000u) {                                // subnormal result
        const float aligned = bit_cast<float>(mag) + 0.5f;  // one ulp of 0.5f is 2^-24
        return sign | uint16_t(bit_cast<uint32_t>(aligned) - 0x3f000000u);
    }
    const uint32_t rounded = mag + 0x0fffu + ((mag >> 13) & 1u);
    return sign | uint16_t((rounded - 0x38000000u) >> 13);
}

inline float bf16_bits_to_float(uint16_t b) { return bit_cast<float>(uint32_t(b) << 16); }
inline uint16_t float_to_bf16_bits(float f) {
    const uint32_t bits = bit_cast<uint32_t>(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t((bits >> 16) | 0x40u);
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace sim
}  // namespace pillion::cuda

// ---- half ---------------------------------------------------------------------------------
struct __half {
    uint16_t bits;
    __half() = default;
    __half(float f) : bits(pillion::cuda::sim::float_to_half_bits(f)) {}
    operator float() const { return pillion::cuda::sim::half_bits_to_float(bits); }
};
struct alignas(4) __half2 { __half x, y; };
typedef __half half;
typedef __half2 half2;

inline float __half2float(__half h) { return float(h); }
inline __half __float2half(float f) { return __half(f); }
inline __half __float2half_rn(float f) { return __half(f); }
inline __half __ushort_as_half(unsigned short u) {
    __half h;
    h.bits = u;
    return h;
}
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
inline __half2 __float22half2_rn(float2 f) { return {__half(f.x), __half(f.y)}; }
inline __half2 __float2half2_rn(float f) { return {__half(f), __half(f)}; }
inline float2 __half22float2(__half2 h) { return {float(h.x), float(h.y)}; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
inline float __low2float(__half2 h) { return float(h.x); }
inline float __high2float(__half2 h) { return float(h.y); }

// Add, subtract, multiply and divide are correctly rounded: binary32 has more than twice the
// precision of binary16. The fused operation goes through binary64 and binary32 and can differ
// from hardware by one unit in the last place in rare double-rounding cases.
inline __half __hadd(__half a, __half b) { return __half(float(a) + float(b)); }
inline __half __hsub(__half a, __half b) { return __half(float(a) - float(b)); }
inline __half __hmul(__half a, __half b) { return __half(float(a) * float(b)); }
inline __half __hdiv(__half a, __half b) { return __half(float(a) / float(b)); }
inline __half __hfma(__half a, __half b, __half c) {
    return __half(float(double(float(a)) * double(float(b)) + double(float(c))));
}
inline __half __hmax(__half a, __half b) { return __half(std::fmax(float(a), float(b))); }
inline __half __hmin(__half a, __half b) { return __half(std::fmin(float(a), float(b))); }
inline __half __hneg(__half a) {
    a.bits ^= 0x8000u;
    return a;
}
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hsub2(__half2 a, __half2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __half2 __hmax2(__half2 a, __half2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }

// ---- bfloat16 -----------------------------------------------------------------------------
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : bits(pillion::cuda::sim::float_to_bf16_bits(f)) {}
    operator float() const { return pillion::cuda::sim::bf16_bits_to_float(bits); }
};
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline float __bfloat162float(__nv_bfloat16 b) { return float(b); }
inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {float(b.x), float(b.y)}; }

// ---- integer and float intrinsics -----------------------------------------------------------
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i) c += int(int8_t(a >> (8 * i))) * int(int8_t(b >> (8 * i)));
    return c;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline float __int_as_float(int i) { return pillion::cuda::sim::bit_cast<float>(i); }
inline int __float_as_int(float f) { return pillion::cuda::sim::bit_cast<int>(f); }
inline float __uint_as_float(unsigned i) { return pillion::cuda::sim::bit_cast<float>(i); }
inline unsigned __float_as_uint(float f) { return pillion::cuda::sim::bit_cast<unsigned>(f); }
inline int __float2int_rn(float f) { return int(std::nearbyint(f)); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class T>
inline T __ldg(const T* p) {
    return *p;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }

// Blocks may run on several OS threads, so device-wide atomics must be real atomics.
inline int atomicAdd(int* p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicAdd(unsigned* p, unsigned v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
inline float atomicAdd(float* p, float v) {
    auto* ip = reinterpret_cast<uint32_t*>(p);
    uint32_t old = __atomic_load_n(ip, __ATOMIC_RELAXED), next;
    do {
        next = pillion::cuda::sim::bit_cast<uint32_t>(pillion::cuda::sim::bit_cast<float>(old) + v);
    } while (
        !__atomic_compare_exchange_n(ip, &old, next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return pillion::cuda::sim::bit_cast<float>(old);
}
inline int atomicMax(int* p, int v) {
    int old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
