// HVX intrinsics in plain C, for running DSP code on any PC under a debugger and sanitizers. It
// contains only the intrinsics that the ops use.
//
// __HVX_ARCH__ 67 (default) behaves like the emulator: float vectors lane by lane, exact IEEE, the
// same bits as under qemu-hexagon. 73 takes the device's float path with qf32 values kept as
// ordinary floats. This tests its control flow and data movement, but not its last-bit rounding.
#ifndef PILLION_HVX_HOST_H
#define PILLION_HVX_HOST_H

#include <stdint.h>
#include <string.h>

#ifndef __HVX_ARCH__
#define __HVX_ARCH__ 67
#endif

typedef union {
    int8_t b[128];
    uint8_t ub[128];
    int16_t h[64];
    uint16_t uh[64];
    int32_t w[32];
    uint32_t uw[32];
    float f[32];
} __attribute__((aligned(128))) HVX_Vector;

typedef struct { HVX_Vector v[2]; } HVX_VectorPair;

typedef struct {
    // all ones or zero; predicates here are always of words
    uint32_t w[32];
} HVX_VectorPred;

#define HVX_FN static inline __attribute__((always_inline)) HVX_Vector
#define HVX_W(e)                       \
    do {                               \
        HVX_Vector r;                  \
        for (int i = 0; i < 32; i++) { \
            e;                         \
        }                              \
        return r;                      \
    } while (0)
#define HVX_H(e)                       \
    do {                               \
        HVX_Vector r;                  \
        for (int i = 0; i < 64; i++) { \
            e;                         \
        }                              \
        return r;                      \
    } while (0)
#define HVX_B(e)                        \
    do {                                \
        HVX_Vector r;                   \
        for (int i = 0; i < 128; i++) { \
            e;                          \
        }                               \
        return r;                       \
    } while (0)

HVX_FN Q6_V_vzero(void) { HVX_W(r.w[i] = 0); }
HVX_FN Q6_V_vsplat_R(int32_t x) { HVX_W(r.w[i] = x); }
HVX_FN Q6_V_vand_VV(HVX_Vector a, HVX_Vector b) { HVX_W(r.w[i] = a.w[i] & b.w[i]); }
HVX_FN Q6_V_vor_VV(HVX_Vector a, HVX_Vector b) { HVX_W(r.w[i] = a.w[i] | b.w[i]); }
HVX_FN Q6_V_vxor_VV(HVX_Vector a, HVX_Vector b) { HVX_W(r.w[i] = a.w[i] ^ b.w[i]); }
HVX_FN Q6_Vw_vadd_VwVw(HVX_Vector a, HVX_Vector b) { HVX_W(r.uw[i] = a.uw[i] + b.uw[i]); }
HVX_FN Q6_Vw_vsub_VwVw(HVX_Vector a, HVX_Vector b) { HVX_W(r.uw[i] = a.uw[i] - b.uw[i]); }
HVX_FN Q6_Vw_vmax_VwVw(HVX_Vector a, HVX_Vector b) {
    HVX_W(r.w[i] = a.w[i] > b.w[i] ? a.w[i] : b.w[i]);
}
HVX_FN Q6_Vw_vmin_VwVw(HVX_Vector a, HVX_Vector b) {
    HVX_W(r.w[i] = a.w[i] < b.w[i] ? a.w[i] : b.w[i]);
}
HVX_FN Q6_Vuw_vlsr_VuwR(HVX_Vector a, int n) { HVX_W(r.uw[i] = a.uw[i] >> n); }
HVX_FN Q6_Vw_vasl_VwR(HVX_Vector a, int n) { HVX_W(r.uw[i] = a.uw[i] << n); }
HVX_FN Q6_Vw_vasr_VwR(HVX_Vector a, int n) { HVX_W(r.w[i] = a.w[i] >> n); }
HVX_FN Q6_Vuh_vlsr_VuhR(HVX_Vector a, int n) { HVX_H(r.uh[i] = (uint16_t)(a.uh[i] >> n)); }
HVX_FN Q6_V_vror_VR(HVX_Vector a, int n) { HVX_B(r.b[i] = a.b[(i + n) & 127]); }

