// Warp matrix products: fragments, loads from shared memory, multiply-accumulate.
//
// nvcc builds use ldmatrix and mma.sync (compute capability 8.0 and later). The CPU build
// reproduces the fragment layout, so that code which reads fragment elements directly works
// in both. Element order inside one accumulation differs from the hardware, hence results
// agree to rounding only.
//
//   m16n8k16  f16 x f16 -> f32      A 16x16 row-major, B 16x8, C 16x8
//   m16n8k32  s8  x s8  -> s32      A 16x32 row-major, B 32x8, C 16x8
#pragma once

#include "backends/cuda/device/device.h"

namespace pillion::cuda {

struct FragA { uint32_t x[4]; };
struct FragB { uint32_t x[2]; };
struct FragC { float    x[4]; };
struct FragI { int      x[4]; };

static __device__ __forceinline__ int lane_id() { return int(threadIdx.x) & 31; }
// Row and column inside the 16x8 result of element i of a lane's C fragment.
static __device__ __forceinline__ int frag_c_row(int i) { return (lane_id() >> 2) + (i >> 1) * 8; }
static __device__ __forceinline__ int frag_c_col(int i) { return (lane_id() & 3) * 2 + (i & 1); }

#ifdef __CUDACC__

// A[m][k] = p[m * ld + k]
static __device__ __forceinline__ void load_a(FragA & a, const half * p, int ld) {
    const int l = lane_id();
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(a.x[0]), "=r"(a.x[1]), "=r"(a.x[2]), "=r"(a.x[3])
                 : "r"(shared_address(p + (l & 15) * ld + (l >> 4) * 8)) : "memory");
}
// B[k][n] = p[n * ld + k]
static __device__ __forceinline__ void load_b_by_column(FragB & b, const half * p, int ld) {
    const int l = lane_id() & 15;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(b.x[0]), "=r"(b.x[1])
                 : "r"(shared_address(p + (l & 7) * ld + (l >> 3) * 8)) : "memory");
}
// B[k][n] = p[k * ld + n]
static __device__ __forceinline__ void load_b_by_row(FragB & b, const half * p, int ld) {
    const int l = lane_id() & 15;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(b.x[0]), "=r"(b.x[1]) : "r"(shared_address(p + l * ld)) : "memory");
}
// A[m][k] = p[m * ld + k], 8-bit, ld in bytes and a multiple of 16
static __device__ __forceinline__ void load_a_s8(FragA & a, const int8_t * p, int ld) {
    load_a(a, reinterpret_cast<const half *>(p), ld / 2);
}
// B[k][n] = p[n * ld + k], 8-bit
static __device__ __forceinline__ void load_b_s8_by_column(FragB & b, const int8_t * p, int ld) {
    load_b_by_column(b, reinterpret_cast<const half *>(p), ld / 2);
}
// c += a * b
static __device__ __forceinline__ void mma(FragC & c, const FragA & a, const FragB & b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
                 : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}
static __device__ __forceinline__ void mma_s8(FragI & c, const FragA & a, const FragB & b) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+r"(c.x[0]), "+r"(c.x[1]), "+r"(c.x[2]), "+r"(c.x[3])
                 : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

#else // CPU emulation

