// Device code shared by the matmul kernels: exact arithmetic, reading and decoding packed blocks,
// matrix products mma.h lacks.
#pragma once

#include "backends/cuda/device/mma.h"
#include "backends/cuda/kernels/matmul_layout.h"

namespace pillion::cuda {

// ---- single operations ----
// A row must get the same bits in every instance of a kernel, so the compiler may not choose what
// it fuses.

#ifdef __CUDACC__
#define PILLION_NO_UNROLL _Pragma("unroll 1")
static __device__ __forceinline__ float fma_rn(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}
static __device__ __forceinline__ float mul_rn(float a, float b) { return __fmul_rn(a, b); }
static __device__ __forceinline__ float sub_rn(float a, float b) { return __fsub_rn(a, b); }
static __device__ __forceinline__ float div_rn(float a, float b) { return __fdiv_rn(a, b); }
static __device__ __forceinline__ uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
    return __byte_perm(a, b, selector);
}
// Weights are read once: they should not push the activations out of the first cache.
static __device__ __forceinline__ uint4 load_once(const uint4* p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(p));
    return v;
}
static __device__ __forceinline__ uint2 load_once(const uint2* p) {
    uint2 v;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
#else
#define PILLION_NO_UNROLL
inline float fma_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float mul_rn(float a, float b) { return a * b; }  // compile with -ffp-contract=off
inline float sub_rn(float a, float b) { return a - b; }
inline float div_rn(float a, float b) { return a / b; }
// Byte i of the result: byte (selector >> 4i & 7) of b:a.
inline uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t both = uint64_t(b) << 32 | a;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= uint32_t(both >> (8 * (selector >> (4 * i) & 7)) & 0xFF) << (8 * i);
    return v;
}
inline uint4 load_once(const uint4* p) { return *p; }
inline uint2 load_once(const uint2* p) { return *p; }
#endif

// Integer sums start at the bits of 1.5 * 2^23. Below 2^22 in magnitude (a block's sum is at most
// 32 * 128 * 127) the result's bits are a float's, and one subtraction converts it exactly:
// conversion instructions run at an eighth of the rate.
constexpr int kSumStart = 0x4B400000;
static __device__ __forceinline__ float sum_value(int sum) {
    return sub_rn(__int_as_float(sum), 12582912.0f);
}

// ---- packed planes ----

struct Planes {
    const uint8_t* codes;
    const uint8_t* extra;
    const uint8_t* scales;
    const uint8_t* sub;
};

// Words of a block as stored.
template <Codes C>
struct RawCodes {
    uint32_t codes[code_bytes(C) / 4];
    uint32_t extra[extra_bytes(C) ? extra_bytes(C) / 4 : 1];
};

template <int Bytes>
static __device__ __forceinline__ void load_words(const uint8_t* p, uint32_t* w) {
    if constexpr (Bytes == 16) {
        const uint4 v = load_once(reinterpret_cast<const uint4*>(p));
        w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    } else if constexpr (Bytes == 8) {
        const uint2 v = load_once(reinterpret_cast<const uint2*>(p));
        w[0] = v.x, w[1] = v.y;
    } else if constexpr (Bytes == 4) {
        w[0] = __ldg(reinterpret_cast<const uint32_t*>(p));
    }
}
template <Codes C>
static __device__ __forceinline__ void load_codes(RawCodes<C>& r, const Planes& p, size_t block) {
    load_words<code_bytes(C)>(p.codes + block * code_bytes(C), r.codes);
    load_words<extra_bytes(C)>(p.extra + block * extra_bytes(C), r.extra);
}

// The tables of core/contract/blocks.h, four signed bytes a word, the first entry lowest. Those of
// three bits have two words.
template <Codes C>
struct ValueTable;
template <>
struct ValueTable<Codes::iq4> {
    static constexpr uint32_t a = 0xBFAD9881, b = 0xF6EADDCF, c = 0x26190D01, d = 0x71594535;
};
template <>
struct ValueTable<Codes::e2m1> {
    static constexpr uint32_t a = 0x03020100, b = 0x0C080604, c = 0xFDFEFF00, d = 0xF4F8FAFC;
};
template <>
struct ValueTable<Codes::iq3s> {
    static constexpr uint32_t a = 0x07050301, b = 0x0F0D0B09, c = 0xF9FBFDFF, d = 0xF1F3F5F7;
};
template <>
struct ValueTable<Codes::iq3xxs> {
    static constexpr uint32_t a = 0x1C140C04, b = 0x3E342C24, c = 0xE4ECF4FC, d = 0xC2CCD4DC;
};
template <>
struct ValueTable<Codes::iq2> {
    static constexpr uint32_t a = 0x002B1908, b = 0x00D5E7F8;
};
template <>
struct ValueTable<Codes::iq1> {
    static constexpr uint32_t a = 0x000901F9, b = 0x0007FFF7;
};

