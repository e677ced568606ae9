#include "backends/htp/wire/htp_pack.h"

#include <stddef.h>
#include <string.h>

#include "core/blocks.h"

// ------------------------------------------------------------------------------------------------- codes and scales of a file's block
// codes: unsigned, of all inputs of the block. Values are the definition in core/blocks.h, rounded as written there: value = scale * code,
// then minus the minimum where there is one.

static void nibbles(const uint8_t* q, uint8_t* codes) {
    for (int i = 0; i < 16; i++) codes[i] = q[i] & 15, codes[16 + i] = q[i] >> 4;
}
static void fifth_bits(const uint8_t* high, uint8_t* codes) {
    for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((high[i / 8] >> (i % 8) & 1) << 4);
}
static void codes_q8_0(const BlockQ8_0* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(b->q[i] + 128);
}
static void bit_pairs(const uint8_t* q, uint8_t* codes) {
    for (int i = 0; i < 256; i++) codes[i] = q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}
static void nibbles_k(const uint8_t* q, uint8_t* codes) {
    for (int i = 0; i < 256; i++) codes[i] = q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}
static void single_bits(const uint8_t* high, int at, uint8_t* codes) {
    for (int i = 0; i < 256; i++) codes[i] |= (uint8_t)((high[i % 32] >> (i / 32) & 1) << at);
}
static void codes_q6_k(const BlockQ6_K* b, uint8_t* codes) {
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, s = i / 32 % 4, l = i % 32;
        codes[i] = (uint8_t)((b->low[64 * half + s % 2 * 32 + l] >> (s / 2 * 4) & 15) | (b->high[32 * half + l] >> (2 * s) & 3) << 4);
    }
}

// 32 values of one scale.
static void values_32(uint16_t d, int zero, const uint8_t* codes, float* out) {
    for (int i = 0; i < 32; i++) out[i] = f16_to_f32(d) * (float)(codes[i] - zero);
}
static void values_32_plus(uint16_t d, uint16_t m, const uint8_t* codes, float* out) {
    for (int i = 0; i < 32; i++) {
        const float product = f16_to_f32(d) * (float)codes[i];
        out[i] = product + f16_to_f32(m);
    }
}
// 256 values; fields: 8 scales, 8 minima
static void values_minima(uint16_t d, uint16_t dmin, const uint8_t* fields, const uint8_t* codes, float* out) {
    for (int i = 0; i < 256; i++) {
        const float scale = f16_to_f32(d) * (float)fields[i / 32], low = f16_to_f32(dmin) * (float)fields[8 + i / 32];
        const float product = scale * (float)codes[i];
        out[i] = product - low;
    }
}
static void values_q2_k(const BlockQ2_K* b, const uint8_t* codes, float* out) {
    for (int i = 0; i < 256; i++) {
        const float scale = f16_to_f32(b->d) * (float)(b->scales[i / 16] & 15), low = f16_to_f32(b->dmin) * (float)(b->scales[i / 16] >> 4);
        const float product = scale * (float)codes[i];
        out[i] = product - low;
    }
}
static void values_16(uint16_t d, const int* scales, int zero, const uint8_t* codes, float* out) {
    for (int i = 0; i < 256; i++) {
        const float scale = f16_to_f32(d) * (float)scales[i / 16];
        out[i] = scale * (float)(codes[i] - zero);
    }
}
static void values_iq4_xs(const BlockIQ4_XS* b, float* out) {
    for (int i = 0; i < 256; i++) {
        const int g = i / 32, low = b->scales_low[g / 2] >> (g % 2 * 4) & 15, high = b->scales_high >> (2 * g) & 3;
        const uint8_t both = b->q[16 * g + i % 16];
        const float scale = f16_to_f32(b->d) * (float)((low | high << 4) - 32);
        out[i] = scale * (float)kIq4Values[i % 32 < 16 ? both & 15 : both >> 4];
    }
}

// ------------------------------------------------------------------------------------------------------------------------ vectors
// Lane r of vector v of a group.

