#include "backends/htp/wire/htp_pack.h"

#include <stddef.h>
#include <string.h>

#include "core/contract/block_values.h"

// Everything of a block, whatever its format: its scales as in the file, its codes one a byte.
struct block {
    union file_block {
#define PILLION_SCALED(name, label, block) block name;
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED
    } file;
    uint8_t codes[256];
};

static void read_block(uint32_t dtype, const uint8_t* at, struct block* o) {
    switch (dtype) {
#define PILLION_SCALED(name, label, block)                        \
    case DType_##name:                                            \
        memcpy(&o->file, at, sizeof(block));                      \
        for (int i = 0; i < name##_inputs; i++)                   \
            o->codes[i] = (uint8_t)name##_code(&o->file.name, i); \
        break;
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED
        default: break;
    }
}

// As NAME_values of core/contract/block_values.h, with the codes of the array.
static void block_values(uint32_t dtype, const struct block* b, float* out) {
    switch (dtype) {
#define PILLION_SCALED(name, label, block)                                       \
    case DType_##name:                                                           \
        for (int g = 0; g < name##_inputs; g += name##_group) {                  \
            const float scale = name##_scale(&b->file.name, g),                  \
                        low = name##_minimum(&b->file.name, g);                  \
            for (int i = g; i < g + name##_group; i++) {                         \
                const float product = scale * (float)name##_number(b->codes[i]); \
                out[i] = product - low;                                          \
            }                                                                    \
        }                                                                        \
        break;
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED
        default: break;
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

// Where the codes of 32 inputs begin in a group.
static int code_base(uint32_t dtype, int part) {
    return (int)(htp_head_vectors(dtype) + (uint32_t)part * htp_code_vectors(dtype));
}

static void put_codes(uint32_t dtype, uint8_t* group, int part, int r, const uint8_t* codes) {
    const int v = code_base(dtype, part);
    switch (dtype) {
        case DType_q8_0: put_bytes(group, v, r, codes); break;
        case DType_q2_k:
        case DType_tq2_0: put_pairs(group, v, r, codes, 0); break;
        case DType_q3_k:
        case DType_iq2_x:
        case DType_iq1_x:
            put_bits(group, v, r, codes, 2), put_pairs(group, v + 1, r, codes, 0);
            break;
        case DType_q5_0:
        case DType_q5_1:
        case DType_q5_k:
            put_bits(group, v, r, codes, 4), put_nibbles(group, v + 1, r, codes);
            break;
        case DType_q6_k:
            put_pairs(group, v, r, codes, 4), put_nibbles(group, v + 2, r, codes);
            break;
        default: put_nibbles(group, v, r, codes);
    }
}
static void get_codes(uint32_t dtype, const uint8_t* group, int part, int r, uint8_t* codes) {
    const int v = code_base(dtype, part);
    if (htp_code_vectors(dtype) < 4) memset(codes, 0, 32);
    switch (dtype) {
        case DType_q8_0: get_bytes(group, v, r, codes); break;
        case DType_q2_k:
        case DType_tq2_0: add_pairs(group, v, r, codes, 0); break;
        case DType_q3_k:
        case DType_iq2_x:
        case DType_iq1_x:
            add_bits(group, v, r, codes, 2), add_pairs(group, v + 1, r, codes, 0);
            break;
        case DType_q5_0:
        case DType_q5_1:
        case DType_q5_k:
            get_nibbles(group, v + 1, r, codes), add_bits(group, v, r, codes, 4);
            break;
        case DType_q6_k:
            get_nibbles(group, v + 2, r, codes), add_pairs(group, v, r, codes, 4);
            break;
        default: get_nibbles(group, v, r, codes);
    }
}

// ---- packing ----

// A block's f16 (or bf16) scale, and the second half of its head: a minimum or its scale, or
// IQ4_XS's high scale bits; null where there is none.
static uint16_t* first_half(uint32_t dtype, union file_block* f) {
    switch (dtype) {
#define PILLION_SCALED(name, label, block) \
    case DType_##name: return (uint16_t*)&f->name.d;
#include "core/contract/scaled_formats.def"
#undef PILLION_SCALED
        default: return 0;
    }
}
static uint16_t* second_half(uint32_t dtype, union file_block* f) {
    switch (dtype) {
        case DType_q4_1: return &f->q4_1.m;
        case DType_q5_1: return &f->q5_1.m;
        case DType_q2_k: return &f->q2_k.dmin;
        case DType_q4_k: return &f->q4_k.dmin;
        case DType_q5_k: return &f->q5_k.dmin;
        case DType_iq4_xs: return &f->iq4_xs.scales_high;
        case DType_nvfp4_x: return &f->nvfp4_x.d[1];
        default: return 0;
    }
}
// The bytes of a block that go into its head's vectors as they are, and how many.
static uint8_t* scale_bytes(uint32_t dtype, union file_block* f, int* n) {
    switch (dtype) {
        case DType_q2_k: return *n = 16, f->q2_k.scales;
        case DType_q6_k: return *n = 16, (uint8_t*)f->q6_k.scales;
        case DType_iq4_xs: return *n = 4, f->iq4_xs.scales_low;
        case DType_iq3_xxs_x:
        case DType_iq3_s_x: return *n = 4, f->iq3_s_x.scales;
        case DType_iq2_x:
        case DType_iq1_x: return *n = 8, f->iq2_x.scales;
        default: return *n = 0, (uint8_t*)0;
    }
}
// Where the two halves of block `half` of a group lie. Two blocks of 32 share a vector of scales
// and one of minima; a block of 256 has both in one vector, and a block of NVFP4_X has its own.
static uint8_t* first_at(uint32_t dtype, uint8_t* group, int half, int r) {
    return dtype == DType_nvfp4_x ? lane(group, half, r) : lane(group, 0, r) + 2 * half;
}
static uint8_t* second_at(uint32_t dtype, uint8_t* group, int half, int r) {
    if (dtype == DType_nvfp4_x) return lane(group, half, r) + 2;
    return format_inputs(dtype) == 32 ? lane(group, 1, r) + 2 * half : lane(group, 0, r) + 2;
}

static void put_scales(uint32_t dtype, uint8_t* group, int half, int r, union file_block* f) {
    uint8_t fields[16];
    const uint16_t* second = second_half(dtype, f);
    put_half(first_at(dtype, group, half, r), *first_half(dtype, f));
    if (second) put_half(second_at(dtype, group, half, r), *second);
    int n;
    const uint8_t* bytes = scale_bytes(dtype, f, &n);
    for (int i = 0; i < n; i += 4) memcpy(lane(group, 1 + i / 4, r), bytes + i, 4);
    if (dtype == DType_q3_k) block_q3_scales(f->q3_k.scales, fields);
    else if (dtype == DType_q4_k) block_six_bits(f->q4_k.scales, fields);
    else if (dtype == DType_q5_k) block_six_bits(f->q5_k.scales, fields);
    else return;
    put_six_bits(group, 1, r, fields);
}
static void get_scales(uint32_t dtype, uint8_t* group, int half, int r, union file_block* f) {
    uint8_t fields[16];
    uint16_t* second = second_half(dtype, f);
    *first_half(dtype, f) = get_half(first_at(dtype, group, half, r));
    if (second) *second = get_half(second_at(dtype, group, half, r));
    int n;
    uint8_t* bytes = scale_bytes(dtype, f, &n);
    for (int i = 0; i < n; i += 4) memcpy(bytes + i, lane(group, 1 + i / 4, r), 4);
    if (dtype != DType_q3_k && dtype != DType_q4_k && dtype != DType_q5_k) return;
    get_six_bits(group, 1, r, fields);
    if (dtype == DType_q3_k) block_set_q3_scales(f->q3_k.scales, fields);
    else if (dtype == DType_q4_k) block_set_six_bits(f->q4_k.scales, fields);
    else block_set_six_bits(f->q5_k.scales, fields);
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
        put_scales(dtype, group, half, r, &b.file);
        for (uint32_t k = 0; k < parts; k++)
            put_codes(dtype, group, half * (int)parts + (int)k, r, b.codes + 32 * k);
    }
}
static void pack_float_row(uint32_t dtype, const uint8_t* row, uint32_t inputs, uint8_t* panel,
                           int r) {
    if (dtype == DType_f32)
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
    if (dtype == DType_f32) {
        memcpy(&f, at, 4);
        return f;
    }
    return dtype == DType_f16 ? f16_to_f32(get_half(at)) : bf16_to_f32(get_half(at));
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
        get_scales(dtype, (uint8_t*)group, (int)half, r, &b.file);
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
