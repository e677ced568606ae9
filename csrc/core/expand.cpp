#include "core/expand.h"

#include <string.h>

#include "core/contract/block_values.h"
#include "core/error.h"
#include "core/grids.h"

namespace pillion {
namespace {

constexpr int kSuperBlock = 256;

// ---- file -> expanded ----
// codes: [256], a magnitude's place, plus `minus` where the value is negative.

uint32_t word_at(const uint8_t* p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
// Eight signs: seven that are stored, and the one that makes their number even.
uint32_t eight_signs(uint32_t seven) {
    seven &= 127;
    return seven | uint32_t(__builtin_parity(seven)) << 7;
}
void put_places(uint32_t entry, int bits, int n, uint32_t signs, int minus, uint8_t* codes) {
    for (int i = 0; i < n; i++, entry >>= bits, signs >>= 1)
        codes[i] = uint8_t((entry & ((1u << bits) - 1)) + (signs & 1) * uint32_t(minus));
}
void put_eight(uint32_t entry, uint32_t signs, uint8_t* codes) {
    put_places(entry, 2, 8, signs, 4, codes);
}
void put_four(uint32_t entry, uint32_t signs, uint8_t* codes) {
    put_places(entry, 3, 4, signs, 8, codes);
}

// Codes of 32 inputs as the nibbles of Q4_0.
void put_nibbles(const uint8_t* codes, uint8_t* q) {
    for (int i = 0; i < 16; i++) q[i] = uint8_t(codes[i] | codes[16 + i] << 4);
}
void put_nibbles_256(const uint8_t* codes, BlockIQ3_X& to) {
    for (int g = 0; g < 8; g++) put_nibbles(codes + 32 * g, to.q + 16 * g);
}
void put_pairs_256(const uint8_t* codes, uint8_t* q) {
    memset(q, 0, 64);
    for (int i = 0; i < kSuperBlock; i++)
        q[i / 128 * 32 + i % 32] |= uint8_t((codes[i] & 3) << (i / 32 % 4 * 2));
}
void put_three_bits_256(const uint8_t* codes, BlockIQ2_X& to) {
    put_pairs_256(codes, to.q);
    memset(to.high, 0, sizeof to.high);
    for (int i = 0; i < kSuperBlock; i++) to.high[i % 32] |= uint8_t((codes[i] >> 2) << (i / 32));
}
void set_scale(uint8_t* nibbles, int g, uint32_t s) { nibbles[g / 2] |= uint8_t(s << (g % 2 * 4)); }

void expand(const BlockIQ2_XXS& b, BlockIQ2_X& to) {
    uint8_t codes[kSuperBlock];
    for (int g = 0; g < 8; g++) {
        const uint8_t* at = b.groups + 8 * g;
        const uint32_t rest = word_at(at + 4);
        for (int k = 0; k < 4; k++)
            put_eight(kGridIq2Xxs[at[k]], eight_signs(rest >> (7 * k)), codes + 32 * g + 8 * k);
        set_scale(to.scales, 2 * g, rest >> 28), set_scale(to.scales, 2 * g + 1, rest >> 28);
    }
    to.d = b.d;
    put_three_bits_256(codes, to);
}
void expand(const BlockIQ2_XS& b, BlockIQ2_X& to) {
    uint8_t codes[kSuperBlock];
    for (int i = 0; i < 32; i++)
        put_eight(kGridIq2Xs[b.q[i] & 511], eight_signs(b.q[i] >> 9), codes + 8 * i);
    to.d = b.d;
    memcpy(to.scales, b.scales, 8);
    put_three_bits_256(codes, to);
}
void expand(const BlockIQ2_S& b, BlockIQ2_X& to) {
    uint8_t codes[kSuperBlock];
    for (int i = 0; i < 32; i++)
        put_eight(kGridIq2S[b.q[i] | (b.high[i / 4] >> (i % 4 * 2) & 3) << 8], b.signs[i],
                  codes + 8 * i);
    to.d = b.d;
    memcpy(to.scales, b.scales, 8);
    put_three_bits_256(codes, to);
}
void expand(const BlockIQ3_XXS& b, BlockIQ3_X& to) {
    uint8_t codes[kSuperBlock];
    for (int g = 0; g < 8; g++) {
        const uint32_t rest = word_at(b.groups + 4 * g);
        for (int k = 0; k < 8; k++)
            put_four(kGridIq3Xxs[b.q[8 * g + k]], eight_signs(rest >> (k / 2 * 7)) >> (k % 2 * 4),
                     codes + 32 * g + 4 * k);
        set_scale(to.scales, g, rest >> 28);
    }
    to.d = b.d;
    put_nibbles_256(codes, to);
}
void expand(const BlockIQ3_S& b, BlockIQ3_X& to) {
    uint8_t codes[kSuperBlock];
    for (int i = 0; i < 64; i++)
        put_four(kGridIq3S[b.q[i] | (b.high[i / 8] >> (i % 8) & 1) << 8],
                 uint32_t(b.signs[i / 2]) >> (i % 2 * 4), codes + 4 * i);
    to.d = b.d;
    memcpy(to.scales, b.scales, 4);
    put_nibbles_256(codes, to);
}
void expand(const BlockIQ1_S& b, BlockIQ2_X& to) {
    uint8_t codes[kSuperBlock];
    for (int g = 0; g < 8; g++) {
        const uint32_t high = b.high[g], scale = high >> 12 & 7;
        for (int k = 0; k < 4; k++)
            put_eight(kGridIq1[b.q[4 * g + k] | (high >> (3 * k) & 7) << 8], high >> 15 ? 255 : 0,
                      codes + 32 * g + 8 * k);
        set_scale(to.scales, 2 * g, scale), set_scale(to.scales, 2 * g + 1, scale);
    }
    to.d = b.d;
    put_three_bits_256(codes, to);
}
void expand(const BlockIQ1_M& b, BlockIQ2_X& to) {
    uint8_t codes[kSuperBlock];
    for (int i = 0; i < 32; i++) {
        const uint32_t high = b.high[i / 2] >> (i % 2 * 4);
        put_eight(kGridIq1[b.q[i] | (high & 7) << 8], high & 8 ? 255 : 0, codes + 8 * i);
    }
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) d |= uint32_t(b.scales[i] >> 12) << (4 * i);
    for (int g = 0; g < 16; g++) set_scale(to.scales, g, b.scales[g / 4] >> (g % 4 * 3) & 7);
    to.d = uint16_t(d);
    put_three_bits_256(codes, to);
}
uint8_t digit(uint8_t byte, int k) {
    constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
    return uint8_t(uint8_t(byte * kPowers[k]) * 3 >> 8);
}
void expand(const BlockTQ1_0& b, BlockTQ2_0& to) {
    uint8_t codes[kSuperBlock];
    for (int i = 0; i < 160; i++) codes[i] = digit(b.q[i % 32], i / 32);
    for (int i = 0; i < 80; i++) codes[160 + i] = digit(b.q[32 + i % 16], i / 16);
    for (int i = 0; i < 16; i++) codes[240 + i] = digit(b.high[i % 4], i / 4);
    to.d = b.d;
    put_pairs_256(codes, to.q);
}
// 2^(e - 128) as a bf16; the two smallest are subnormal.
void expand(const BlockMXFP4& b, BlockMXFP4_X& to) {
    to.d = uint16_t(b.e < 2 ? 0x20 << b.e : (b.e - 1) << 7);
    memcpy(to.q, b.q, 16);
}
// Half an E4M3 as an f16: three bits of mantissa, exponents -10 .. 7.
uint16_t half_of_e4m3(uint8_t v) {
    const int exponent = v >> 3 & 15, mantissa = v & 7;
    if (v == 0x7F) return 0;
    if (exponent > 0) return uint16_t((exponent - 7 - 1 + 15) << 10 | mantissa << 7);
    return f32_to_f16(float(mantissa) * 0x1p-10f);
}
struct TwoNVFP4_X { BlockNVFP4_X half[2]; };
void expand(const BlockNVFP4& b, TwoNVFP4_X& to) {
    for (int h = 0; h < 2; h++) {
        uint8_t codes[32];
        for (int g = 0; g < 2; g++)
            for (int i = 0; i < 8; i++) {
                const uint8_t both = b.q[16 * h + 8 * g + i];
                codes[16 * g + i] = both & 15, codes[16 * g + 8 + i] = both >> 4;
            }
        to.half[h].d[0] = half_of_e4m3(b.scales[2 * h]),
        to.half[h].d[1] = half_of_e4m3(b.scales[2 * h + 1]);
        put_nibbles(codes, to.half[h].q);
    }
}

// DO(file's type, its block, what a block becomes, the type of that)
#define PILLION_EXPANDED(DO)                         \
    DO(mxfp4, BlockMXFP4, BlockMXFP4_X, mxfp4_x)     \
    DO(nvfp4, BlockNVFP4, TwoNVFP4_X, nvfp4_x)       \
    DO(iq3_xxs, BlockIQ3_XXS, BlockIQ3_X, iq3_xxs_x) \
    DO(iq3_s, BlockIQ3_S, BlockIQ3_X, iq3_s_x)       \
    DO(iq2_xxs, BlockIQ2_XXS, BlockIQ2_X, iq2_x)     \
    DO(iq2_xs, BlockIQ2_XS, BlockIQ2_X, iq2_x)       \
    DO(iq2_s, BlockIQ2_S, BlockIQ2_X, iq2_x)         \
    DO(iq1_s, BlockIQ1_S, BlockIQ2_X, iq1_x)         \
    DO(iq1_m, BlockIQ1_M, BlockIQ2_X, iq1_x)         \
    DO(tq1_0, BlockTQ1_0, BlockTQ2_0, tq2_0)

template <class From, class To>
void expand_blocks(const uint8_t* from, int64_t n, uint8_t* to) {
    for (int64_t i = 0; i < n; i++, from += sizeof(From), to += sizeof(To)) {
        From b;
        To x = {};
        memcpy(&b, from, sizeof b);
        expand(b, x);
        memcpy(to, &x, sizeof x);
    }
}

// ---- expanded -> f32 ----

template <class Block, int kInputs>
void read_blocks(void (*values)(const Block*, float*), const uint8_t* from, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += kInputs, from += sizeof(Block)) {
        Block b;
        memcpy(&b, from, sizeof b);
        values(&b, out + i);
    }
}

void read_halves(float (*value)(uint16_t), const uint8_t* from, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, 2);
        out[i] = value(h);
    }
}