static uint8_t* lane(uint8_t* group, int v, int r) { return group + v * HTP_VECTOR + 4 * r; }
static const uint8_t* lane_of(const uint8_t* group, int v, int r) { return group + v * HTP_VECTOR + 4 * r; }

static void put_half(uint8_t* at, uint16_t h) { memcpy(at, &h, 2); }
static uint16_t get_half(const uint8_t* at) {
    uint16_t h;
    memcpy(&h, at, 2);
    return h;
}

// 32 codes of row r into 4 nibble vectors from vector v on.
static void put_nibbles(uint8_t* group, int v, int r, const uint8_t* codes) {
    for (int j = 0; j < 4; j++)
        for (int b = 0; b < 4; b++) lane(group, v + j, r)[b] = (uint8_t)((codes[4 * j + b] & 15) | (codes[16 + 4 * j + b] & 15) << 4);
}
static void get_nibbles(const uint8_t* group, int v, int r, uint8_t* codes) {
    for (int j = 0; j < 4; j++)
        for (int b = 0; b < 4; b++) {
            const uint8_t both = lane_of(group, v + j, r)[b];
            codes[4 * j + b] = both & 15, codes[16 + 4 * j + b] = both >> 4;
        }
}
// The pair above the nibble, 32 codes in 2 vectors.
static void put_pairs(uint8_t* group, int v, int r, const uint8_t* codes) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++) lane(group, v + j % 2, r)[b] |= (uint8_t)((codes[4 * j + b] >> 4) << (j / 2 * 2));
}
static void add_pairs(const uint8_t* group, int v, int r, uint8_t* codes) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++) codes[4 * j + b] |= (uint8_t)((lane_of(group, v + j % 2, r)[b] >> (j / 2 * 2) & 3) << 4);
}
// The bit above the nibble, 32 codes in 1 vector.
static void put_bits(uint8_t* group, int v, int r, const uint8_t* codes) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++) lane(group, v, r)[b] |= (uint8_t)((codes[4 * j + b] >> 4) << j);
}
static void add_bits(const uint8_t* group, int v, int r, uint8_t* codes) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++) codes[4 * j + b] |= (uint8_t)((lane_of(group, v, r)[b] >> j & 1) << 4);
}
static void put_bytes(uint8_t* group, int v, int r, const uint8_t* codes) {
    for (int j = 0; j < 8; j++) memcpy(lane(group, v + j, r), codes + 4 * j, 4);
}
static void get_bytes(const uint8_t* group, int v, int r, uint8_t* codes) {
    for (int j = 0; j < 8; j++) memcpy(codes + 4 * j, lane_of(group, v + j, r), 4);
}

static void put_six_bits(uint8_t* group, int v, int r, const uint8_t* fields) {
    for (int w = 0; w < 3; w++) {
        uint32_t word = (uint32_t)(fields[15] >> (2 * w) & 3) << 30;
        for (int i = 0; i < 5; i++) word |= (uint32_t)fields[5 * w + i] << (6 * i);
        memcpy(lane(group, v + w, r), &word, 4);
    }
}
static void get_six_bits(const uint8_t* group, int v, int r, uint8_t* fields) {
    fields[15] = 0;
    for (int w = 0; w < 3; w++) {
        uint32_t word;
        memcpy(&word, lane_of(group, v + w, r), 4);
        for (int i = 0; i < 5; i++) fields[5 * w + i] = word >> (6 * i) & 63;
        fields[15] |= (uint8_t)((word >> 30) << (2 * w));
    }
}

// ------------------------------------------------------------------------------------------------------------------------- packing

