// The weight formats of the CPU kernels: what each is (bits, zero point, scales), the byte map of a
// packed step, and the scalar readers of that map, so that packer, reference and vector kernels
// agree by construction.
//
// A *panel* is 32 neighbouring output rows. A *step* is the run of inputs after which scales start
// anew (32, or 256 for the K formats). A panel is its steps in order; a step is
//
//     scales      F::kScaleBytes bytes a row, in planes of 32 entries (take_scales below)
//     codes       for each 32 inputs: planes of 8, 4, 2 or 1 bits a code; where a code is split
//                 over two kinds, the narrow first
//
// *Code plane* j (0..7) holds inputs 4j..4j+3 of all rows: 32-bit element r belongs to row r, byte
// b to input 4j + b. Planes share bytes: of nibbles j and j + 4 (j low); of bit pairs j, j + 2, j +
// 4, j + 6 (j lowest); of single bits all eight (bit j). A code of 8 bits is a plane's byte alone,
// 6 = nibble + pair, 5 = nibble + bit, 3 = pair + bit, the wide part being the low bits. (Narrow
// first: the kernels hold the narrow planes of 32 inputs in registers and read on in the order of
// memory. With the wide planes first they jumped between the two, and Zen 4's stream prefetchers
// followed at 75 % instead of 95 % of the bandwidth.)
//
// The float formats have no steps: for each input the values of the 32 rows.
//
// Included by sources compiled for different instruction sets: all functions are static, types have
// no member functions.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/contract/block_values.h"

