// Warp matrix products: fragments, loads from shared memory, multiply-accumulate.
//
// nvcc builds use ldmatrix and mma.sync (compute capability 8.0 and later). The CPU build
// reproduces the fragment layout, so that code which reads fragment elements directly works
// in both. Element order inside one accumulation differs from the hardware, hence results
// agree to rounding only.
//
//   m16n8k16  f16 x f16 -> f32      A 16x16 row-major, B 16x8, C 16x8
//   m16n8k16  bf16 x bf16 -> f32    the same
//   m16n8k32  s8  x s8  -> s32      A 16x32 row-major, B 32x8, C 16x8
//   m16n8k16  s8  x s8  -> s32      A 16x16, B 16x8: halves of a block with scales of their own
#pragma once

#include "backends/cuda/device/device.h"

namespace pillion::cuda {

struct FragA { uint32_t x[4]; };
struct FragB { uint32_t x[2]; };
struct FragC { float x[4]; };
struct FragI { int x[4]; };

static __device__ __forceinline__ int lane_id() { return int(threadIdx.x) & 31; }
// Row and column inside the 16x8 result of element i of a lane's C fragment.
static __device__ __forceinline__ int frag_c_row(int i) { return (lane_id() >> 2) + (i >> 1) * 8; }
static __device__ __forceinline__ int frag_c_col(int i) { return (lane_id() & 3) * 2 + (i & 1); }

#ifdef __CUDACC__

// A[m][k] = p[m * ld + k]
static __device__ __forceinline__ void load_a(FragA& a, const half* p, int ld) {
    const int l = lane_id();
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(a.x[0]), "=r"(a.x[1]), "=r"(a.x[2]), "=r"(a.x[3])
                 : "r"(shared_address(p + (l & 15) * ld + (l >> 4) * 8))
                 : "memory");
}
// B[k][n] = p[n * ld + k]
static __device__ __forceinline__ void load_b_by_column(FragB& b, const half* p, int ld) {
    const int l = lane_id() & 15;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(b.x[0]), "=r"(b.x[1])
                 : "r"(shared_address(p + (l & 7) * ld + (l >> 3) * 8))
                 : "memory");
}
// B[k][n] = p[k * ld + n]
static __device__ __forceinline__ void load_b_by_row(FragB& b, const half* p, int ld) {
    const int l = lane_id() & 15;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(b.x[0]), "=r"(b.x[1])
                 : "r"(shared_address(p + l * ld))
                 : "memory");
}
// A[m][k] = p[m * ld + k], 8-bit, ld in bytes and a multiple of 16
static __device__ __forceinline__ void load_a_s8(FragA& a, const int8_t* p, int ld) {
    load_a(a, reinterpret_cast<const half*>(p), ld / 2);
}
// B[k][n] = p[n * ld + k], 8-bit
static __device__ __forceinline__ void load_b_s8_by_column(FragB& b, const int8_t* p, int ld) {
    load_b_by_column(b, reinterpret_cast<const half*>(p), ld / 2);
}
// c += a * b
static __device__ __forceinline__ void mma(FragC& c, const FragA& a, const FragB& b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}
static __device__ __forceinline__ void mma_s8(FragI& c, const FragA& a, const FragB& b) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+r"(c.x[0]), "+r"(c.x[1]), "+r"(c.x[2]), "+r"(c.x[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}
static __device__ __forceinline__ void mma_s8_16(FragI& c, uint32_t a0, uint32_t a1, uint32_t b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};\n"
        : "+r"(c.x[0]), "+r"(c.x[1]), "+r"(c.x[2]), "+r"(c.x[3])
        : "r"(a0), "r"(a1), "r"(b));
}
static __device__ __forceinline__ void mma_bf16(FragC& c, const FragA& a, const FragB& b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

#else  // CPU emulation

namespace sim {

inline uint32_t pack(half lo, half hi) { return uint32_t(lo.bits) | uint32_t(hi.bits) << 16; }
inline void require_row_alignment(const void* p, int ld_bytes) {
    if (reinterpret_cast<uintptr_t>(p) % 16 || ld_bytes % 16)
        PILLION_SIM_FAIL("matrix rows must start at multiples of 16 bytes");
}

// The fragments of A, B and C that a lane contributes.
template <class T, int kA, int kB>
struct Fragments {
    uint32_t a[kA], b[kB];
    T c[4];
};
// A lane's rows (A, C) or column (B), and its first column (C).
struct LanePosition { int group, pair; };
inline LanePosition lane_position(int lane) { return {lane >> 2, (lane & 3) * 2}; }

// c += a * b in index order; then every lane's part goes back into its slot.
template <class T, int K, class V>
void multiply(const V (&a)[16][K], const V (&b)[K][8], T (&c)[16][8],
              unsigned char (*slots)[kSlotBytes]) {
    for (int m = 0; m < 16; ++m)
        for (int k = 0; k < K; ++k)
            for (int n = 0; n < 8; ++n) c[m][n] += T(a[m][k]) * T(b[k][n]);
    for (int l = 0; l < 32; ++l) {
        const LanePosition p = lane_position(l);
        const T d[4] = {c[p.group][p.pair], c[p.group][p.pair + 1], c[p.group + 8][p.pair],
                        c[p.group + 8][p.pair + 1]};
        std::memcpy(slots[l], d, sizeof d);
    }
}

// A register holds kPerWord values of a row of A or a column of B. A lane has the values at
// kPerWord * (lane % 4), and every 4 * kPerWord on.
template <class T, class V, int K, int kPerWord, V (*kValue)(uint32_t word, int i)>
void combine(unsigned char (*slots)[kSlotBytes]) {
    constexpr int kSteps = K / (4 * kPerWord);
    V a[16][K], b[K][8];
    T c[16][8];
    for (int l = 0; l < 32; ++l) {
        const auto in = read_slot<Fragments<T, 2 * kSteps, kSteps>>(slots, unsigned(l));
        const LanePosition p = lane_position(l);
        for (int r = 0; r < 2 * kSteps; ++r)
            for (int i = 0; i < kPerWord; ++i) {
                const int k = (l & 3) * kPerWord + i + r / 2 * 4 * kPerWord;
                a[p.group + r % 2 * 8][k] = kValue(in.a[r], i);
                if (r < kSteps)
                    b[(l & 3) * kPerWord + i + r * 4 * kPerWord][p.group] = kValue(in.b[r], i);
            }
        for (int i = 0; i < 4; ++i) c[p.group + (i >> 1) * 8][p.pair + (i & 1)] = in.c[i];
    }
    multiply(a, b, c, slots);
}
inline float half_of(uint32_t word, int i) {
    return half_bits_to_float(uint16_t(word >> (16 * i)));
}
inline float bf16_of(uint32_t word, int i) {
    return bf16_bits_to_float(uint16_t(word >> (16 * i)));
}
inline int8_t byte_of(uint32_t word, int i) { return int8_t(word >> (8 * i)); }

template <class T, int kA, int kB>
void run_product(const Site& site, T (&c)[4], const uint32_t* a, const uint32_t* b,
                 Combine combine) {
    Fragments<T, kA, kB> in;
    std::memcpy(in.a, a, sizeof in.a);
    std::memcpy(in.b, b, sizeof in.b);
    std::memcpy(in.c, c, sizeof in.c);
    auto* s = warp_collective(site, PILLION_FULL_MASK, &in, sizeof in, combine);
    std::memcpy(c, s[current->lane], sizeof in.c);
}

}  // namespace sim

inline void load_a(FragA& a, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 4; ++r) {
        const int at = (g + (r & 1) * 8) * ld + t + (r >> 1) * 8;
        a.x[r] = sim::pack(p[at], p[at + 1]);
    }
}
inline void load_b_by_column(FragB& b, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 2; ++r)
        b.x[r] = sim::pack(p[g * ld + t + r * 8], p[g * ld + t + r * 8 + 1]);
}
inline void load_b_by_row(FragB& b, smem<const half> p, int ld) {
    sim::require_row_alignment(&p[0], ld * 2);
    const int g = lane_id() >> 2, t = (lane_id() & 3) * 2;
    for (int r = 0; r < 2; ++r)
        b.x[r] = sim::pack(p[(t + r * 8) * ld + g], p[(t + r * 8 + 1) * ld + g]);
}
inline void load_a_s8(FragA& a, smem<const int8_t> p, int ld) {
    load_a(a, shared_cast<const half>(p), ld / 2);
}
inline void load_b_s8_by_column(FragB& b, smem<const int8_t> p, int ld) {
    load_b_by_column(b, shared_cast<const half>(p), ld / 2);
}