static void pack_q4_0_row(const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    for (uint32_t i = 0; i < inputs / 32; i++) {
        BlockQ4_0 b;
        uint8_t codes[32];
        memcpy(&b, row + i * sizeof b, sizeof b);
        uint8_t* group = panel + i / 2 * (size_t)htp_group_bytes(HTP_Q4_0);
        nibbles(b.q, codes);
        put_half(lane(group, 0, r) + 2 * (i % 2), b.d);
        put_nibbles(group, 1 + 4 * (int)(i % 2), r, codes);
    }
}
static void pack_q8_0_row(const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    for (uint32_t i = 0; i < inputs / 32; i++) {
        BlockQ8_0 b;
        uint8_t codes[32];
        memcpy(&b, row + i * sizeof b, sizeof b);
        uint8_t* group = panel + i / 2 * (size_t)htp_group_bytes(HTP_Q8_0);
        codes_q8_0(&b, codes);
        put_half(lane(group, 0, r) + 2 * (i % 2), b.d);
        put_bytes(group, 1 + 8 * (int)(i % 2), r, codes);
    }
}
static void pack_q4_k_row(const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    for (uint32_t i = 0; i < inputs / 256; i++) {
        BlockQ4_K b;
        uint8_t codes[256], fields[16];
        memcpy(&b, row + i * sizeof b, sizeof b);
        uint8_t* group = panel + i * (size_t)htp_group_bytes(HTP_Q4_K);
        nibbles_k(b.q, codes);
        block_six_bits(b.scales, fields);
        put_half(lane(group, 0, r), b.d);
        put_half(lane(group, 0, r) + 2, b.dmin);
        put_six_bits(group, 1, r, fields);
        for (int g = 0; g < 8; g++) put_nibbles(group, 4 + 4 * g, r, codes + 32 * g);
    }
}
static void pack_q5_k_row(const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    for (uint32_t i = 0; i < inputs / 256; i++) {
        BlockQ5_K b;
        uint8_t codes[256], fields[16];
        memcpy(&b, row + i * sizeof b, sizeof b);
        uint8_t* group = panel + i * (size_t)htp_group_bytes(HTP_Q5_K);
        nibbles_k(b.q, codes);
        single_bits(b.high, 4, codes);
        block_six_bits(b.scales, fields);
        put_half(lane(group, 0, r), b.d);
        put_half(lane(group, 0, r) + 2, b.dmin);
        put_six_bits(group, 1, r, fields);
        for (int g = 0; g < 8; g++) put_bits(group, 4 + 5 * g, r, codes + 32 * g), put_nibbles(group, 5 + 5 * g, r, codes + 32 * g);
    }
}
static void pack_q6_k_row(const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    for (uint32_t i = 0; i < inputs / 256; i++) {
        BlockQ6_K b;
        uint8_t codes[256];
        memcpy(&b, row + i * sizeof b, sizeof b);
        uint8_t* group = panel + i * (size_t)htp_group_bytes(HTP_Q6_K);
        codes_q6_k(&b, codes);
        put_half(lane(group, 0, r), b.d);
        for (int g = 0; g < 16; g++) lane(group, 1 + g / 4, r)[g % 4] = (uint8_t)b.scales[g];
        for (int g = 0; g < 8; g++) put_pairs(group, 5 + 6 * g, r, codes + 32 * g), put_nibbles(group, 7 + 6 * g, r, codes + 32 * g);
    }
}
static void pack_float_row(uint32_t dtype, const uint8_t* row, uint32_t inputs, uint8_t* panel, int r) {
    if (dtype == HTP_F32)
        for (uint32_t i = 0; i < inputs; i++) memcpy(lane(panel + (size_t)i * HTP_VECTOR, 0, r), row + 4ull * i, 4);
    else
        for (uint32_t i = 0; i < inputs; i++) memcpy(lane(panel + (size_t)(i / 2) * HTP_VECTOR, 0, r) + 2 * (i % 2), row + 2ull * i, 2);
}

