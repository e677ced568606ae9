// The bytes of packed weights and prepared inputs. Plain C++: the packer on the host and the
// kernels read it.
//
// Quantized weights [rows, width], nb = width / 32 blocks in a row. Up to four planes, each
// [rows][...], each aligned to 256 bytes:
//
//     codes     16 bytes a block, or 8 for codes of two and three bits
//     extra     the bits of a code that have no place in `codes`
//     scales    f16 fields a block (2 or 4 bytes), or a header for 256 inputs (2, 4 or 16 bytes)
//     sub       1 or 2 bytes a block: scales within the header's
//
// A block's 32 codes are eight words: byte b of word j is input 4j + b. What kernels call "low" are
// words 0..3 (inputs 0..15), "high" words 4..7. Lane t of four works on word t of both halves,
// which is also the order of a tensor core fragment.
//
//     4 bits    codes word t: word t in the low nibbles, word t + 4 in the high ones
//     look-ups  iq4, e2m1, iq3s, iq3xxs (one for each table): codes word t: nibble k is input 4t +
//               k (k < 4) or 16 + 4t + k - 4
//     5 bits    the low four as above; extra word: bit j of byte b is bit 4 of byte b of word j
//     6 bits    the low four as above; extra words 0, 1: bits 2m, 2m + 1 of byte b of word k are
//               bits 4, 5 of byte b of word k + 2m
//     8 bits    codes: words 0..3; extra: words 4..7
//     2 bits    codes words 0, 1, as the extra words of 6 bits
//     3 bits    codes words 0, 1 as above; extra word: bit j of byte b is bit 2
//     iq2, iq1  look-ups of three bits, a magnitude's place and a sign; nibble k of t as in the
//               other look-ups: its two bits of place are bits 4k + 2 (t / 2) .. of codes word t %
//               2, its sign bit 4k + t of the extra word
//     t2        2 bits that stand for code - 1
//
// Codes with a zero point are stored as signed numbers of their width (code - zero), the others
// unsigned. Kernels shift signed ones to the top of a byte, which needs no sign extension; the
// factor 16, 8, 4 or 32 that this makes is divided out of the scale, exactly.
//
//     value = scale * code - low
//
//     half        scale f16                                      Q4_0 Q5_0 Q8_0 IQ4_NL
//     brain       scale bf16                                     MXFP4
//     half_pair   scale f16 of the low half, then of the high    NVFP4
//     half_low    scale f16, then -low f16                       Q4_1 Q5_1
//     six_low     16 bytes for 256 inputs: f16 d, f16 dmin, 8 bytes, 4 bytes. Block g: byte g holds
//                 the low four bits of scale (in bits 0..3) and minimum (4..7); nibble g of the
//                 last word the high two of both (0..1, 2..3).    Q4_K Q5_K
//     six_pair    the same, dmin unused: six bits + 32 for each half of a block: scale = d * (six -
//                 32)          Q3_K
//     byte_pair   f16 d for 256 inputs; sub: i8 for each half    Q6_K IQ2_X IQ1_X
//     nibble_low  f16 d, f16 dmin for 256 inputs; sub: byte for each half, scale in bits 0..3,
//                 minimum in 4..7   Q2_K
//     byte        f16 d for 256 inputs; sub: i8                  IQ4_XS IQ3_XXS IQ3_S
//     super       f16 d for 256 inputs                       TQ2_0
//
// Float weights: one plane of rows, each padded with zeros to a multiple of kFloatUnit values.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/kernels/host_device.h"
#include "core/dtype.h"

