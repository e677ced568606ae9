// Packing moves 32-bit words, never single codes. Most formats need a transposition of words, where
// a row's four neighbouring codes are one lane; the others first transpose small bit fields.
// Unpacking uses the plain readers instead, so that a round trip compares two
// independent implementations.
#include "backends/cpu/lane_pack.h"

#include <string.h>

#include "backends/cpu/block_codes.h"

namespace pillion::cpu {

namespace {

// ---- file -> planes ----
// `codes`: the step's codes; r: the row in the panel.

constexpr uint32_t kLowNibbles = 0x0F0F0F0F, kHighNibbles = 0xF0F0F0F0;

// 32 inputs whose nibbles already have the planes' order.
inline void pack_nibbles(const uint8_t* q, uint8_t* codes, int r) {
    for (int j = 0; j < 4; j++) put32(codes + j * kPlaneBytes, r, take32(q, j));
}

// 64 inputs in 32 bytes: one block of 32 in the low nibbles, one in the high.
inline void pack_two_blocks(const uint8_t* q, uint8_t* low_block, uint8_t* high_block, int r) {
    for (int j = 0; j < 4; j++) {
        const uint32_t a = take32(q, j), b = take32(q, j + 4);
        put32(low_block + j * kPlaneBytes, r, (a & kLowNibbles) | (b & kLowNibbles) << 4);
        put32(high_block + j * kPlaneBytes, r, (a >> 4 & kLowNibbles) | (b & kHighNibbles));
    }
}

// Swaps the bits of a at `mask << shift` with those of b at `mask`: one step of a transposition of
// bit fields over words.
inline void swap_fields(uint32_t& a, uint32_t& b, int shift, uint32_t mask) {
    const uint32_t t = (a >> shift ^ b) & mask;
    b ^= t;
    a ^= t << shift;
}

// 128 inputs in 32 bytes. Bit pair s of a byte belongs to block s; it becomes bit pair m of a byte
// of plane k + 2m.
inline void pack_pairs(const uint8_t* q, uint8_t* planes, int block_bytes, int r) {
    for (int k = 0; k < 2; k++) {
        uint32_t w[4] = {take32(q, k), take32(q, k + 2), take32(q, k + 4), take32(q, k + 6)};
        swap_fields(w[0], w[2], 4, kLowNibbles);
        swap_fields(w[1], w[3], 4, kLowNibbles);
        swap_fields(w[0], w[1], 2, 0x33333333);
        swap_fields(w[2], w[3], 2, 0x33333333);
        for (int s = 0; s < 4; s++) put32(planes + s * block_bytes + k * kPlaneBytes, r, w[s]);
    }
}

// 256 inputs in 32 bytes. Bit s of a byte belongs to block s; it becomes bit j of a byte of plane
// j.
inline void pack_bits_256(const uint8_t* q, uint8_t* plane, int block_bytes, int r) {
    uint32_t w[8];
    for (int j = 0; j < 8; j++) w[j] = take32(q, j);
    for (int j = 0; j < 4; j++) swap_fields(w[j], w[j + 4], 4, kLowNibbles);
    for (int j = 0; j < 8; j += j % 2 == 0 ? 1 : 3) swap_fields(w[j], w[j + 2], 2, 0x33333333);
    for (int j = 0; j < 8; j += 2) swap_fields(w[j], w[j + 1], 1, 0x55555555);
    for (int s = 0; s < 8; s++) put32(plane + s * block_bytes, r, w[s]);
}

// Moves bits 4j + b of 32 to bit j of byte b. The table holds the contribution of one byte (two j).
struct BitTable {
    uint32_t of[256];
    constexpr BitTable() : of() {
        for (uint32_t v = 0; v < 256; v++)
            for (int b = 0; b < 4; b++)
                of[v] |= ((v >> b & 1) | (v >> (4 + b) & 1) << 1) << (8 * b);
    }
};
constexpr BitTable kBitTable;
inline void pack_bits_32(const uint8_t* high, uint8_t* plane, int r) {
    put32(plane, r,
          kBitTable.of[high[0]] | kBitTable.of[high[1]] << 2 | kBitTable.of[high[2]] << 4 |
              kBitTable.of[high[3]] << 6);
}

inline void pack_six_bits(const uint8_t* v, uint8_t* words, int r) {
    for (int w = 0; w < 3; w++) {
        uint32_t word = uint32_t(v[15] >> (2 * w) & 3) << 30;
        for (int i = 0; i < 5; i++) word |= uint32_t(v[5 * w + i]) << (6 * i);
        put32(words + w * kPlaneBytes, r, word);
    }
}

inline void pack_block(const BlockQ5_0& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    pack_bits_32(b.high, step + 2 * kPanel, r);
    pack_nibbles(b.q, step + 2 * kPanel + Q5_0::kWide, r);
}
inline void pack_block(const BlockQ5_1& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    put16(step + 2 * kPanel, r, b.m);
    pack_bits_32(b.high, step + 4 * kPanel, r);
    pack_nibbles(b.q, step + 4 * kPanel + Q5_1::kWide, r);
}
inline void pack_block(const BlockQ2_K& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    put16(step + 2 * kPanel, r, b.dmin);
    for (int g = 0; g < 16; g++) step[(4 + g) * kPanel + r] = b.scales[g];
    for (int half = 0; half < 2; half++)
        pack_pairs(b.q + 32 * half, step + Q2_K::kScaleBytes * kPanel + 4 * half * Q2_K::kCodeBytes,
                   Q2_K::kCodeBytes, r);
}
inline void pack_block(const BlockQ3_K& b, uint8_t* step, int r) {
    uint8_t v[16];
    block_q3_scales(b.scales, v);
    put16(step, r, b.d);
    pack_six_bits(v, step + 2 * kPanel, r);
    uint8_t* codes = step + Q3_K::kScaleBytes * kPanel;
    pack_bits_256(b.high, codes, Q3_K::kCodeBytes, r);
    for (int half = 0; half < 2; half++)
        pack_pairs(b.q + 32 * half, codes + Q3_K::kWide + 4 * half * Q3_K::kCodeBytes,
                   Q3_K::kCodeBytes, r);
}
inline void pack_block(const BlockQ4_K& b, uint8_t* step, int r) {
    uint8_t v[16];
    block_six_bits(b.scales, v);
    put16(step, r, b.d);
    put16(step + 2 * kPanel, r, b.dmin);
    pack_six_bits(v, step + 4 * kPanel, r);
    uint8_t* codes = step + Q4_K::kScaleBytes * kPanel;
    for (int c = 0; c < 4; c++, codes += 2 * Q4_K::kCodeBytes)
        pack_two_blocks(b.q + 32 * c, codes, codes + Q4_K::kCodeBytes, r);
}
inline void pack_block(const BlockQ5_K& b, uint8_t* step, int r) {
    uint8_t v[16];
    block_six_bits(b.scales, v);
    put16(step, r, b.d);
    put16(step + 2 * kPanel, r, b.dmin);
    pack_six_bits(v, step + 4 * kPanel, r);
    uint8_t* codes = step + Q5_K::kScaleBytes * kPanel;
    pack_bits_256(b.high, codes, Q5_K::kCodeBytes, r);
    codes += Q5_K::kWide;
    for (int c = 0; c < 4; c++, codes += 2 * Q5_K::kCodeBytes)
        pack_two_blocks(b.q + 32 * c, codes, codes + Q5_K::kCodeBytes, r);
}
inline void pack_block(const BlockQ6_K& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    for (int g = 0; g < 16; g++) step[(2 + g) * kPanel + r] = uint8_t(b.scales[g]);
    uint8_t* codes = step + Q6_K::kScaleBytes * kPanel;
    for (int half = 0; half < 2; half++, codes += 4 * Q6_K::kCodeBytes) {
        for (int s = 0; s < 2; s++)
            pack_two_blocks(b.low + 64 * half + 32 * s, codes + Q6_K::kWide + s * Q6_K::kCodeBytes,
                            codes + Q6_K::kWide + (s + 2) * Q6_K::kCodeBytes, r);
        pack_pairs(b.high + 32 * half, codes, Q6_K::kCodeBytes, r);
    }
}
inline void pack_block(const BlockIQ4_XS& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    put16(step + 2 * kPanel, r, b.scales_high);
    put32(step + 4 * kPanel, r, take32(b.scales_low, 0));
    uint8_t* codes = step + IQ4_XS::kScaleBytes * kPanel;
    for (int g = 0; g < 8; g++) pack_nibbles(b.q + 16 * g, codes + g * IQ4_XS::kCodeBytes, r);
}
inline void pack_block(const BlockIQ3_X& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    put32(step + 2 * kPanel, r, take32(b.scales, 0));
    uint8_t* codes = step + IQ3_S_X::kScaleBytes * kPanel;
    for (int g = 0; g < 8; g++) pack_nibbles(b.q + 16 * g, codes + g * IQ3_S_X::kCodeBytes, r);
}
inline void pack_block(const BlockIQ2_X& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    for (int half = 0; half < 2; half++)
        put32(step + 2 * kPanel + half * kPlaneBytes, r, take32(b.scales, half));
    uint8_t* codes = step + IQ2_X::kScaleBytes * kPanel;
    pack_bits_256(b.high, codes, IQ2_X::kCodeBytes, r);
    for (int half = 0; half < 2; half++)
        pack_pairs(b.q + 32 * half, codes + IQ2_X::kWide + 4 * half * IQ2_X::kCodeBytes,
                   IQ2_X::kCodeBytes, r);
}
inline void pack_block(const BlockTQ2_0& b, uint8_t* step, int r) {
    put16(step, r, b.d);
    for (int half = 0; half < 2; half++)
        pack_pairs(b.q + 32 * half,
                   step + TQ2_0::kScaleBytes * kPanel + 4 * half * TQ2_0::kCodeBytes,
                   TQ2_0::kCodeBytes, r);
}

// ---- four rows at a time ----
// For the formats of 32 inputs whose codes already have the planes' order: transposes 4 x 4 words
// in registers.

typedef uint32_t Words __attribute__((vector_size(16)));

// Moves words q[0 .. 3] of rows r .. r + 3 to four planes.
inline void pack_words(const uint8_t* const* rows, size_t q, uint8_t* planes, int r,
                       uint32_t flip = 0) {
    Words a, b, c, d;
    memcpy(&a, rows[0] + q, 16), memcpy(&b, rows[1] + q, 16), memcpy(&c, rows[2] + q, 16),
        memcpy(&d, rows[3] + q, 16);
    const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Words ef = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const Words w[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5) ^ flip,
                        __builtin_shufflevector(ab, cd, 2, 3, 6, 7) ^ flip,
                        __builtin_shufflevector(ef, gh, 0, 1, 4, 5) ^ flip,
                        __builtin_shufflevector(ef, gh, 2, 3, 6, 7) ^ flip};
    for (int j = 0; j < 4; j++) memcpy(planes + j * kPlaneBytes + 4 * r, &w[j], 16);
}
inline void pack_halves(const uint8_t* const* rows, size_t at, uint8_t* plane, int r) {
    for (int k = 0; k < 4; k++) put16(plane, r + k, take16(rows[k] + at, 0));
}
constexpr int kTwoHalves = 2 * kPanel;  // a plane of 16-bit scales

template <class F>
inline void pack_four(F, const uint8_t* const* rows, uint8_t* step, int r) {
    for (int k = 0; k < 4; k++) {
        typename F::Block b;
        memcpy(&b, rows[k], sizeof b);
        pack_block(b, step, r + k);
    }
}
inline void pack_four(Q4_0, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockQ4_0, d), step, r);
    pack_words(rows, offsetof(BlockQ4_0, q), step + kTwoHalves, r);
}
inline void pack_four(IQ4_NL, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockIQ4_NL, d), step, r);
    pack_words(rows, offsetof(BlockIQ4_NL, q), step + kTwoHalves, r);
}
inline void pack_four(MXFP4_X, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockMXFP4_X, d), step, r);
    pack_words(rows, offsetof(BlockMXFP4_X, q), step + kTwoHalves, r);
}
inline void pack_four(NVFP4_X, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockNVFP4_X, d), step, r);
    pack_halves(rows, offsetof(BlockNVFP4_X, d) + 2, step + kTwoHalves, r);
    pack_words(rows, offsetof(BlockNVFP4_X, q), step + 2 * kTwoHalves, r);
}
inline void pack_four(Q4_1, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockQ4_1, d), step, r);
    pack_halves(rows, offsetof(BlockQ4_1, m), step + kTwoHalves, r);
    pack_words(rows, offsetof(BlockQ4_1, q), step + 2 * kTwoHalves, r);
}
inline void pack_four(Q8_0, const uint8_t* const* rows, uint8_t* step, int r) {
    pack_halves(rows, offsetof(BlockQ8_0, d), step, r);
    for (int half = 0; half < 2; half++)  // value + 128
        pack_words(rows, offsetof(BlockQ8_0, q) + 16 * size_t(half),
                   step + kTwoHalves + 4 * half * kPlaneBytes, r, 0x80808080);
}