int htp_pack_panels(uint32_t dtype, const void* file_rows, const int32_t* row_order, uint64_t rows, uint32_t inputs, uint64_t begin,
                    uint64_t end, uint8_t* packed) {
    if (!htp_group_bytes(dtype) || inputs % htp_block_inputs(dtype)) return -1;
    const size_t panel_bytes = (size_t)htp_panel_bytes(dtype, inputs);
    const size_t row_bytes = (size_t)inputs / htp_block_inputs(dtype) * htp_block_bytes(dtype);
    for (uint64_t p = begin; p < end; p++) {
        uint8_t* panel = packed + (size_t)p * panel_bytes;
        memset(panel, 0, panel_bytes);
        for (int r = 0; r < HTP_PANEL && p * HTP_PANEL + (uint64_t)r < rows; r++) {
            const uint64_t at = p * HTP_PANEL + (uint64_t)r;
            const uint8_t* row = (const uint8_t*)file_rows + (size_t)(row_order ? (uint64_t)row_order[at] : at) * row_bytes;
            switch (dtype) {
                case HTP_Q4_0: pack_q4_0_row(row, inputs, panel, r); break;
                case HTP_Q8_0: pack_q8_0_row(row, inputs, panel, r); break;
                case HTP_Q4_K: pack_q4_k_row(row, inputs, panel, r); break;
                case HTP_Q5_K: pack_q5_k_row(row, inputs, panel, r); break;
                case HTP_Q6_K: pack_q6_k_row(row, inputs, panel, r); break;
                default: pack_float_row(dtype, row, inputs, panel, r); break;
            }
        }
    }
    return 0;
}

// ------------------------------------------------------------------------------------------------------------------------- reading

static float float_value(uint32_t dtype, const uint8_t* at) {
    float f;
    if (dtype == HTP_F32) {
        memcpy(&f, at, 4);
        return f;
    }
    return dtype == HTP_F16 ? f16_to_f32(get_half(at)) : bf16_to_f32(get_half(at));
}

static void unpack_group(uint32_t dtype, const uint8_t* group, int r, uint32_t first, uint32_t inputs, float* out) {
    uint8_t codes[256], fields[16];
    const uint16_t d = get_half(lane_of(group, 0, r)), second = get_half(lane_of(group, 0, r) + 2);
    switch (dtype) {
        case HTP_Q4_0: case HTP_Q8_0:
            for (int half = 0; half < 2 && first + 32 * (uint32_t)half < inputs; half++) {
                if (dtype == HTP_Q4_0) get_nibbles(group, 1 + 4 * half, r, codes);
                else get_bytes(group, 1 + 8 * half, r, codes);
                values_32(half ? second : d, dtype == HTP_Q4_0 ? 8 : 128, codes, out + 32 * half);
            }
            break;
        case HTP_Q4_K: case HTP_Q5_K:
            get_six_bits(group, 1, r, fields);
            for (int g = 0; g < 8; g++) {
                get_nibbles(group, dtype == HTP_Q4_K ? 4 + 4 * g : 5 + 5 * g, r, codes + 32 * g);
                if (dtype == HTP_Q5_K) add_bits(group, 4 + 5 * g, r, codes + 32 * g);
            }
            values_minima(d, second, fields, codes, out);
            break;
        case HTP_Q6_K: {
            int scales[16];
            for (int g = 0; g < 8; g++) {
                get_nibbles(group, 7 + 6 * g, r, codes + 32 * g);
                add_pairs(group, 5 + 6 * g, r, codes + 32 * g);
            }
            for (int g = 0; g < 16; g++) scales[g] = (int8_t)lane_of(group, 1 + g / 4, r)[g % 4];
            values_16(d, scales, 32, codes, out);
            break;
        }
        default: {
            const uint32_t bytes = htp_block_bytes(dtype), per = htp_group_inputs(dtype);
            for (uint32_t i = 0; i < per && first + i < inputs; i++) out[i] = float_value(dtype, lane_of(group, 0, r) + i * bytes);
        }
    }
}

int htp_unpack_row(uint32_t dtype, const uint8_t* packed, uint64_t row, uint32_t inputs, float* out) {
    if (!htp_group_bytes(dtype) || inputs % htp_block_inputs(dtype)) return -1;
    const uint32_t per = htp_group_inputs(dtype);
    const uint8_t* group = packed + (size_t)(row / HTP_PANEL) * (size_t)htp_panel_bytes(dtype, inputs);
    for (uint32_t i = 0; i < inputs; i += per, group += htp_group_bytes(dtype))
        unpack_group(dtype, group, (int)(row % HTP_PANEL), i, inputs, out + i);
    return 0;
}