void read_expanded(DType dtype, const uint8_t* from, int64_t n, float* out) {
    const int block = info(dtype).block;
    alignas(8) uint8_t bytes[256];
    for (int64_t i = 0; i < n; i += block, from += info(dtype).block_bytes) {
        expand_row(dtype, from, block, bytes);
        read_row(expanded(dtype), bytes, block, out + i);
    }
}

}  // namespace

DType expanded(DType dtype) {
    switch (dtype) {
#define PILLION_CASE(TYPE, FROM, TO, BECOMES) \
    case DType::TYPE: return DType::BECOMES;
        PILLION_EXPANDED(PILLION_CASE)
#undef PILLION_CASE
        default: return dtype;
    }
}

void expand_row(DType file, const uint8_t* from, int64_t n, uint8_t* to) {
    const int64_t blocks = n / info(file).block;
    switch (file) {
#define PILLION_CASE(TYPE, FROM, TO, BECOMES) \
    case DType::TYPE: return expand_blocks<FROM, TO>(from, blocks, to);
        PILLION_EXPANDED(PILLION_CASE)
#undef PILLION_CASE
        default: memcpy(to, from, row_bytes(file, n));
    }
}

bool can_read(DType dtype) {
    return info(dtype).is_quantized || dtype == DType::f32 || dtype == DType::f16 ||
           dtype == DType::bf16;
}

void read_row(DType dtype, const uint8_t* from, int64_t n, float* out) {
    if (is_expanded(dtype)) return read_expanded(dtype, from, n, out);
    switch (dtype) {
#define PILLION_SCALED(name, label, block) \
    case DType::name: return read_blocks<block, name##_inputs>(name##_values, from, n, out);
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED
        case DType::f32: memcpy(out, from, size_t(n) * 4); return;
        case DType::f16: return read_halves(f16_to_f32, from, n, out);
        case DType::bf16: return read_halves(bf16_to_f32, from, n, out);
        default: fail(Status::internal, "type %s has no values", info(dtype).name);
    }
}

}  // namespace pillion