// ---- matrices ----

// The 32 file rows of a panel. Rows past the end read one zero block again and again.
struct PanelRows {
    const uint8_t* at[kPanel];
    size_t next_block[kPanel];  // bytes
};
alignas(16) constexpr uint8_t kZeroBlock[256] = {};

PanelRows panel_rows(const void* file_rows, const int32_t* file_row_of, int64_t rows, int64_t panel,
                     size_t row_bytes, size_t block_bytes) {
    PanelRows p;
    for (int r = 0; r < kPanel; r++) {
        const int64_t row = panel * kPanel + r;
        const bool inside = row < rows;
        const int64_t from = inside && file_row_of ? file_row_of[row] : row;
        p.at[r] =
            inside ? static_cast<const uint8_t*>(file_rows) + size_t(from) * row_bytes : kZeroBlock;
        p.next_block[r] = inside ? block_bytes : 0;
    }
    return p;
}

// Prefetches the next panel's rows. They are 32 short pieces of the file, which the processor's
// prefetchers do not recognise.
template <class F>
void pack_panel(PanelRows p, int inputs, uint8_t* out) {
    // Steps of a row at a time, so that reads span some cache lines and writes stay within L1.
    constexpr int kTogether = F::kInputs == 32 ? 8 : 1;
    const int steps = inputs / F::kInputs;
    const size_t next_panel = kPanel * size_t(steps) * sizeof(typename F::Block);
    for (int first = 0; first < steps; first += kTogether) {
        const int last = first + kTogether < steps ? first + kTogether : steps;
        for (int r = 0; r < kPanel; r += 4)
            for (int s = first; s < last; s++) {
                pack_four(F(), p.at + r, out + size_t(s) * F::kStepBytes, r);
                for (int k = r; k < r + 4; k++) {
                    for (size_t i = 0; i < sizeof(typename F::Block); i += 64)
                        __builtin_prefetch(p.at[k] + next_panel + i);
                    p.at[k] += p.next_block[k];
                }
            }
    }
}