namespace pillion::cuda {

enum class Codes : uint8_t {
    none,
    s4,
    u4,
    s5,
    u5,
    s6,
    s8,
    u2,
    s3,
    t2,
    iq4,
    e2m1,
    iq3s,
    iq3xxs,
    iq2,
    iq1
};
enum class Scales : uint8_t {
    none,
    half,
    brain,
    half_pair,
    half_low,
    six_low,
    six_pair,
    byte_pair,
    nibble_low,
    byte,
    super
};

struct PackedFormat {
    Codes codes;
    Scales scales;
    int float_bytes;  // of a value; 0: quantized
};

PILLION_BOTH constexpr PackedFormat packed_format(DType dtype) {
    switch (dtype) {
        case DType::f32: return {Codes::none, Scales::none, 4};
        case DType::f16: return {Codes::none, Scales::none, 2};
        case DType::bf16: return {Codes::none, Scales::none, 2};
        case DType::q4_0: return {Codes::s4, Scales::half, 0};
        case DType::q4_1: return {Codes::u4, Scales::half_low, 0};
        case DType::q5_0: return {Codes::s5, Scales::half, 0};
        case DType::q5_1: return {Codes::u5, Scales::half_low, 0};
        case DType::q8_0: return {Codes::s8, Scales::half, 0};
        case DType::q2_k: return {Codes::u2, Scales::nibble_low, 0};
        case DType::q3_k: return {Codes::s3, Scales::six_pair, 0};
        case DType::q4_k: return {Codes::u4, Scales::six_low, 0};
        case DType::q5_k: return {Codes::u5, Scales::six_low, 0};
        case DType::q6_k: return {Codes::s6, Scales::byte_pair, 0};
        case DType::iq4_nl: return {Codes::iq4, Scales::half, 0};
        case DType::iq4_xs: return {Codes::iq4, Scales::byte, 0};
        case DType::mxfp4_x: return {Codes::e2m1, Scales::brain, 0};
        case DType::nvfp4_x: return {Codes::e2m1, Scales::half_pair, 0};
        case DType::iq3_xxs_x: return {Codes::iq3xxs, Scales::byte, 0};
        case DType::iq3_s_x: return {Codes::iq3s, Scales::byte, 0};
        case DType::iq2_x: return {Codes::iq2, Scales::byte_pair, 0};
        case DType::iq1_x: return {Codes::iq1, Scales::byte_pair, 0};
        case DType::tq2_0: return {Codes::t2, Scales::super, 0};
        default: return {Codes::none, Scales::none, -1};
    }
}

// The formats of the quantized kernels, and of the float ones: PILLION_DO(DType enumerator).
// clang-format off
#define PILLION_CUDA_QUANT_FORMATS(DO)                                                       \
    DO(q4_0) DO(q4_1) DO(q5_0) DO(q5_1) DO(q8_0) DO(q2_k) DO(q3_k) DO(q4_k) DO(q5_k) DO(q6_k) \
    DO(iq4_nl) DO(iq4_xs) DO(mxfp4_x) DO(nvfp4_x) DO(iq3_xxs_x) DO(iq3_s_x) DO(iq2_x)         \
    DO(iq1_x) DO(tq2_0)
// clang-format on

PILLION_BOTH constexpr bool is_signed_look_up(Codes c) {
    return c == Codes::iq2 || c == Codes::iq1;
}
PILLION_BOTH constexpr int code_bytes(Codes c) {
    const bool narrow = c == Codes::u2 || c == Codes::s3 || c == Codes::t2 || is_signed_look_up(c);
    return c == Codes::none ? 0 : narrow ? 8 : 16;
}
PILLION_BOTH constexpr int extra_bytes(Codes c) {
    if (c == Codes::s5 || c == Codes::u5 || c == Codes::s3 || is_signed_look_up(c)) return 4;
    return c == Codes::s6 ? 8 : c == Codes::s8 ? 16 : 0;
}
// The factor of codes that are stored as signed bytes. In the last three it makes their tables
// whole numbers.
PILLION_BOTH constexpr int code_factor(Codes c) {
    if (c == Codes::iq3xxs) return 4;
    if (is_signed_look_up(c)) return 8;
    return c == Codes::s4 ? 16 : c == Codes::s5 ? 8 : c == Codes::s6 ? 4 : c == Codes::s3 ? 32 : 1;
}

PILLION_BOTH constexpr bool scales_of_block(Scales s) {  // else: of 256 inputs
    return s == Scales::half || s == Scales::brain || s == Scales::half_pair ||
           s == Scales::half_low;
}
PILLION_BOTH constexpr int scale_bytes(Scales s) {
    switch (s) {
        case Scales::half:
        case Scales::brain:
        case Scales::byte_pair:
        case Scales::byte:
        case Scales::super: return 2;
        case Scales::half_pair:
        case Scales::half_low:
        case Scales::nibble_low: return 4;
        case Scales::six_low:
        case Scales::six_pair: return 16;
        default: return 0;
    }
}
PILLION_BOTH constexpr int sub_bytes(Scales s) {
    return s == Scales::byte_pair || s == Scales::nibble_low ? 2 : s == Scales::byte ? 1 : 0;
}
// Number of a block's scales (2: one for each half), and of its minima.
PILLION_BOTH constexpr int n_scales(Scales s) {
    const bool two = s == Scales::half_pair || s == Scales::six_pair || s == Scales::byte_pair ||
                     s == Scales::nibble_low;
    return two ? 2 : 1;
}
PILLION_BOTH constexpr int n_lows(Scales s) {
    return s == Scales::half_low || s == Scales::six_low ? 1 : s == Scales::nibble_low ? 2 : 0;
}

PILLION_BOTH constexpr size_t align_256(size_t n) { return (n + 255) / 256 * 256; }

constexpr int kFloatUnit = 32;
PILLION_BOTH constexpr int64_t float_stride(int64_t width) {
    return (width + kFloatUnit - 1) / kFloatUnit * kFloatUnit;
}

struct PlaneOffsets { size_t codes, extra, scales, sub, end; };

// Offsets of the planes of all rows (depth * rows). Float formats: `codes` is the plane of values.
inline PlaneOffsets plane_offsets(DType dtype, int64_t rows, int64_t width) {
    const PackedFormat f = packed_format(dtype);
    PlaneOffsets o = {};
    if (f.float_bytes) {
        o.end = align_256(size_t(rows) * size_t(float_stride(width)) * size_t(f.float_bytes));
        return o;
    }
    const size_t blocks = size_t(rows) * size_t(width / 32);
    o.extra = align_256(blocks * size_t(code_bytes(f.codes)));
    o.scales = o.extra + align_256(blocks * size_t(extra_bytes(f.codes)));
    o.sub = o.scales + align_256((scales_of_block(f.scales) ? blocks : blocks / 8) *
                                 size_t(scale_bytes(f.scales)));
    o.end = o.sub + align_256(blocks * size_t(sub_bytes(f.scales)));
    return o;
}

// Bytes of one row in each plane; `end` is unused.
inline PlaneOffsets plane_row_bytes(DType dtype, int64_t width) {
    const PackedFormat f = packed_format(dtype);
    if (f.float_bytes) return {size_t(float_stride(width)) * size_t(f.float_bytes), 0, 0, 0, 0};
    const size_t blocks = size_t(width / 32);
    return {blocks * size_t(code_bytes(f.codes)), blocks * size_t(extra_bytes(f.codes)),
            (scales_of_block(f.scales) ? blocks : blocks / 8) * size_t(scale_bytes(f.scales)),
            blocks * size_t(sub_bytes(f.scales)), 0};
}

// Prepared inputs [rows, width].
//
//     q8      nbp = nb rounded up to even, the odd block zero. codes i8 [rows][2][nbp][16]: the
//             low, then the high halves of all blocks; sums float2 [rows][nbp]: d, d * sum of q;
//             halves float2 [rows][nbp]: d * sum over the low half, over the high half.
//     f16     values [rows][stride], then f32 [rows]: the factor of a row's results (a
//             power of two)
//     bf16    values [2][rows][stride]: x rounded, and what the rounding lost, rounded
struct Q8Offsets { size_t codes, sums, halves, end; };
PILLION_BOTH constexpr int64_t q8_blocks(int64_t width) { return (width / 32 + 1) / 2 * 2; }
inline Q8Offsets q8_offsets(int64_t rows, int64_t width) {
    const size_t blocks = size_t(rows) * size_t(q8_blocks(width));
    Q8Offsets o = {};
    o.sums = align_256(blocks * 32);
    o.halves = o.sums + align_256(blocks * 8);
    o.end = o.halves + align_256(blocks * 8);
    return o;
}
inline size_t f16_scales_offset(int64_t rows, int64_t width) {
    return align_256(size_t(rows) * size_t(float_stride(width)) * 2);
}

}  // namespace pillion::cuda