namespace pillion::cpu {

enum class Format : int {
    f32,
    f16,
    bf16,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    iq4_nl,
    iq4_xs,
    mxfp4_x,
    nvfp4_x,
    iq3_xxs_x,
    iq3_s_x,
    iq2_x,
    iq1_x,
    tq2_0,
};
constexpr int kFormats = 22;
constexpr int kPanel = 32;  // rows per panel, on every machine

static constexpr bool is_float(Format f) { return f <= Format::bf16; }

// value = scale[input / kScaleInputs] * (code - kZero) - low[input / kLowInputs]; kLowInputs is 0
// where there are no minima. With kLookUp, code - kZero is table_of(kTable)[code]. Divide: what the
// blocks with odd scales divide theirs by.
enum class Table : int { none, iq4, e2m1, iq3_xxs, iq3_s, iq2, iq1 };
static constexpr const int8_t* table_of(Table t) {
    return t == Table::iq4       ? kIq4Values
           : t == Table::e2m1    ? kE2m1Values
           : t == Table::iq3_xxs ? kIq3XxsValues
           : t == Table::iq3_s   ? kIq3SValues
           : t == Table::iq2     ? kIq2Values
                                 : kIq1Values;
}

template <Format F, class B, int Inputs, int Bits, int Zero, int ScaleInputs, int LowInputs,
          int ScaleBytes, Table LookUp = Table::none, int Divide = 1>
struct QuantFormat {
    using Block = B;
    static constexpr Format kFormat = F;
    static constexpr int kInputs = Inputs;  // per step
    static constexpr int kBits = Bits;      // stored bits of a code
    static constexpr bool kLookUp = LookUp != Table::none;
    static constexpr Table kTable = LookUp;
    static constexpr int kDivide = Divide;
    static constexpr int kDotBits = kLookUp ? 8 : Bits;  // bits of the number that is multiplied
    static constexpr int kZero = Zero;
    static constexpr int kScaleInputs = ScaleInputs;
    static constexpr int kLowInputs = LowInputs;
    static constexpr int kScaleBytes = ScaleBytes;        // per row and step
    static constexpr int kBlocks = Inputs / 32;           // activation blocks per step
    static constexpr int kCodeBytes = kPanel * 4 * Bits;  // of 32 inputs of a panel
    static constexpr int kNarrowPlanes = Bits == 6 ? 2 : Bits == 5 || Bits == 3 ? 1 : 0;
    static constexpr int kWide =
        kNarrowPlanes * 4 * kPanel;  // where the wide planes begin, in bytes
    static constexpr int kStepBytes = kPanel * ScaleBytes + kBlocks * kCodeBytes;
    static_assert(kStepBytes == kPanel * int(sizeof(B)), "packed size is the block's size");
    static_assert(kPanel * ScaleBytes % 64 == 0 && kCodeBytes % 64 == 0,
                  "planes begin at cache lines");
};
constexpr int kPlaneBytes = 4 * kPanel;

using Q4_0 = QuantFormat<Format::q4_0, BlockQ4_0, 32, 4, 8, 32, 0, 2>;
using Q4_1 = QuantFormat<Format::q4_1, BlockQ4_1, 32, 4, 0, 32, 32, 4>;
using Q5_0 = QuantFormat<Format::q5_0, BlockQ5_0, 32, 5, 16, 32, 0, 2>;
using Q5_1 = QuantFormat<Format::q5_1, BlockQ5_1, 32, 5, 0, 32, 32, 4>;
using Q8_0 = QuantFormat<Format::q8_0, BlockQ8_0, 32, 8, 128, 32, 0, 2>;
using Q2_K = QuantFormat<Format::q2_k, BlockQ2_K, 256, 2, 0, 16, 16, 20>;
using Q3_K = QuantFormat<Format::q3_k, BlockQ3_K, 256, 3, 4, 16, 0, 14>;
using Q4_K = QuantFormat<Format::q4_k, BlockQ4_K, 256, 4, 0, 32, 32, 16>;
using Q5_K = QuantFormat<Format::q5_k, BlockQ5_K, 256, 5, 0, 32, 32, 16>;
using Q6_K = QuantFormat<Format::q6_k, BlockQ6_K, 256, 6, 32, 16, 0, 18>;
using IQ4_NL = QuantFormat<Format::iq4_nl, BlockIQ4_NL, 32, 4, 128, 32, 0, 2, Table::iq4>;
using IQ4_XS = QuantFormat<Format::iq4_xs, BlockIQ4_XS, 256, 4, 128, 32, 0, 8, Table::iq4>;
using MXFP4_X = QuantFormat<Format::mxfp4_x, BlockMXFP4_X, 32, 4, 128, 32, 0, 2, Table::e2m1>;
using NVFP4_X = QuantFormat<Format::nvfp4_x, BlockNVFP4_X, 32, 4, 128, 16, 0, 4, Table::e2m1>;
using IQ3_XXS_X =
    QuantFormat<Format::iq3_xxs_x, BlockIQ3_X, 256, 4, 128, 32, 0, 6, Table::iq3_xxs, 4>;
using IQ3_S_X = QuantFormat<Format::iq3_s_x, BlockIQ3_X, 256, 4, 128, 32, 0, 6, Table::iq3_s>;
using IQ2_X = QuantFormat<Format::iq2_x, BlockIQ2_X, 256, 3, 128, 16, 0, 10, Table::iq2, 8>;
using IQ1_X = QuantFormat<Format::iq1_x, BlockIQ2_X, 256, 3, 128, 16, 0, 10, Table::iq1, 8>;
using TQ2_0 = QuantFormat<Format::tq2_0, BlockTQ2_0, 256, 2, 1, 32, 0, 2>;

// clang-format off
#define PILLION_QUANT_FORMATS(DO)                                                             \
    DO(Q4_0) DO(Q4_1) DO(Q5_0) DO(Q5_1) DO(Q8_0) DO(Q2_K) DO(Q3_K) DO(Q4_K) DO(Q5_K) DO(Q6_K) \
    DO(IQ4_NL) DO(IQ4_XS) DO(MXFP4_X) DO(NVFP4_X) DO(IQ3_XXS_X) DO(IQ3_S_X) DO(IQ2_X)         \
    DO(IQ1_X) DO(TQ2_0)
// clang-format on

// --- entries of a plane ---

static inline uint16_t take16(const uint8_t* plane, int r) {
    uint16_t v;
    memcpy(&v, plane + 2 * r, 2);
    return v;
}
static inline uint32_t take32(const uint8_t* plane, int r) {
    uint32_t v;
    memcpy(&v, plane + 4 * r, 4);
    return v;
}
static inline void put16(uint8_t* plane, int r, uint16_t v) { memcpy(plane + 2 * r, &v, 2); }
static inline void put32(uint8_t* plane, int r, uint32_t v) { memcpy(plane + 4 * r, &v, 4); }

// --- scales: planes of a step -> the block's own fields (all but its codes) ---

static inline void take_scales(BlockQ4_0& b, const uint8_t* s, int r) { b.d = take16(s, r); }
static inline void take_scales(BlockQ5_0& b, const uint8_t* s, int r) { b.d = take16(s, r); }
static inline void take_scales(BlockQ8_0& b, const uint8_t* s, int r) { b.d = take16(s, r); }
static inline void take_scales(BlockIQ4_NL& b, const uint8_t* s, int r) { b.d = take16(s, r); }
// f16 d[32], f16 m[32]
static inline void take_scales(BlockQ4_1& b, const uint8_t* s, int r) {
    b.d = take16(s, r), b.m = take16(s + 2 * kPanel, r);
}
static inline void take_scales(BlockQ5_1& b, const uint8_t* s, int r) {
    b.d = take16(s, r), b.m = take16(s + 2 * kPanel, r);
}
// f16 d[32], f16 dmin[32], u8 scale and minimum[16][32]
static inline void take_scales(BlockQ2_K& b, const uint8_t* s, int r) {
    b.d = take16(s, r);
    b.dmin = take16(s + 2 * kPanel, r);
    for (int g = 0; g < 16; g++) b.scales[g] = s[(4 + g) * kPanel + r];
}
// Sixteen six-bit fields in u32 word[3][32]: field i < 15 at bit 6 * (i % 5) of word i / 5, field
// 15 in the three pairs of bits left on top, lowest first. Taken out with a shift and a mask in
// 32-bit lanes.
static inline void take_six_bits(const uint8_t* words, int r, uint8_t* v) {
    v[15] = 0;
    for (int w = 0; w < 3; w++) {
        const uint32_t word = take32(words + w * kPlaneBytes, r);
        for (int i = 0; i < 5; i++) v[5 * w + i] = word >> (6 * i) & 63;
        v[15] |= uint8_t((word >> 30) << (2 * w));
    }
}
// f16 d[32], u32 word[3][32]
static inline void take_scales(BlockQ3_K& b, const uint8_t* s, int r) {
    uint8_t v[16];
    b.d = take16(s, r);
    take_six_bits(s + 2 * kPanel, r, v);
    block_set_q3_scales(b.scales, v);
}
// f16 d[32], f16 dmin[32], u32 word[3][32]: scales are fields 0..7, minima 8..15
static inline void take_scales(BlockQ4_K& b, const uint8_t* s, int r) {
    uint8_t v[16];
    b.d = take16(s, r);
    b.dmin = take16(s + 2 * kPanel, r);
    take_six_bits(s + 4 * kPanel, r, v);
    block_set_six_bits(b.scales, v);
}
static inline void take_scales(BlockQ5_K& b, const uint8_t* s, int r) {
    uint8_t v[16];
    b.d = take16(s, r);
    b.dmin = take16(s + 2 * kPanel, r);
    take_six_bits(s + 4 * kPanel, r, v);
    block_set_six_bits(b.scales, v);
}
// f16 d[32], i8 scale[16][32]
static inline void take_scales(BlockQ6_K& b, const uint8_t* s, int r) {
    b.d = take16(s, r);
    for (int g = 0; g < 16; g++) b.scales[g] = int8_t(s[(2 + g) * kPanel + r]);
}
// f16 d[32], u16 high[32], u32 low[32]: the file's own bits
static inline void take_scales(BlockIQ4_XS& b, const uint8_t* s, int r) {
    b.d = take16(s, r);
    b.scales_high = take16(s + 2 * kPanel, r);
    memcpy(b.scales_low, s + 4 * kPanel + 4 * r, 4);
}
static inline void take_scales(BlockMXFP4_X& b, const uint8_t* s, int r) { b.d = take16(s, r); }
static inline void take_scales(BlockTQ2_0& b, const uint8_t* s, int r) { b.d = take16(s, r); }
// f16 d[0][32], f16 d[1][32]
static inline void take_scales(BlockNVFP4_X& b, const uint8_t* s, int r) {
    b.d[0] = take16(s, r), b.d[1] = take16(s + 2 * kPanel, r);
}
// f16 d[32], u32 nibbles[32], or nibbles[2][32]: groups 0..7, 8..15
static inline void take_scales(BlockIQ3_X& b, const uint8_t* s, int r) {
    b.d = take16(s, r);
    memcpy(b.scales, s + 2 * kPanel + 4 * r, 4);
}
static inline void take_scales(BlockIQ2_X& b, const uint8_t* s, int r) {
    b.d = take16(s, r);
    for (int half = 0; half < 2; half++)
        memcpy(b.scales + 4 * half, s + 2 * kPanel + half * kPlaneBytes + 4 * r, 4);
}

// --- the plain reading (core/contract/block_values.h) by the format's traits ---

#define PILLION_SCALED(name, label, block)                                                     \
    static inline int code_at(label, const block& b, int i) { return name##_code(&b, i); }     \
    static inline int number_of(label, int code) { return name##_number(code); }               \
    static inline float scale_at(label, const block& b, int i) { return name##_scale(&b, i); } \
    static inline float minimum_at(label, const block& b, int i) { return name##_minimum(&b, i); }
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED

// scale[kInputs / kScaleInputs] and low[kInputs / kLowInputs]
template <class F>
static inline void scales_of(const typename F::Block& b, float* scale, float* low) {
    for (int i = 0; i < F::kInputs; i += F::kScaleInputs)
        scale[i / F::kScaleInputs] = scale_at(F(), b, i);
    for (int i = 0; F::kLowInputs && i < F::kInputs; i += F::kLowInputs)
        low[i / (F::kLowInputs ? F::kLowInputs : 1)] = minimum_at(F(), b, i);
}

// --- codes: 32 inputs of one row of a panel ---

template <class F>
static inline void take_codes(const uint8_t* codes, int r, uint8_t* out) {
    const uint8_t* at = codes + 4 * r;
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++) {
            int code = 0;
            if (F::kBits == 8) code = at[j * kPlaneBytes + b];
            if (F::kBits >= 4 && F::kBits <= 6)
                code = at[F::kWide + j % 4 * kPlaneBytes + b] >> (j / 4 * 4) & 15;
            if (F::kBits <= 3) code = at[F::kWide + j % 2 * kPlaneBytes + b] >> (j / 2 * 2) & 3;
            if (F::kBits == 6) code |= (at[j % 2 * kPlaneBytes + b] >> (j / 2 * 2) & 3) << 4;
            if (F::kBits == 5) code |= (at[b] >> j & 1) << 4;
            if (F::kBits == 3) code |= (at[b] >> j & 1) << 2;
            out[4 * j + b] = uint8_t(code);
        }
}

// What is multiplied: code - kZero, or the table's value.
template <class F>
static inline int signed_code(int code) {
    return number_of(F(), code);
}

}  // namespace pillion::cpu