template <class T>  // unsigned integer of the value's size
void pack_float_panel(const PanelRows& p, int inputs, uint8_t* out) {
    const size_t next_panel = kPanel * sizeof(T) * size_t(inputs);
    for (int first = 0; first < inputs; first += 32)
        for (int r = 0; r < kPanel; r++) {
            const uint8_t* row = p.at[r] + size_t(first) * p.next_block[r];
            for (size_t i = 0; i < 32 * sizeof(T); i += 64)
                __builtin_prefetch(row + next_panel + i);
            for (int i = first; i < inputs && i < first + 32; i++, row += p.next_block[r])
                memcpy(out + (size_t(i) * kPanel + r) * sizeof(T), row, sizeof(T));
        }
}

template <class F>
void values_of(const typename F::Block& b, const uint8_t* codes, float* out) {
    float scale[16], low[16];
    scales_of<F>(b, scale, low);
    for (int i = 0; i < F::kInputs; i++) {
        // two roundings, as in the definition
        const float product = scale[i / F::kScaleInputs] * float(signed_code<F>(codes[i]));
        out[i] = F::kLowInputs ? product - low[F::kLowInputs ? i / F::kLowInputs : 0] : product;
    }
}

template <class F>
const uint8_t* step_of(const uint8_t* packed, int64_t row, int inputs, int step) {
    return packed +
           (size_t(row / kPanel) * size_t(inputs / F::kInputs) + size_t(step)) * F::kStepBytes;
}