static inline int32_t Q6_R_vextract_VR(HVX_Vector a, int byte) { return a.w[(byte & 127) >> 2]; }

static inline __attribute__((always_inline)) HVX_VectorPred Q6_Q_vcmp_gt_VwVw(HVX_Vector a,
                                                                              HVX_Vector b) {
    HVX_VectorPred q;
    for (int i = 0; i < 32; i++) q.w[i] = a.w[i] > b.w[i] ? 0xFFFFFFFFu : 0;
    return q;
}
HVX_FN Q6_V_vmux_QVV(HVX_VectorPred q, HVX_Vector a, HVX_Vector b) {
    HVX_W(r.uw[i] = (a.uw[i] & q.w[i]) | (b.uw[i] & ~q.w[i]));
}

// Interleaves the two halves of a vector.
HVX_FN Q6_Vh_vshuff_Vh(HVX_Vector a) { HVX_H(r.h[i] = a.h[i / 2 + 32 * (i % 2)]); }
HVX_FN Q6_Vb_vshuff_Vb(HVX_Vector a) { HVX_B(r.b[i] = a.b[i / 2 + 64 * (i % 2)]); }

// Byte i of the index picks byte 2i of the table; indices are below 32 here.
HVX_FN Q6_Vb_vlut32_VbVbR(HVX_Vector index, HVX_Vector table, int which) {
    (void)which;
    HVX_B(r.ub[i] = index.ub[i] < 32 ? table.ub[2 * index.ub[i]] : 0);
}

HVX_FN Q6_Vw_vasracc_VwVwR(HVX_Vector acc, HVX_Vector a, int n) {
    HVX_W(r.uw[i] = acc.uw[i] + (uint32_t)(a.w[i] >> n));
}

// Multiplies four unsigned bytes of each lane by the four signed bytes of a scalar register.
HVX_FN Q6_Vw_vrmpyacc_VwVubRb(HVX_Vector acc, HVX_Vector a, int32_t x) {
    const int32_t x0 = (int8_t)x, x1 = (int8_t)(x >> 8), x2 = (int8_t)(x >> 16),
                  x3 = (int8_t)(x >> 24);
    HVX_W(r.w[i] = acc.w[i] + (int32_t)(a.uw[i] & 255) * x0 + (int32_t)(a.uw[i] >> 8 & 255) * x1 +
                   (int32_t)(a.uw[i] >> 16 & 255) * x2 + (int32_t)(a.uw[i] >> 24) * x3);
}
HVX_FN Q6_Vw_vrmpy_VbVb(HVX_Vector a, HVX_Vector b) {
    HVX_W(r.w[i] = a.b[4 * i] * b.b[4 * i] + a.b[4 * i + 1] * b.b[4 * i + 1] +
                   a.b[4 * i + 2] * b.b[4 * i + 2] + a.b[4 * i + 3] * b.b[4 * i + 3]);
}

HVX_FN Q6_Vh_vpack_VwVw_sat(HVX_Vector hi, HVX_Vector lo) {
    HVX_Vector r;
    for (int i = 0; i < 64; i++) {
        const int32_t x = i < 32 ? lo.w[i] : hi.w[i - 32];
        r.h[i] = (int16_t)(x > 32767 ? 32767 : x < -32768 ? -32768 : x);
    }
    return r;
}
HVX_FN Q6_Vb_vpack_VhVh_sat(HVX_Vector hi, HVX_Vector lo) {
    HVX_Vector r;
    for (int i = 0; i < 128; i++) {
        const int32_t x = i < 64 ? lo.h[i] : hi.h[i - 64];
        r.b[i] = (int8_t)(x > 127 ? 127 : x < -128 ? -128 : x);
    }
    return r;
}

