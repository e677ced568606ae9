// The source of HVX: the compiler (Hexagon) or plain C (any PC). Also the loads and stores of rows.
#ifndef PILLION_HVX_H
#define PILLION_HVX_H

#ifdef __hexagon__
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#ifdef HTP_F32_PLACEHOLDER
#include "backends/htp/dsp/hvx/hvx_placeholder.h"
#endif
#else
#include "backends/htp/dsp/hvx/hvx_host.h"
#endif

#include <stdint.h>

// A call loses all vector registers, so functions on vectors are always inlined.
#define HVX_INLINE static inline __attribute__((always_inline))

static inline uint32_t bits_of(float f) {
    uint32_t u;
    __builtin_memcpy(&u, &f, 4);
    return u;
}
static inline float float_of(uint32_t u) {
    float f;
    __builtin_memcpy(&f, &u, 4);
    return f;
}

// The compiler moves no loads across this and does not schedule across it. Overlapping them would
// need more vector registers than the machine has.
#define HVX_FENCE() __asm__ volatile("" : : : "memory")

// Unrolls loops of constant length on the device; its compiler would otherwise keep their vectors
// in memory. On a PC they live in memory anyway, and unrolling whole kernels takes its compiler
// minutes.
#ifdef __hexagon__
#define HVX_UNROLL_TEXT(text) _Pragma(#text)
#define HVX_UNROLL(n) HVX_UNROLL_TEXT(GCC unroll n)
#else
#define HVX_UNROLL(n)
#endif

// --- memory: `at` is aligned to 128 bytes, or unaligned (`_u`) ---

#ifdef __hexagon__
HVX_INLINE HVX_Vector hvx_load(const void* at) { return *(const HVX_Vector*)at; }
HVX_INLINE HVX_Vector hvx_load_u(const void* at) { return *(const HVX_UVector*)at; }
HVX_INLINE void hvx_store(void* at, HVX_Vector v) { *(HVX_Vector*)at = v; }
HVX_INLINE void hvx_store_u(void* at, HVX_Vector v) { *(HVX_UVector*)at = v; }
#else
HVX_INLINE HVX_Vector hvx_load_u(const void* at) {
    HVX_Vector v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}
HVX_INLINE void hvx_store_u(void* at, HVX_Vector v) { __builtin_memcpy(at, &v, sizeof v); }
HVX_INLINE HVX_Vector hvx_load(const void* at) {
    return hvx_load_u(__builtin_assume_aligned(at, 128));
}
HVX_INLINE void hvx_store(void* at, HVX_Vector v) {
    hvx_store_u(__builtin_assume_aligned(at, 128), v);
}
#endif

// Prefetches lines into L2. Returns at once; unmapped addresses are ignored. The argument is the
// height, width and stride of a box of bytes.
HVX_INLINE void hvx_fetch_ahead(const void* at, uint32_t bytes) {
#ifdef __hexagon__
    const uint32_t lines = (bytes + 127) / 128;
    const uint64_t box =
        (uint64_t)128 << 32 | (uint64_t)128 << 16 | (lines < 0xffff ? lines : 0xffff);
    __asm__ volatile("l2fetch(%0,%1)" : : "r"(at), "r"(box));
#else
    (void)at, (void)bytes;
#endif
}

// Stores the first `n` bytes, 1..127, of a vector. Through memory: only the end of a row needs a
// masked store.
HVX_INLINE void hvx_store_bytes(void* at, HVX_Vector v, uint32_t n) {
    uint8_t whole[128] __attribute__((aligned(128)));
    hvx_store(whole, v);
    __builtin_memcpy(at, whole, n);
}

// Lane i holds i.
static const int32_t hvx_lane_numbers[32]
    __attribute__((aligned(128))) = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                     11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
HVX_INLINE HVX_Vector hvx_lanes(void) { return hvx_load(hvx_lane_numbers); }

// Lanes first .. first + count - 1 of v, `other` elsewhere. first may be negative, count any
// number.
HVX_INLINE HVX_Vector hvx_keep_lanes(HVX_Vector v, HVX_Vector other, int32_t first, int32_t count) {
    const HVX_Vector i = hvx_lanes();
    v = Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(i, Q6_V_vsplat_R(first - 1)), v, other);
    return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(Q6_V_vsplat_R(first + count), i), v, other);
}

#endif