template <class F>
void take_block(const uint8_t* step, int r, typename F::Block& scales, uint8_t* codes) {
    memset(&scales, 0, sizeof scales);
    take_scales(scales, step, r);
    for (int b = 0; b < F::kBlocks; b++)
        take_codes<F>(step + F::kScaleBytes * kPanel + b * F::kCodeBytes, r, codes + 32 * b);
}

float float_value(Format f, const uint8_t* p) {
    if (f == Format::f32) return float_of_bits(take32(p, 0));
    return f == Format::f16 ? f16_to_f32(take16(p, 0)) : bf16_to_f32(take16(p, 0));
}
size_t float_bytes(Format f) { return f == Format::f32 ? 4 : 2; }

// Calls visit with a value of the format's traits type.
template <class Visit>
void visit_format(Format format, const Visit& visit) {
    switch (format) {
#define PILLION_CASE(F) \
    case F::kFormat: return visit(F());
        PILLION_QUANT_FORMATS(PILLION_CASE)
#undef PILLION_CASE
        case Format::f32:
        case Format::f16:
        case Format::bf16: break;
    }
}

void pack(Format format, const void* file_rows, const int32_t* file_row_of, int64_t rows,
          int inputs, int64_t begin, int64_t end, uint8_t* packed) {
    const size_t bytes = panel_bytes(format, inputs);
    if (is_float(format)) {
        const size_t value = float_bytes(format);
        for (int64_t panel = begin; panel < end; panel++) {
            const PanelRows p =
                panel_rows(file_rows, file_row_of, rows, panel, value * size_t(inputs), value);
            uint8_t* out = packed + size_t(panel) * bytes;
            format == Format::f32 ? pack_float_panel<uint32_t>(p, inputs, out)
                                  : pack_float_panel<uint16_t>(p, inputs, out);
        }
        return;
    }
    visit_format(format, [&](auto f) {
        using F = decltype(f);
        constexpr size_t kBlockBytes = sizeof(typename F::Block);
        static_assert(kBlockBytes <= sizeof kZeroBlock, "a zero row reads it whole");
        for (int64_t panel = begin; panel < end; panel++)
            pack_panel<F>(panel_rows(file_rows, file_row_of, rows, panel,
                                     size_t(inputs / F::kInputs) * kBlockBytes, kBlockBytes),
                          inputs, packed + size_t(panel) * bytes);
    });
}

}  // namespace