HVX_FN Q6_V_lo_W(HVX_VectorPair p) { return p.v[0]; }
HVX_FN Q6_V_hi_W(HVX_VectorPair p) { return p.v[1]; }
static inline __attribute__((always_inline)) HVX_VectorPair Q6_W_vcombine_VV(HVX_Vector hi,
                                                                             HVX_Vector lo) {
    return (HVX_VectorPair){{lo, hi}};
}
// Words of hi and lo alternately, lo first; the only use here is with -4.
static inline __attribute__((always_inline)) HVX_VectorPair Q6_W_vshuff_VVR(HVX_Vector hi,
                                                                            HVX_Vector lo,
                                                                            int size) {
    HVX_VectorPair p;
    (void)size;
    for (int i = 0; i < 64; i++) p.v[i / 32].w[i % 32] = i % 2 ? hi.w[i / 2] : lo.w[i / 2];
    return p;
}
static inline __attribute__((always_inline)) HVX_VectorPair Q6_Wh_vunpack_Vb(HVX_Vector a) {
    HVX_VectorPair p;
    for (int i = 0; i < 128; i++) p.v[i / 64].h[i % 64] = a.b[i];
    return p;
}
static inline __attribute__((always_inline)) HVX_VectorPair Q6_Ww_vunpack_Vh(HVX_Vector a) {
    HVX_VectorPair p;
    for (int i = 0; i < 64; i++) p.v[i / 32].w[i % 32] = a.h[i];
    return p;
}

// Without a branch, so that a loop of it becomes vector code. The product makes it exact for zero,
// subnormal and normal numbers.
static inline float hvx_host_half(uint16_t h) {
    const uint32_t magnitude = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16,
                   moved = magnitude << 13;
    float f;
    uint32_t u;
    memcpy(&f, &moved, 4);
    f *= 0x1p112f;
    memcpy(&u, &f, 4);
    u = magnitude >= 0x7c00u ? moved | 0x7f800000u : u;  // infinity and NaN
    u |= sign;
    memcpy(&f, &u, 4);
    return f;
}

// ---- v68 and later ----
HVX_FN Q6_Vqf32_vadd_VsfVsf(HVX_Vector a, HVX_Vector b) { HVX_W(r.f[i] = a.f[i] + b.f[i]); }
HVX_FN Q6_Vqf32_vsub_VsfVsf(HVX_Vector a, HVX_Vector b) { HVX_W(r.f[i] = a.f[i] - b.f[i]); }
HVX_FN Q6_Vqf32_vmpy_VsfVsf(HVX_Vector a, HVX_Vector b) { HVX_W(r.f[i] = a.f[i] * b.f[i]); }
HVX_FN Q6_Vqf32_vadd_Vqf32Vsf(HVX_Vector a, HVX_Vector b) { HVX_W(r.f[i] = a.f[i] + b.f[i]); }
HVX_FN Q6_Vqf32_vadd_Vqf32Vqf32(HVX_Vector a, HVX_Vector b) { HVX_W(r.f[i] = a.f[i] + b.f[i]); }
HVX_FN Q6_Vsf_equals_Vqf32(HVX_Vector a) { return a; }
HVX_FN Q6_Vsf_equals_Vw(HVX_Vector a) { HVX_W(r.f[i] = (float)a.w[i]); }  // from v73 on
static inline __attribute__((always_inline)) HVX_VectorPair Q6_Wqf32_vmpy_VhfVhf(HVX_Vector a,
                                                                                 HVX_Vector b) {
    HVX_VectorPair r;
    for (int i = 0; i < 32; i++) {
        r.v[0].f[i] = hvx_host_half(a.uh[2 * i]) * hvx_host_half(b.uh[2 * i]);
        r.v[1].f[i] = hvx_host_half(a.uh[2 * i + 1]) * hvx_host_half(b.uh[2 * i + 1]);
    }
    return r;
}

#undef HVX_FN
#undef HVX_W
#undef HVX_H
#undef HVX_B
#endif