static void dequantize_32(uint32_t dtype, const uint8_t* at, float* out) {
    uint8_t codes[32];
    switch (dtype) {
        case HTP_Q4_0: case HTP_IQ4_NL: {
            BlockQ4_0 b;    // IQ4_NL has the same fields
            memcpy(&b, at, sizeof b);
            nibbles(b.q, codes);
            if (dtype == HTP_IQ4_NL)
                for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(kIq4Values[codes[i]] + 128);
            values_32(b.d, dtype == HTP_Q4_0 ? 8 : 128, codes, out);
            return;
        }
        case HTP_Q4_1: {
            BlockQ4_1 b;
            memcpy(&b, at, sizeof b);
            nibbles(b.q, codes);
            values_32_plus(b.d, b.m, codes, out);
            return;
        }
        case HTP_Q5_0: {
            BlockQ5_0 b;
            memcpy(&b, at, sizeof b);
            nibbles(b.q, codes);
            fifth_bits(b.high, codes);
            values_32(b.d, 16, codes, out);
            return;
        }
        case HTP_Q5_1: {
            BlockQ5_1 b;
            memcpy(&b, at, sizeof b);
            nibbles(b.q, codes);
            fifth_bits(b.high, codes);
            values_32_plus(b.d, b.m, codes, out);
            return;
        }
        default: {
            BlockQ8_0 b;
            memcpy(&b, at, sizeof b);
            codes_q8_0(&b, codes);
            values_32(b.d, 128, codes, out);
        }
    }
}

static void dequantize_256(uint32_t dtype, const uint8_t* at, float* out) {
    uint8_t codes[256], fields[16];
    int scales[16];
    switch (dtype) {
        case HTP_Q2_K: {
            BlockQ2_K b;
            memcpy(&b, at, sizeof b);
            bit_pairs(b.q, codes);
            values_q2_k(&b, codes, out);
            return;
        }
        case HTP_Q3_K: {
            BlockQ3_K b;
            memcpy(&b, at, sizeof b);
            bit_pairs(b.q, codes);
            single_bits(b.high, 2, codes);
            block_q3_scales(b.scales, fields);
            for (int g = 0; g < 16; g++) scales[g] = fields[g] - 32;
            values_16(b.d, scales, 4, codes, out);
            return;
        }
        case HTP_Q4_K: {
            BlockQ4_K b;
            memcpy(&b, at, sizeof b);
            nibbles_k(b.q, codes);
            block_six_bits(b.scales, fields);
            values_minima(b.d, b.dmin, fields, codes, out);
            return;
        }
        case HTP_Q5_K: {
            BlockQ5_K b;
            memcpy(&b, at, sizeof b);
            nibbles_k(b.q, codes);
            single_bits(b.high, 4, codes);
            block_six_bits(b.scales, fields);
            values_minima(b.d, b.dmin, fields, codes, out);
            return;
        }
        case HTP_Q6_K: {
            BlockQ6_K b;
            memcpy(&b, at, sizeof b);
            codes_q6_k(&b, codes);
            for (int g = 0; g < 16; g++) scales[g] = b.scales[g];
            values_16(b.d, scales, 32, codes, out);
            return;
        }
        default: {
            BlockIQ4_XS b;
            memcpy(&b, at, sizeof b);
            values_iq4_xs(&b, out);
        }
    }
}

int htp_dequantize_row(uint32_t dtype, const void* file_row, uint32_t inputs, float* out) {
    const uint32_t block = htp_block_inputs(dtype), bytes = htp_block_bytes(dtype);
    if (!block || inputs % block) return -1;
    const uint8_t* at = (const uint8_t*)file_row;
    for (uint32_t i = 0; i < inputs; i += block, at += bytes) {
        if (block == 32) dequantize_32(dtype, at, out + i);
        else if (block == 256) dequantize_256(dtype, at, out + i);
        else out[i] = float_value(dtype, at);
    }
    return 0;
}