namespace sim {

inline uint32_t pack(half lo, half hi) { return uint32_t(lo.bits) | uint32_t(hi.bits) << 16; }
inline void require_row_alignment(const void * p, int ld_bytes) {
    if (reinterpret_cast<uintptr_t>(p) % 16 || ld_bytes % 16) PILLION_SIM_FAIL("matrix rows must start at multiples of 16 bytes");
}

struct MmaIn   { uint32_t a[4], b[2]; float c[4]; };
struct MmaInS8 { uint32_t a[4], b[2]; int   c[4]; };

inline void combine_mma(unsigned char (*slots)[kSlotBytes]) {
    float A[16][16], B[16][8], C[16][8];
    for (int l = 0; l < 32; ++l) {
        const MmaIn in = read_slot<MmaIn>(slots, unsigned(l));
        const int g = l >> 2, t = (l & 3) * 2;
        for (int r = 0; r < 4; ++r) {
            const int row = g + (r & 1) * 8, col = t + (r >> 1) * 8;
            A[row][col]     = half_bits_to_float(uint16_t(in.a[r]));
            A[row][col + 1] = half_bits_to_float(uint16_t(in.a[r] >> 16));
        }
        for (int r = 0; r < 2; ++r) {
            B[t + r * 8][g]     = half_bits_to_float(uint16_t(in.b[r]));
            B[t + r * 8 + 1][g] = half_bits_to_float(uint16_t(in.b[r] >> 16));
        }
        for (int i = 0; i < 4; ++i) C[g + (i >> 1) * 8][t + (i & 1)] = in.c[i];
    }
    for (int m = 0; m < 16; ++m)
        for (int k = 0; k < 16; ++k)
            for (int n = 0; n < 8; ++n) C[m][n] += A[m][k] * B[k][n];
    for (int l = 0; l < 32; ++l) {
        const int g = l >> 2, t = (l & 3) * 2;
        const float d[4] = {C[g][t], C[g][t + 1], C[g + 8][t], C[g + 8][t + 1]};
        std::memcpy(slots[l], d, sizeof d);
    }
}

inline void combine_mma_s8(unsigned char (*slots)[kSlotBytes]) {
    static thread_local int8_t A[16][32], B[32][8];
    int C[16][8];
    for (int l = 0; l < 32; ++l) {
        const MmaInS8 in = read_slot<MmaInS8>(slots, unsigned(l));
        const int g = l >> 2, t = l & 3;
        for (int r = 0; r < 4; ++r)
            for (int i = 0; i < 4; ++i) A[g + (r & 1) * 8][t * 4 + i + (r >> 1) * 16] = int8_t(in.a[r] >> (8 * i));
        for (int r = 0; r < 2; ++r)
            for (int i = 0; i < 4; ++i) B[t * 4 + i + r * 16][g] = int8_t(in.b[r] >> (8 * i));
        for (int i = 0; i < 4; ++i) C[g + (i >> 1) * 8][t * 2 + (i & 1)] = in.c[i];
    }
    for (int m = 0; m < 16; ++m)
        for (int k = 0; k < 32; ++k)
            for (int n = 0; n < 8; ++n) C[m][n] += int(A[m][k]) * int(B[k][n]);
    for (int l = 0; l < 32; ++l) {
        const int g = l >> 2, t = (l & 3) * 2;
        const int d[4] = {C[g][t], C[g][t + 1], C[g + 8][t], C[g + 8][t + 1]};
        std::memcpy(slots[l], d, sizeof d);
    }
}

} // namespace sim

inline void load_a(FragA & a, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 4; ++r) {
        const int at = (g + (r & 1) * 8) * ld + t + (r >> 1) * 8;
        a.x[r] = sim::pack(p[at], p[at + 1]);
    }
}
inline void load_b_by_column(FragB & b, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 2; ++r) b.x[r] = sim::pack(p[g * ld + t + r * 8], p[g * ld + t + r * 8 + 1]);
}
inline void load_b_by_row(FragB & b, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 2; ++r) b.x[r] = sim::pack(p[(t + r * 8) * ld + g], p[(t + r * 8 + 1) * ld + g]);
}
inline void load_a_s8(FragA & a, smem<const int8_t> p, int ld) { load_a(a, shared_cast<const half>(p), ld / 2); }
inline void load_b_s8_by_column(FragB & b, smem<const int8_t> p, int ld) { load_b_by_column(b, shared_cast<const half>(p), ld / 2); }

inline void mma(FragC & c, const FragA & a, const FragB & b, PILLION_SIM_HERE) {
    sim::MmaIn in;
    std::memcpy(in.a, a.x, sizeof a.x);
    std::memcpy(in.b, b.x, sizeof b.x);
    std::memcpy(in.c, c.x, sizeof c.x);
    auto * s = sim::warp_collective(PILLION_SIM_SITE("mma"), PILLION_FULL_MASK, &in, sizeof in, sim::combine_mma);
    std::memcpy(c.x, s[sim::current->lane], sizeof c.x);
}
inline void mma_s8(FragI & c, const FragA & a, const FragB & b, PILLION_SIM_HERE) {
    sim::MmaInS8 in;
    std::memcpy(in.a, a.x, sizeof a.x);
    std::memcpy(in.b, b.x, sizeof b.x);
    std::memcpy(in.c, c.x, sizeof c.x);
    auto * s = sim::warp_collective(PILLION_SIM_SITE("mma_s8"), PILLION_FULL_MASK, &in, sizeof in, sim::combine_mma_s8);
    std::memcpy(c.x, s[sim::current->lane], sizeof c.x);
}

#endif

}  // namespace pillion::cuda