size_t panel_bytes(Format format, int inputs) {
    size_t bytes = kPanel * float_bytes(format) * size_t(inputs);
    visit_format(format, [&](auto f) {
        using F = decltype(f);
        bytes = size_t(inputs / F::kInputs) * F::kStepBytes;
    });
    return bytes;
}

size_t packed_bytes(Format format, int64_t rows, int inputs) {
    return size_t((rows + kPanel - 1) / kPanel) * panel_bytes(format, inputs);
}

void pack_panels(Format format, const void* file_rows, int64_t rows, int inputs, int64_t begin,
                 int64_t end, uint8_t* packed) {
    pack(format, file_rows, nullptr, rows, inputs, begin, end, packed);
}

void pack_panels_permuted(Format format, const void* file_rows, const int32_t* file_row_of,
                          int64_t rows, int inputs, int64_t begin, int64_t end, uint8_t* packed) {
    pack(format, file_rows, file_row_of, rows, inputs, begin, end, packed);
}

void unpack_row(Format format, const uint8_t* packed, int64_t row, int inputs, float* out) {
    if (is_float(format)) {
        const size_t value = float_bytes(format);
        const uint8_t* at = packed + size_t(row / kPanel) * panel_bytes(format, inputs) +
                            size_t(row % kPanel) * value;
        for (int i = 0; i < inputs; i++)
            out[i] = float_value(format, at + size_t(i) * kPanel * value);
        return;
    }
    visit_format(format, [&](auto f) {
        using F = decltype(f);
        for (int s = 0; s < inputs / F::kInputs; s++) {
            typename F::Block b;
            uint8_t codes[F::kInputs];
            take_block<F>(step_of<F>(packed, row, inputs, s), int(row % kPanel), b, codes);
            values_of<F>(b, codes, out + s * F::kInputs);
        }
    });
}

void dequantize_row(Format format, const void* file_row, int inputs, float* out) {
    const uint8_t* at = static_cast<const uint8_t*>(file_row);
    if (is_float(format)) {
        for (int i = 0; i < inputs; i++)
            out[i] = float_value(format, at + size_t(i) * float_bytes(format));
        return;
    }
    visit_format(format, [&](auto f) {
        using F = decltype(f);
        for (int s = 0; s < inputs / F::kInputs; s++, at += sizeof(typename F::Block)) {
            typename F::Block b;
            uint8_t codes[F::kInputs];
            memcpy(&b, at, sizeof b);
            for (int i = 0; i < F::kInputs; i++) codes[i] = uint8_t(code_at(F(), b, i));
            values_of<F>(b, codes, out + s * F::kInputs);
        }
    });
}

void unpack_row_bytes(Format format, const uint8_t* packed, int64_t row, int inputs,
                      void* file_row) {
    uint8_t* at = static_cast<uint8_t*>(file_row);
    if (is_float(format)) {
        const size_t value = float_bytes(format);
        const uint8_t* from = packed + size_t(row / kPanel) * panel_bytes(format, inputs) +
                              size_t(row % kPanel) * value;
        for (int i = 0; i < inputs; i++)
            memcpy(at + size_t(i) * value, from + size_t(i) * kPanel * value, value);
        return;
    }
    visit_format(format, [&](auto f) {
        using F = decltype(f);
        for (int s = 0; s < inputs / F::kInputs; s++, at += sizeof(typename F::Block)) {
            typename F::Block b;
            uint8_t codes[F::kInputs];
            take_block<F>(step_of<F>(packed, row, inputs, s), int(row % kPanel), b, codes);
            set_codes(b, codes);
            memcpy(at, &b, sizeof b);
        }
    });
}

}  // namespace pillion::cpu
