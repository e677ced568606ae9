#include "backends/htp/wire/htp_pack.h"

#include <stddef.h>
#include <string.h>

#include "core/blocks.h"

// ---- codes and scales of a file's block ----
// codes: unsigned, of all inputs of the block. Values are the definition in core/blocks.h, rounded
// as written there: value = scale * code, then minus the minimum where there is one.

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
        codes[i] = (uint8_t)((b->low[64 * half + s % 2 * 32 + l] >> (s / 2 * 4) & 15) |
                             (b->high[32 * half + l] >> (2 * s) & 3) << 4);
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
static void values_minima(uint16_t d, uint16_t dmin, const uint8_t* fields, const uint8_t* codes,
                          float* out) {
    for (int i = 0; i < 256; i++) {
        const float scale = f16_to_f32(d) * (float)fields[i / 32],
                    low = f16_to_f32(dmin) * (float)fields[8 + i / 32];
        const float product = scale * (float)codes[i];
        out[i] = product - low;
    }
}
static void values_q2_k(uint16_t d, uint16_t dmin, const uint8_t* scales, const uint8_t* codes,
                        float* out) {
    for (int i = 0; i < 256; i++) {
        const float scale = f16_to_f32(d) * (float)(scales[i / 16] & 15),
                    low = f16_to_f32(dmin) * (float)(scales[i / 16] >> 4);
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
// Scales that stand for 2 * s + 1; dividing d is exact.
static void values_odd(uint16_t d, float divide, const uint8_t* nibbles, int inputs,
                       const int8_t* table, const uint8_t* codes, float* out) {
    for (int i = 0; i < 256; i++) {
        const int g = i / inputs, s = nibbles[g / 2] >> (g % 2 * 4) & 15;
        const float scale = f16_to_f32(d) / divide * (float)(2 * s + 1);
        out[i] = scale * (float)table[codes[i]];
    }
}
static void values_iq4_xs(uint16_t d, uint16_t scales_high, const uint8_t* scales_low,
                          const uint8_t* codes, float* out) {
    for (int i = 0; i < 256; i++) {
        const int g = i / 32, low = scales_low[g / 2] >> (g % 2 * 4) & 15,
                  high = scales_high >> (2 * g) & 3;
        const float scale = f16_to_f32(d) * (float)((low | high << 4) - 32);
        out[i] = scale * (float)kIq4Values[codes[i]];
    }
}

// ---- vectors ----
// Lane r of vector v of a group.

static uint8_t* lane(uint8_t* group, int v, int r) { return group + v * HTP_VECTOR + 4 * r; }
static const uint8_t* lane_of(const uint8_t* group, int v, int r) {
    return group + v * HTP_VECTOR + 4 * r;
}

static void put_half(uint8_t* at, uint16_t h) { memcpy(at, &h, 2); }
static uint16_t get_half(const uint8_t* at) {
    uint16_t h;
    memcpy(&h, at, 2);
    return h;
}

// 32 codes of row r into 4 nibble vectors from vector v on.
static void put_nibbles(uint8_t* group, int v, int r, const uint8_t* codes) {
    for (int j = 0; j < 4; j++)
        for (int b = 0; b < 4; b++)
            lane(group, v + j, r)[b] =
                (uint8_t)((codes[4 * j + b] & 15) | (codes[16 + 4 * j + b] & 15) << 4);
}
static void get_nibbles(const uint8_t* group, int v, int r, uint8_t* codes) {
    for (int j = 0; j < 4; j++)
        for (int b = 0; b < 4; b++) {
            const uint8_t both = lane_of(group, v + j, r)[b];
            codes[4 * j + b] = both & 15, codes[16 + 4 * j + b] = both >> 4;
        }
}
// Bits from `shift` on of 32 codes: pairs in 2 vectors, single bits in 1.
static void put_pairs(uint8_t* group, int v, int r, const uint8_t* codes, int shift) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            lane(group, v + j % 2, r)[b] |=
                (uint8_t)((codes[4 * j + b] >> shift & 3) << (j / 2 * 2));
}
static void add_pairs(const uint8_t* group, int v, int r, uint8_t* codes, int shift) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            codes[4 * j + b] |=
                (uint8_t)((lane_of(group, v + j % 2, r)[b] >> (j / 2 * 2) & 3) << shift);
}
static void put_bits(uint8_t* group, int v, int r, const uint8_t* codes, int shift) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            lane(group, v, r)[b] |= (uint8_t)((codes[4 * j + b] >> shift & 1) << j);
}
static void add_bits(const uint8_t* group, int v, int r, uint8_t* codes, int shift) {
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            codes[4 * j + b] |= (uint8_t)((lane_of(group, v, r)[b] >> j & 1) << shift);
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

// Where the codes of 32 inputs lie in a group: vectors before the first, and vectors each.
static int code_base(uint32_t dtype) {
    switch (dtype) {
        case HTP_Q4_1:
        case HTP_Q5_1:
        case HTP_IQ4_XS:
        case HTP_NVFP4_X:
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: return 2;
        case HTP_IQ2_X:
        case HTP_IQ1_X: return 3;
        case HTP_Q3_K:
        case HTP_Q4_K:
        case HTP_Q5_K: return 4;
        case HTP_Q2_K:
        case HTP_Q6_K: return 5;
        default: return 1;
    }
}
static int code_vectors(uint32_t dtype) {
    switch (dtype) {
        case HTP_Q2_K:
        case HTP_TQ2_0: return 2;
        case HTP_Q3_K:
        case HTP_IQ2_X:
        case HTP_IQ1_X: return 3;
        case HTP_Q5_0:
        case HTP_Q5_1:
        case HTP_Q5_K: return 5;
        case HTP_Q6_K: return 6;
        case HTP_Q8_0: return 8;
        default: return 4;
    }
}

static void put_codes(uint32_t dtype, uint8_t* group, int part, int r, const uint8_t* codes) {
    const int v = code_base(dtype) + part * code_vectors(dtype);
    switch (dtype) {
        case HTP_Q8_0: put_bytes(group, v, r, codes); break;
        case HTP_Q2_K:
        case HTP_TQ2_0: put_pairs(group, v, r, codes, 0); break;
        case HTP_Q3_K:
        case HTP_IQ2_X:
        case HTP_IQ1_X:
            put_bits(group, v, r, codes, 2), put_pairs(group, v + 1, r, codes, 0);
            break;
        case HTP_Q5_0:
        case HTP_Q5_1:
        case HTP_Q5_K: put_bits(group, v, r, codes, 4), put_nibbles(group, v + 1, r, codes); break;
        case HTP_Q6_K: put_pairs(group, v, r, codes, 4), put_nibbles(group, v + 2, r, codes); break;
        default: put_nibbles(group, v, r, codes);
    }
}
static void get_codes(uint32_t dtype, const uint8_t* group, int part, int r, uint8_t* codes) {
    const int v = code_base(dtype) + part * code_vectors(dtype);
    if (code_vectors(dtype) < 4) memset(codes, 0, 32);
    switch (dtype) {
        case HTP_Q8_0: get_bytes(group, v, r, codes); break;
        case HTP_Q2_K:
        case HTP_TQ2_0: add_pairs(group, v, r, codes, 0); break;
        case HTP_Q3_K:
        case HTP_IQ2_X:
        case HTP_IQ1_X:
            add_bits(group, v, r, codes, 2), add_pairs(group, v + 1, r, codes, 0);
            break;
        case HTP_Q5_0:
        case HTP_Q5_1:
        case HTP_Q5_K: get_nibbles(group, v + 1, r, codes), add_bits(group, v, r, codes, 4); break;
        case HTP_Q6_K: get_nibbles(group, v + 2, r, codes), add_pairs(group, v, r, codes, 4); break;
        default: get_nibbles(group, v, r, codes);
    }
}

// ---- a block ----
// Everything of a block of the file in one form, whatever its format.

struct block {
    uint16_t d, m;       // scale; minimum (or its scale), or IQ4_XS's scales_high
    uint8_t scales[16];  // six-bit fields, or the file's own bytes
    uint8_t codes[256];  // IQ4: places in the table
};

static void read_block(uint32_t dtype, const uint8_t* at, struct block* o) {
    o->m = 0;
    switch (dtype) {
#define READ(type)            \
    type b;                   \
    memcpy(&b, at, sizeof b); \
    o->d = b.d
        case HTP_Q4_0:
        case HTP_IQ4_NL:
        case HTP_MXFP4_X: {  // the same fields
            READ(BlockQ4_0);
            nibbles(b.q, o->codes);
            return;
        }
        case HTP_Q4_1: {
            READ(BlockQ4_1);
            o->m = b.m;
            nibbles(b.q, o->codes);
            return;
        }
        case HTP_Q5_0: {
            READ(BlockQ5_0);
            nibbles(b.q, o->codes);
            fifth_bits(b.high, o->codes);
            return;
        }
        case HTP_Q5_1: {
            READ(BlockQ5_1);
            o->m = b.m;
            nibbles(b.q, o->codes);
            fifth_bits(b.high, o->codes);
            return;
        }
        case HTP_Q8_0: {
            READ(BlockQ8_0);
            codes_q8_0(&b, o->codes);
            return;
        }
        case HTP_Q2_K: {
            READ(BlockQ2_K);
            o->m = b.dmin;
            memcpy(o->scales, b.scales, 16);
            bit_pairs(b.q, o->codes);
            return;
        }
        case HTP_Q3_K: {
            READ(BlockQ3_K);
            block_q3_scales(b.scales, o->scales);
            bit_pairs(b.q, o->codes);
            single_bits(b.high, 2, o->codes);
            return;
        }
        case HTP_Q4_K: {
            READ(BlockQ4_K);
            o->m = b.dmin;
            block_six_bits(b.scales, o->scales);
            nibbles_k(b.q, o->codes);
            return;
        }
        case HTP_Q5_K: {
            READ(BlockQ5_K);
            o->m = b.dmin;
            block_six_bits(b.scales, o->scales);
            nibbles_k(b.q, o->codes);
            single_bits(b.high, 4, o->codes);
            return;
        }
        case HTP_Q6_K: {
            READ(BlockQ6_K);
            memcpy(o->scales, b.scales, 16);
            codes_q6_k(&b, o->codes);
            return;
        }
        case HTP_NVFP4_X: {
            BlockNVFP4_X b;
            memcpy(&b, at, sizeof b);
            o->d = b.d[0], o->m = b.d[1];
            nibbles(b.q, o->codes);
            return;
        }
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: {
            READ(BlockIQ3_X);
            memcpy(o->scales, b.scales, 4);
            for (int g = 0; g < 8; g++) nibbles(b.q + 16 * g, o->codes + 32 * g);
            return;
        }
        case HTP_IQ2_X:
        case HTP_IQ1_X: {
            READ(BlockIQ2_X);
            memcpy(o->scales, b.scales, 8);
            bit_pairs(b.q, o->codes);
            single_bits(b.high, 2, o->codes);
            return;
        }
        case HTP_TQ2_0: {
            READ(BlockTQ2_0);
            bit_pairs(b.q, o->codes);
            return;
        }
        default: {
            READ(BlockIQ4_XS);
            o->m = b.scales_high;
            memcpy(o->scales, b.scales_low, 4);
            for (int g = 0; g < 8; g++) nibbles(b.q + 16 * g, o->codes + 32 * g);
        }
#undef READ
    }
}

static void block_values(uint32_t dtype, const struct block* b, float* out) {
    int scales[16];
    switch (dtype) {
        case HTP_Q4_0: values_32(b->d, 8, b->codes, out); break;
        case HTP_Q5_0: values_32(b->d, 16, b->codes, out); break;
        case HTP_Q8_0: values_32(b->d, 128, b->codes, out); break;
        case HTP_Q4_1:
        case HTP_Q5_1: values_32_plus(b->d, b->m, b->codes, out); break;
        case HTP_IQ4_NL:
            for (int i = 0; i < 32; i++) out[i] = f16_to_f32(b->d) * (float)kIq4Values[b->codes[i]];
            break;
        case HTP_Q2_K: values_q2_k(b->d, b->m, b->scales, b->codes, out); break;
        case HTP_Q3_K:
        case HTP_Q6_K:
            for (int g = 0; g < 16; g++)
                scales[g] = dtype == HTP_Q3_K ? b->scales[g] - 32 : (int8_t)b->scales[g];
            values_16(b->d, scales, dtype == HTP_Q3_K ? 4 : 32, b->codes, out);
            break;
        case HTP_MXFP4_X:
            for (int i = 0; i < 32; i++)
                out[i] = bf16_to_f32(b->d) * (float)kE2m1Values[b->codes[i]];
            break;
        case HTP_NVFP4_X:
            for (int i = 0; i < 32; i++)
                out[i] = f16_to_f32(i < 16 ? b->d : b->m) * (float)kE2m1Values[b->codes[i]];
            break;
        case HTP_IQ3_XXS_X: values_odd(b->d, 4, b->scales, 32, kIq3XxsValues, b->codes, out); break;
        case HTP_IQ3_S_X: values_odd(b->d, 1, b->scales, 32, kIq3SValues, b->codes, out); break;
        case HTP_IQ2_X: values_odd(b->d, 8, b->scales, 16, kIq2Values, b->codes, out); break;
        case HTP_IQ1_X: values_odd(b->d, 8, b->scales, 16, kIq1Values, b->codes, out); break;
        case HTP_TQ2_0:
            for (int i = 0; i < 256; i++) out[i] = f16_to_f32(b->d) * (float)(b->codes[i] - 1);
            break;
        case HTP_IQ4_XS: values_iq4_xs(b->d, b->m, b->scales, b->codes, out); break;
        default: values_minima(b->d, b->m, b->scales, b->codes, out);
    }
}

// ---- packing ----

// Two blocks of 32, or one of 256, to a group.
static void put_scales(uint32_t dtype, uint8_t* group, int half, int r, const struct block* b) {
    if (dtype == HTP_NVFP4_X) {  // the block has a vector of its own
        put_half(lane(group, half, r), b->d), put_half(lane(group, half, r) + 2, b->m);
        return;
    }
    put_half(lane(group, 0, r) + 2 * half, b->d);
    switch (dtype) {
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: memcpy(lane(group, 1, r), b->scales, 4); break;
        case HTP_IQ2_X:
        case HTP_IQ1_X:
            memcpy(lane(group, 1, r), b->scales, 4), memcpy(lane(group, 2, r), b->scales + 4, 4);
            break;
        case HTP_Q4_1:
        case HTP_Q5_1: put_half(lane(group, 1, r) + 2 * half, b->m); break;
        case HTP_Q2_K:
        case HTP_Q6_K:
            for (int g = 0; g < 16; g++) lane(group, 1 + g / 4, r)[g % 4] = b->scales[g];
            if (dtype == HTP_Q2_K) put_half(lane(group, 0, r) + 2, b->m);
            break;
        case HTP_Q3_K: put_six_bits(group, 1, r, b->scales); break;
        case HTP_Q4_K:
        case HTP_Q5_K:
            put_half(lane(group, 0, r) + 2, b->m), put_six_bits(group, 1, r, b->scales);
            break;
        case HTP_IQ4_XS:
            put_half(lane(group, 0, r) + 2, b->m), memcpy(lane(group, 1, r), b->scales, 4);
            break;
        default: break;
    }
}
static void get_scales(uint32_t dtype, const uint8_t* group, int half, int r, struct block* b) {
    const uint8_t* head = lane_of(group, dtype == HTP_NVFP4_X ? half : 0, r);
    b->d = get_half(head + (dtype == HTP_NVFP4_X ? 0 : 2 * half));
    b->m = get_half(head + 2);
    switch (dtype) {
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: memcpy(b->scales, lane_of(group, 1, r), 4); break;
        case HTP_IQ2_X:
        case HTP_IQ1_X:
            memcpy(b->scales, lane_of(group, 1, r), 4),
                memcpy(b->scales + 4, lane_of(group, 2, r), 4);
            break;
        case HTP_Q4_1:
        case HTP_Q5_1: b->m = get_half(lane_of(group, 1, r) + 2 * half); break;
        case HTP_Q2_K:
        case HTP_Q6_K:
            for (int g = 0; g < 16; g++) b->scales[g] = lane_of(group, 1 + g / 4, r)[g % 4];
            break;
        case HTP_Q3_K:
        case HTP_Q4_K:
        case HTP_Q5_K: get_six_bits(group, 1, r, b->scales); break;
        case HTP_IQ4_XS: memcpy(b->scales, lane_of(group, 1, r), 4); break;
        default: break;
    }
}

static void pack_quant_row(uint32_t dtype, const uint8_t* row, uint32_t inputs, uint8_t* panel,
                           int r) {
    const uint32_t block = htp_block_inputs(dtype), per_group = htp_group_inputs(dtype) / block,
                   parts = block / 32;
    for (uint32_t i = 0; i < inputs / block; i++) {
        struct block b;
        read_block(dtype, row + (size_t)i * htp_block_bytes(dtype), &b);
        uint8_t* group = panel + (size_t)(i / per_group) * htp_group_bytes(dtype);
        const int half = (int)(i % per_group);
        put_scales(dtype, group, half, r, &b);
        for (uint32_t k = 0; k < parts; k++)
            put_codes(dtype, group, half * (int)parts + (int)k, r, b.codes + 32 * k);
    }
}
static void pack_float_row(uint32_t dtype, const uint8_t* row, uint32_t inputs, uint8_t* panel,
                           int r) {
    if (dtype == HTP_F32)
        for (uint32_t i = 0; i < inputs; i++)
            memcpy(lane(panel + (size_t)i * HTP_VECTOR, 0, r), row + 4ull * i, 4);
    else
        for (uint32_t i = 0; i < inputs; i++)
            memcpy(lane(panel + (size_t)(i / 2) * HTP_VECTOR, 0, r) + 2 * (i % 2), row + 2ull * i,
                   2);
}

int htp_pack_panels(uint32_t dtype, const void* file_rows, const int32_t* row_order, uint64_t rows,
                    uint32_t inputs, uint64_t begin, uint64_t end, uint8_t* packed) {
    if (!htp_group_bytes(dtype) || inputs % htp_block_inputs(dtype)) return -1;
    const size_t panel_bytes = (size_t)htp_panel_bytes(dtype, inputs);
    const size_t row_bytes = (size_t)inputs / htp_block_inputs(dtype) * htp_block_bytes(dtype);
    for (uint64_t p = begin; p < end; p++) {
        uint8_t* panel = packed + (size_t)p * panel_bytes;
        memset(panel, 0, panel_bytes);
        for (int r = 0; r < HTP_PANEL && p * HTP_PANEL + (uint64_t)r < rows; r++) {
            const uint64_t at = p * HTP_PANEL + (uint64_t)r;
            const uint8_t* row = (const uint8_t*)file_rows +
                                 (size_t)(row_order ? (uint64_t)row_order[at] : at) * row_bytes;
            if (htp_is_float(dtype)) pack_float_row(dtype, row, inputs, panel, r);
            else pack_quant_row(dtype, row, inputs, panel, r);
        }
    }
    return 0;
}

// ---- reading ----

static float float_value(uint32_t dtype, const uint8_t* at) {
    float f;
    if (dtype == HTP_F32) {
        memcpy(&f, at, 4);
        return f;
    }
    return dtype == HTP_F16 ? f16_to_f32(get_half(at)) : bf16_to_f32(get_half(at));
}

static void unpack_group(uint32_t dtype, const uint8_t* group, int r, uint32_t first,
                         uint32_t inputs, float* out) {
    const uint32_t block = htp_block_inputs(dtype), parts = block / 32,
                   per = htp_group_inputs(dtype), bytes = htp_block_bytes(dtype);
    if (htp_is_float(dtype)) {
        for (uint32_t i = 0; i < per && first + i < inputs; i++)
            out[i] = float_value(dtype, lane_of(group, 0, r) + i * bytes);
        return;
    }
    for (uint32_t half = 0; half < per / block && first + half * block < inputs; half++) {
        struct block b;
        get_scales(dtype, group, (int)half, r, &b);
        for (uint32_t k = 0; k < parts; k++)
            get_codes(dtype, group, (int)(half * parts + k), r, b.codes + 32 * k);
        block_values(dtype, &b, out + half * block);
    }
}

int htp_unpack_row(uint32_t dtype, const uint8_t* packed, uint64_t row, uint32_t inputs,
                   float* out) {
    if (!htp_group_bytes(dtype) || inputs % htp_block_inputs(dtype)) return -1;
    const uint32_t per = htp_group_inputs(dtype);
    const uint8_t* group =
        packed + (size_t)(row / HTP_PANEL) * (size_t)htp_panel_bytes(dtype, inputs);
    for (uint32_t i = 0; i < inputs; i += per, group += htp_group_bytes(dtype))
        unpack_group(dtype, group, (int)(row % HTP_PANEL), i, inputs, out + i);
    return 0;
}

int htp_dequantize_row(uint32_t dtype, const void* file_row, uint32_t inputs, float* out) {
    const uint32_t block = htp_block_inputs(dtype), bytes = htp_block_bytes(dtype);
    if (!block || inputs % block) return -1;
    const uint8_t* at = (const uint8_t*)file_row;
    for (uint32_t i = 0; i < inputs; i += block, at += bytes) {
        if (htp_is_float(dtype)) {
            out[i] = float_value(dtype, at);
            continue;
        }
        struct block b;
        read_block(dtype, at, &b);
        block_values(dtype, &b, out + i);
    }
    return 0;
}