// Four values of a table for the nibbles of the low 16 bits.
template <Codes C>
static __device__ __forceinline__ uint32_t table_values(uint32_t nibbles) {
    using T = ValueTable<C>;
    if constexpr (is_signed_look_up(C)) {
        return byte_perm(T::a, T::b, nibbles & 0x7777);
    } else {
        const uint32_t index = nibbles & 0x7777, low = byte_perm(T::a, T::b, index),
                       high = byte_perm(T::c, T::d, index);
        return byte_perm(low, high, 0x3210u | (nibbles & 0x8888) >> 1);
    }
}

// Word t of the block's low and of its high half as signed bytes, code_factor times too large.
// `code` is word t of the codes (t % 2 where there are two), `extra` word t, t % 2 or the only one.
template <Codes C>
static __device__ __forceinline__ void decode_words(uint32_t code, uint32_t extra, int t,
                                                    uint32_t& low, uint32_t& high) {
    if constexpr (C == Codes::s4) {
        low = code << 4 & 0xF0F0F0F0, high = code & 0xF0F0F0F0;
    } else if constexpr (C == Codes::u4) {
        low = code & 0x0F0F0F0F, high = code >> 4 & 0x0F0F0F0F;
    } else if constexpr (C == Codes::s5) {
        low = (code << 3 & 0x78787878) | (extra << (7 - t) & 0x80808080);
        high = (code >> 1 & 0x78787878) | (extra << (3 - t) & 0x80808080);
    } else if constexpr (C == Codes::u5) {
        low = (code & 0x0F0F0F0F) | (extra << (4 - t) & 0x10101010);
        high = (code >> 4 & 0x0F0F0F0F) | (extra >> t & 0x10101010);
    } else if constexpr (C == Codes::s6) {
        const uint32_t pairs = extra >> (t & 2);
        low = (code << 2 & 0x3C3C3C3C) | (pairs << 6 & 0xC0C0C0C0);
        high = (code >> 2 & 0x3C3C3C3C) | (pairs << 2 & 0xC0C0C0C0);
    } else if constexpr (C == Codes::s8) {
        low = code, high = extra;
    } else if constexpr (C == Codes::u2) {
        const uint32_t pairs = code >> (t & 2);
        low = pairs & 0x03030303, high = pairs >> 4 & 0x03030303;
    } else if constexpr (C == Codes::s3) {
        const uint32_t pairs = code >> (t & 2);
        low = (pairs << 5 & 0x60606060) | (extra << (7 - t) & 0x80808080);
        high = (pairs << 1 & 0x60606060) | (extra << (3 - t) & 0x80808080);
    } else if constexpr (C == Codes::t2) {  // the bit on top keeps borrows within a byte
        const uint32_t pairs = code >> (t & 2);
        low = (((pairs & 0x03030303) | 0x80808080) - 0x01010101) ^ 0x80808080;
        high = (((pairs >> 4 & 0x03030303) | 0x80808080) - 0x01010101) ^ 0x80808080;
    } else if constexpr (is_signed_look_up(C)) {
        const uint32_t nibbles = (code >> (t & 2) & 0x33333333) | (extra >> t & 0x11111111) << 2;
        low = table_values<C>(nibbles), high = table_values<C>(nibbles >> 16);
    } else {
        low = table_values<C>(code), high = table_values<C>(code >> 16);
    }
}

// Which words decode_words wants for lane t.
template <Codes C>
static __device__ __forceinline__ constexpr int code_word(int t) {
    return code_bytes(C) == 8 ? t & 1 : t;
}
template <Codes C>
static __device__ __forceinline__ constexpr int extra_word(int t) {
    return extra_bytes(C) == 16 ? t : extra_bytes(C) == 8 ? t & 1 : 0;
}