inline void mma(FragC& c, const FragA& a, const FragB& b, PILLION_SIM_HERE) {
    sim::run_product<float, 4, 2>(PILLION_SIM_SITE("mma"), c.x, a.x, b.x,
                                  sim::combine<float, float, 16, 2, sim::half_of>);
}
inline void mma_bf16(FragC& c, const FragA& a, const FragB& b, PILLION_SIM_HERE) {
    sim::run_product<float, 4, 2>(PILLION_SIM_SITE("mma_bf16"), c.x, a.x, b.x,
                                  sim::combine<float, float, 16, 2, sim::bf16_of>);
}
inline void mma_s8(FragI& c, const FragA& a, const FragB& b, PILLION_SIM_HERE) {
    sim::run_product<int, 4, 2>(PILLION_SIM_SITE("mma_s8"), c.x, a.x, b.x,
                                sim::combine<int, int8_t, 32, 4, sim::byte_of>);
}
inline void mma_s8_16(FragI& c, uint32_t a0, uint32_t a1, uint32_t b, PILLION_SIM_HERE) {
    const uint32_t a[2] = {a0, a1};
    sim::run_product<int, 2, 1>(PILLION_SIM_SITE("mma_s8_16"), c.x, a, &b,
                                sim::combine<int, int8_t, 16, 4, sim::byte_of>);
}

#endif

}  // namespace pillion::cuda
