// GGUF rows -> planes (matmul_layout.h). A block of 32 inputs goes through eight words of byte
// codes; everything works on words, never on single codes: import time is seconds for gigabytes.
#include <string.h>

#include "backends/cuda/kernels/matmul.h"
#include "backends/cuda/kernels/matmul_layout.h"
#include "core/contract/blocks.h"
#include "core/error.h"

namespace pillion::cuda {
namespace {

constexpr uint32_t kBit = 0x01010101, kPair = 0x03030303, kNibble = 0x0F0F0F0F;

uint32_t word(const void* p, int i) {
    uint32_t v;
    memcpy(&v, static_cast<const uint8_t*>(p) + 4 * i, 4);
    return v;
}
void put_word(void* p, int i, uint32_t v) { memcpy(static_cast<uint8_t*>(p) + 4 * i, &v, 4); }
void put_half(void* p, int i, uint16_t v) { memcpy(static_cast<uint8_t*>(p) + 2 * i, &v, 2); }

// ---- file's block -> words of codes ----
// g: block of 32 inputs within the file's block. Signed formats give code - zero modulo the code's
// width.

void low_high(const uint8_t* q, uint32_t* w) {  // byte i: inputs i and i + 16
    for (int j = 0; j < 4; j++) w[j] = word(q, j) & kNibble, w[j + 4] = word(q, j) >> 4 & kNibble;
}
void one_nibble(const uint8_t* q, int high,
                uint32_t* w) {  // 32 bytes, one block in the low and one in the high nibbles
    for (int j = 0; j < 8; j++) w[j] = word(q, j) >> (4 * high) & kNibble;
}
void one_pair(const uint8_t* q, int pair, uint32_t* w) {
    for (int j = 0; j < 8; j++) w[j] = word(q, j) >> (2 * pair) & kPair;
}
void add_bits(const uint8_t* bits, int bit, int to, uint32_t* w) {  // 32 bytes, bit `bit` of each
    for (int j = 0; j < 8; j++) w[j] |= (word(bits, j) >> bit & kBit) << to;
}
void add_bits_32(const uint8_t* bits, int to, uint32_t* w) {  // 32 bits, one an input
    // The product puts copies of the four bits 7 apart, so that bit b of the nibble stands at bit
    // 8b.
    for (int j = 0; j < 8; j++)
        w[j] |= ((word(bits, 0) >> (4 * j) & 15) * 0x00204081u & kBit) << to;
}
void flip(uint32_t bit, uint32_t* w) {  // subtracts the zero point 2^k of a code of k + 1 bits
    for (int j = 0; j < 8; j++) w[j] ^= bit * kBit;
}

void codes_of(const BlockQ4_0& b, int, uint32_t* w) { low_high(b.q, w), flip(8, w); }
void codes_of(const BlockQ4_1& b, int, uint32_t* w) { low_high(b.q, w); }
void codes_of(const BlockQ5_0& b, int, uint32_t* w) {
    low_high(b.q, w), add_bits_32(b.high, 4, w), flip(16, w);
}
void codes_of(const BlockQ5_1& b, int, uint32_t* w) { low_high(b.q, w), add_bits_32(b.high, 4, w); }
void codes_of(const BlockQ8_0& b, int, uint32_t* w) { memcpy(w, b.q, 32); }
void codes_of(const BlockQ2_K& b, int g, uint32_t* w) { one_pair(b.q + g / 4 * 32, g % 4, w); }
void codes_of(const BlockQ3_K& b, int g, uint32_t* w) {
    one_pair(b.q + g / 4 * 32, g % 4, w), add_bits(b.high, g, 2, w), flip(4, w);
}
void codes_of(const BlockQ4_K& b, int g, uint32_t* w) { one_nibble(b.q + g / 2 * 32, g % 2, w); }
void codes_of(const BlockQ5_K& b, int g, uint32_t* w) {
    one_nibble(b.q + g / 2 * 32, g % 2, w), add_bits(b.high, g, 4, w);
}
void codes_of(const BlockQ6_K& b, int g, uint32_t* w) {
    one_nibble(b.low + g / 4 * 64 + g % 2 * 32, g % 4 / 2, w);
    for (int j = 0; j < 8; j++) w[j] |= (word(b.high + g / 4 * 32, j) >> (g % 4 * 2) & kPair) << 4;
    flip(32, w);
}
void codes_of(const BlockIQ4_NL& b, int, uint32_t* w) { low_high(b.q, w); }
void codes_of(const BlockIQ4_XS& b, int g, uint32_t* w) { low_high(b.q + 16 * g, w); }
void codes_of(const BlockMXFP4_X& b, int, uint32_t* w) { low_high(b.q, w); }
void codes_of(const BlockNVFP4_X& b, int, uint32_t* w) { low_high(b.q, w); }
void codes_of(const BlockIQ3_X& b, int g, uint32_t* w) { low_high(b.q + 16 * g, w); }
void codes_of(const BlockIQ2_X& b, int g, uint32_t* w) {
    one_pair(b.q + g / 4 * 32, g % 4, w), add_bits(b.high, g, 2, w);
}
void codes_of(const BlockTQ2_0& b, int g, uint32_t* w) { one_pair(b.q + g / 4 * 32, g % 4, w); }

// ---- words of codes -> planes ----

uint32_t squeeze(uint32_t w) {  // four bytes' low nibbles side by side
    w |= w >> 4;
    return (w & 0xFF) | (w >> 8 & 0xFF00);
}
void put_nibbles(const uint32_t* w, uint8_t* codes) {
    for (int t = 0; t < 4; t++) put_word(codes, t, (w[t] & kNibble) | (w[t + 4] & kNibble) << 4);
}
void put_pairs(const uint32_t* w, int from, uint8_t* to) {
    uint32_t p[2] = {};
    for (int j = 0; j < 8; j++) p[j % 2] |= (w[j] >> from & kPair) << (j / 2 * 2);
    put_word(to, 0, p[0]), put_word(to, 1, p[1]);
}
void put_bits(const uint32_t* w, int from, uint8_t* to) {
    uint32_t bits = 0;
    for (int j = 0; j < 8; j++) bits |= (w[j] >> from & kBit) << j;
    put_word(to, 0, bits);
}

// Eight codes of three bits a word: places in two words, signs in one.
void put_signed_places(const uint32_t* w, uint8_t* codes, uint8_t* extra) {
    uint32_t places[2] = {}, signs = 0;
    for (int t = 0; t < 4; t++) {
        const uint32_t nibbles = squeeze(w[t]) | squeeze(w[t + 4]) << 16;
        places[t % 2] |= (nibbles & 0x33333333) << (t & 2);
        signs |= (nibbles >> 2 & 0x11111111) << t;
    }
    put_word(codes, 0, places[0]), put_word(codes, 1, places[1]), put_word(extra, 0, signs);
}

template <Codes C>
void put_codes(const uint32_t* w, uint8_t* codes, uint8_t* extra) {
    if (C == Codes::s4 || C == Codes::u4) put_nibbles(w, codes);
    if (C == Codes::iq4 || C == Codes::e2m1 || C == Codes::iq3s || C == Codes::iq3xxs)
        for (int t = 0; t < 4; t++) put_word(codes, t, squeeze(w[t]) | squeeze(w[t + 4]) << 16);
    if (C == Codes::s5 || C == Codes::u5) put_nibbles(w, codes), put_bits(w, 4, extra);
    if (C == Codes::s6) put_nibbles(w, codes), put_pairs(w, 4, extra);
    if (C == Codes::s8) memcpy(codes, w, 16), memcpy(extra, w + 4, 16);
    if (is_signed_look_up(C)) put_signed_places(w, codes, extra);
    if (C == Codes::u2 || C == Codes::t2) put_pairs(w, 0, codes);
    if (C == Codes::s3) put_pairs(w, 0, codes), put_bits(w, 2, extra);
}

// ---- scales of a file's block ----

template <class B>
void put_scales(const B& b, uint8_t* scales, uint8_t*) {
    put_half(scales, 0, b.d);
}
void put_scales(const BlockQ4_1& b, uint8_t* scales, uint8_t*) {
    put_half(scales, 0, b.d), put_half(scales, 1, b.m);
}
void put_scales(const BlockQ5_1& b, uint8_t* scales, uint8_t*) {
    put_half(scales, 0, b.d), put_half(scales, 1, b.m);
}

// Two six-bit numbers a block: fields a[g] and b[g].
void put_sixes(uint16_t d, uint16_t dmin, const uint8_t* a, const uint8_t* b, int step,
               uint8_t* scales) {
    uint32_t high = 0;
    put_half(scales, 0, d), put_half(scales, 1, dmin);
    for (int g = 0; g < 8; g++) {
        const uint32_t p = a[g * step], q = b[g * step];
        scales[4 + g] = uint8_t((p & 15) | (q & 15) << 4);
        high |= (p >> 4 | q >> 4 << 2) << (4 * g);
    }
    put_word(scales, 3, high);
}
template <class B>
void put_six_low(const B& b, uint8_t* scales) {
    uint8_t v[16];
    block_six_bits(b.scales, v);
    put_sixes(b.d, b.dmin, v, v + 8, 1, scales);
}
void put_scales(const BlockQ4_K& b, uint8_t* scales, uint8_t*) { put_six_low(b, scales); }
void put_scales(const BlockQ5_K& b, uint8_t* scales, uint8_t*) { put_six_low(b, scales); }
void put_scales(const BlockQ3_K& b, uint8_t* scales, uint8_t*) {
    uint8_t v[16];
    block_q3_scales(b.scales, v);
    put_sixes(b.d, 0, v, v + 1, 2, scales);
}
void put_scales(const BlockQ2_K& b, uint8_t* scales, uint8_t* sub) {
    put_half(scales, 0, b.d), put_half(scales, 1, b.dmin);
    memcpy(sub, b.scales, 16);
}
void put_scales(const BlockQ6_K& b, uint8_t* scales, uint8_t* sub) {
    put_half(scales, 0, b.d), memcpy(sub, b.scales, 16);
}
void put_scales(const BlockIQ4_XS& b, uint8_t* scales, uint8_t* sub) {
    put_half(scales, 0, b.d);
    for (int g = 0; g < 8; g++) {
        const int low = b.scales_low[g / 2] >> (g % 2 * 4) & 15,
                  high = b.scales_high >> (2 * g) & 3;
        sub[g] = uint8_t((low | high << 4) - 32);
    }
}
void put_scales(const BlockNVFP4_X& b, uint8_t* scales, uint8_t*) {
    put_half(scales, 0, b.d[0]), put_half(scales, 1, b.d[1]);
}
template <class B>
void put_odd_scales(const B& b, int n, uint8_t* scales, uint8_t* sub) {
    put_half(scales, 0, b.d);
    for (int g = 0; g < n; g++) sub[g] = uint8_t(2 * (b.scales[g / 2] >> (g % 2 * 4) & 15) + 1);
}
void put_scales(const BlockIQ3_X& b, uint8_t* scales, uint8_t* sub) {
    put_odd_scales(b, 8, scales, sub);
}
void put_scales(const BlockIQ2_X& b, uint8_t* scales, uint8_t* sub) {
    put_odd_scales(b, 16, scales, sub);
}

// ---- rows ----

template <class B, DType T>
void pack_rows(const uint8_t* file, int64_t n, int64_t width, const PackedRows& to) {
    constexpr PackedFormat f = packed_format(T);
    constexpr int kBlocks = sizeof(B) < 64 ? 1 : 8;  // of 32 inputs in the file's block
    for (int64_t i = 0; i < n * (width / 32 / kBlocks); i++) {
        B b;
        memcpy(&b, file + size_t(i) * sizeof(B), sizeof b);
        put_scales(b, to.scales + size_t(i) * size_t(scale_bytes(f.scales)),
                   to.sub + size_t(i) * size_t(kBlocks * sub_bytes(f.scales)));
        for (int g = 0; g < kBlocks; g++) {
            const size_t at = size_t(i) * kBlocks + size_t(g);
            uint32_t w[8];
            codes_of(b, g, w);
            put_codes<f.codes>(w, to.codes + at * size_t(code_bytes(f.codes)),
                               to.extra + at * size_t(extra_bytes(f.codes)));
        }
    }
}

void pack_floats(size_t bytes, const uint8_t* file, int64_t n, int64_t width,
                 const PackedRows& to) {
    const size_t row = size_t(width) * bytes, stride = size_t(float_stride(width)) * bytes;
    for (int64_t r = 0; r < n; r++) {
        memcpy(to.codes + size_t(r) * stride, file + size_t(r) * row, row);
        memset(to.codes + size_t(r) * stride + row, 0, stride - row);
    }
}

}  // namespace

bool matmul_supports(DType dtype) { return packed_format(dtype).float_bytes >= 0; }

size_t packed_bytes(DType dtype, int64_t rows, int64_t width) {
    PILLION_CHECK(matmul_supports(dtype) && width % info(dtype).block == 0);
    return plane_offsets(dtype, rows, width).end;
}

void repack_rows(DType dtype, const void* file_rows, int64_t n, int64_t width,
                 const PackedRows& to) {
    PILLION_CHECK(width % info(dtype).block == 0);
    const uint8_t* file = static_cast<const uint8_t*>(file_rows);
    switch (dtype) {
        case DType::f32: return pack_floats(4, file, n, width, to);
        case DType::f16:
        case DType::bf16: return pack_floats(2, file, n, width, to);
        case DType::q4_0: return pack_rows<BlockQ4_0, DType::q4_0>(file, n, width, to);
        case DType::q4_1: return pack_rows<BlockQ4_1, DType::q4_1>(file, n, width, to);
        case DType::q5_0: return pack_rows<BlockQ5_0, DType::q5_0>(file, n, width, to);
        case DType::q5_1: return pack_rows<BlockQ5_1, DType::q5_1>(file, n, width, to);
        case DType::q8_0: return pack_rows<BlockQ8_0, DType::q8_0>(file, n, width, to);
        case DType::q2_k: return pack_rows<BlockQ2_K, DType::q2_k>(file, n, width, to);
        case DType::q3_k: return pack_rows<BlockQ3_K, DType::q3_k>(file, n, width, to);
        case DType::q4_k: return pack_rows<BlockQ4_K, DType::q4_k>(file, n, width, to);
        case DType::q5_k: return pack_rows<BlockQ5_K, DType::q5_k>(file, n, width, to);
        case DType::q6_k: return pack_rows<BlockQ6_K, DType::q6_k>(file, n, width, to);
        case DType::iq4_nl: return pack_rows<BlockIQ4_NL, DType::iq4_nl>(file, n, width, to);
        case DType::iq4_xs: return pack_rows<BlockIQ4_XS, DType::iq4_xs>(file, n, width, to);
        case DType::mxfp4_x: return pack_rows<BlockMXFP4_X, DType::mxfp4_x>(file, n, width, to);
        case DType::nvfp4_x: return pack_rows<BlockNVFP4_X, DType::nvfp4_x>(file, n, width, to);
        case DType::iq3_xxs_x: return pack_rows<BlockIQ3_X, DType::iq3_xxs_x>(file, n, width, to);
        case DType::iq3_s_x: return pack_rows<BlockIQ3_X, DType::iq3_s_x>(file, n, width, to);
        case DType::iq2_x: return pack_rows<BlockIQ2_X, DType::iq2_x>(file, n, width, to);
        case DType::iq1_x: return pack_rows<BlockIQ2_X, DType::iq1_x>(file, n, width, to);
        case DType::tq2_0: return pack_rows<BlockTQ2_0, DType::tq2_0>(file, n, width, to);
        default:
            fail(Status::unsupported_op, "type %s is not a weight format of the cuda backend",
                 info(dtype).name);
    }
}

void repack(DType dtype, const void* file_rows, int64_t begin, int64_t end, int64_t rows,
            int64_t width, void* packed) {
    PILLION_CHECK(begin >= 0 && end <= rows);
    const PlaneOffsets o = plane_offsets(dtype, rows, width), row = plane_row_bytes(dtype, width);
    uint8_t* out = static_cast<uint8_t*>(packed);
    const auto at = [&](size_t plane, size_t bytes) { return out + plane + size_t(begin) * bytes; };
    repack_rows(dtype,
                static_cast<const uint8_t*>(file_rows) + row_bytes(dtype, width) * size_t(begin),
                end - begin, width,
                {at(o.codes, row.codes), at(o.extra, row.extra), at(o.scales, row.scales),
                 at(o.sub, row.sub)});
}

}  // namespace pillion::cuda