// All eight words.
template <Codes C>
static __device__ __forceinline__ void decode_block(const RawCodes<C>& r, uint32_t (&w)[8]) {
    PILLION_UNROLL
    for (int t = 0; t < 4; t++)
        decode_words<C>(r.codes[code_word<C>(t)], r.extra[extra_word<C>(t)], t, w[t], w[t + 4]);
}

// ---- scales ----

struct RawScales {
    uint4 header;
    uint32_t sub;
};  // only the words a format has are ever touched

// block: index among all blocks of the matrix; formats with headers have a multiple of 8 blocks in
// a row.
template <Scales S>
static __device__ __forceinline__ void load_scales(RawScales& r, const Planes& p, size_t block) {
    const uint8_t* at = p.scales + (scales_of_block(S) ? block : block / 8) * scale_bytes(S);
    if constexpr (scale_bytes(S) == 16) r.header = __ldg(reinterpret_cast<const uint4*>(at));
    if constexpr (scale_bytes(S) == 4) r.header.x = __ldg(reinterpret_cast<const uint32_t*>(at));
    if constexpr (scale_bytes(S) == 2) r.header.x = __ldg(reinterpret_cast<const uint16_t*>(at));
    if constexpr (sub_bytes(S) == 2)
        r.sub = __ldg(reinterpret_cast<const uint16_t*>(p.sub + block * 2));
    if constexpr (sub_bytes(S) == 1) r.sub = __ldg(p.sub + block);
}

static __device__ __forceinline__ float half_value(uint32_t bits) {
    return __half2float(__ushort_as_half(uint16_t(bits)));
}
static __device__ __forceinline__ float signed_byte(uint32_t v) { return float(int8_t(v)); }

template <Scales S>
struct BlockScales {
    float scale[n_scales(S)];
    float low[n_lows(S) ? n_lows(S) : 1];
};

// Factor: code_factor of the format. g: the block within its header.
template <Scales S, int Factor>
static __device__ __forceinline__ void decode_scales(const RawScales& r, int g, BlockScales<S>& b) {
    const float d = S == Scales::brain ? __uint_as_float(r.header.x << 16)
                                       : half_value(r.header.x & 0xFFFF) * (1.0f / Factor);
    if constexpr (scales_of_block(S) || S == Scales::super) b.scale[0] = d;
    if constexpr (S == Scales::half_pair)
        b.scale[1] = half_value(r.header.x >> 16) * (1.0f / Factor);
    if constexpr (S == Scales::half_low) b.low[0] = -half_value(r.header.x >> 16);
    if constexpr (S == Scales::six_low || S == Scales::six_pair) {
        const uint32_t lows = byte_perm(r.header.y, r.header.z, uint32_t(g)) & 0xFF,
                       highs = r.header.w >> (4 * g);
        const int a = int((lows & 15) | (highs & 3) << 4),
                  c = int(lows >> 4 | (highs >> 2 & 3) << 4);
        if constexpr (S == Scales::six_low) {
            b.scale[0] = mul_rn(d, float(a));
            b.low[0] = mul_rn(half_value(r.header.x >> 16), float(c));
        } else {
            b.scale[0] = mul_rn(d, float(a - 32));
            b.scale[1] = mul_rn(d, float(c - 32));
        }
    }
    if constexpr (S == Scales::byte) b.scale[0] = mul_rn(d, signed_byte(r.sub));
    if constexpr (S == Scales::byte_pair)
        b.scale[0] = mul_rn(d, signed_byte(r.sub)), b.scale[1] = mul_rn(d, signed_byte(r.sub >> 8));
    if constexpr (S == Scales::nibble_low) {
        const float dmin = half_value(r.header.x >> 16);
        b.scale[0] = mul_rn(d, float(r.sub & 15)), b.low[0] = mul_rn(dmin, float(r.sub >> 4 & 15));
        b.scale[1] = mul_rn(d, float(r.sub >> 8 & 15)), b.low[1] = mul_rn(dmin, float(r.sub >> 12));
    }
}

// ---- rows ----

// Rows that run; see RowCount.
static __device__ __forceinline__ int rows_now(const int32_t* count, int max, int per_row) {
    return (count ? min(max, *count) : max) * per_row;
}

}  // namespace pillion::cuda
