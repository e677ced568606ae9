/* GGUF weight blocks as they lie in the file, and f16 / bf16 <-> f32. Plain C and C++: also read on
   the DSP. Every struct is the file's bytes, little-endian; sizes are those of formats.def. What a
   block's codes mean stands beside it; `code` is the unsigned number read from the bit fields.
   Nothing here allocates, and all functions are static: sources compiled for different instruction
   sets must not share one copy. */
#pragma once
#include <stdint.h>
#include <string.h>
#ifdef __cplusplus
namespace pillion {
#else
#include <assert.h> /* static_assert */
#endif

typedef struct { /* 32 inputs; value = d * (code - 8); byte i: input i in the low, input i + 16 in
                    the high nibble */
    uint16_t d;
    uint8_t q[16];
} BlockQ4_0;

typedef struct { /* 32 inputs; value = d * code + m */
    uint16_t d, m;
    uint8_t q[16];
} BlockQ4_1;

typedef struct { /* 32 inputs; value = d * (code - 16); bit i of the 32-bit `high`: bit 4 of input i
                  */
    uint16_t d;
    uint8_t high[4];
    uint8_t q[16];
} BlockQ5_0;

typedef struct { /* 32 inputs; value = d * code + m */
    uint16_t d, m;
    uint8_t high[4];
    uint8_t q[16];
} BlockQ5_1;

typedef struct { /* 32 inputs; value = d * q */
    uint16_t d;
    int8_t q[32];
} BlockQ8_0;

typedef struct { /* 256 inputs, 16 groups of 16; value = d * (scales[g] & 15) * code - dmin *
                    (scales[g] >> 4) */
    uint8_t scales[16];
    uint8_t q[64]; /* 128 inputs per 32 bytes: input 32 * s + l of a half in bits 2s, 2s + 1 of byte
                      l */
    uint16_t d, dmin;
} BlockQ2_K;

typedef struct { /* 256 inputs, 16 groups of 16; value = d * (scale[g] - 32) * (code - 4), six-bit
                    scales, three-bit codes */
    uint8_t high[32];   /* bit s of byte l: bit 2 of the code of input 32 * s + l */
    uint8_t q[64];      /* bits 0 and 1, as in Q2_K */
    uint8_t scales[12]; /* low four bits of scale i: nibble i / 8 of byte i % 8; high two: bits 2 *
                           (i / 4) of byte 8 + i % 4 */
    uint16_t d;
} BlockQ3_K;

typedef struct { /* 256 inputs, 8 groups of 32; value = d * scale[g] * code - dmin * low[g] */
    uint16_t d, dmin;
    uint8_t scales[12]; /* 8 six-bit scales and 8 six-bit minima: block_six_bits() */
    uint8_t q[128]; /* 64 inputs per 32 bytes: group 2c in the low, 2c + 1 in the high nibbles */
} BlockQ4_K;

typedef struct { /* as Q4_K with one more bit a code */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t high[32]; /* bit s of byte l: bit 4 of input 32 * s + l */
    uint8_t q[128];
} BlockQ5_K;

typedef struct {      /* 256 inputs, 16 groups of 16; value = d * scales[g] * (code - 32) */
    uint8_t low[128]; /* low four bits; 128 inputs per 64 bytes: input 32 * s + l in nibble s / 2 of
                         byte 32 * (s % 2) + l */
    uint8_t high[64]; /* high two bits, as the codes of Q2_K */
    int8_t scales[16];
    uint16_t d;
} BlockQ6_K;

typedef struct { /* 32 inputs; value = d * kIq4Values[code]; nibbles as in Q4_0 */
    uint16_t d;
    uint8_t q[16];
} BlockIQ4_NL;

typedef struct { /* 256 inputs, 8 groups of 32; value = d * (scale[g] - 32) * kIq4Values[code]; a
                    group's nibbles as in Q4_0 */
    uint16_t d;
    uint16_t scales_high;  /* bits 2g, 2g + 1: bits 4 and 5 of scale g */
    uint8_t scales_low[4]; /* nibble g: bits 0..3 */
    uint8_t q[128];
} BlockIQ4_XS;

/* The rest: small integers times a scale, most of them entries of a code book (core/grids.h). These
   are expanded at import into the blocks with _X below (core/expand.h), TQ1_0 into TQ2_0. s: a
   scale of three or four bits, which stands for 2 * s + 1; p: the magnitude at a place of the book.
 */

typedef struct { /* 256 inputs; value = +-d / 8 * (2 * s + 1) * p */
    uint16_t d;
    uint8_t
        groups[64]; /* per 32 inputs: four places; 32 bits: four times seven signs, then s. The */
                    /* eighth sign makes the number of minuses even */
} BlockIQ2_XXS;

typedef struct { /* as IQ2_XXS */
    uint16_t d;
    uint16_t q[32];    /* per 8 inputs: nine bits of place, then seven signs */
    uint8_t scales[8]; /* nibble g: s of 16 inputs */
} BlockIQ2_XS;

typedef struct { /* as IQ2_XS, with eight signs and ten bits of place */
    uint16_t d;
    uint8_t q[32], signs[32];
    uint8_t high[8]; /* bits 2 * (i % 4) of byte i / 4: the upper two bits of place i */
    uint8_t scales[8];
} BlockIQ2_S;

typedef struct { /* 256 inputs; value = +-d / 4 * (2 * s + 1) * p; a place for 4 inputs */
    uint16_t d;
    uint8_t q[64], groups[32]; /* 32 bits of signs and s as in IQ2_XXS */
} BlockIQ3_XXS;

typedef struct { /* 256 inputs; value = +-d * (2 * s + 1) * p; a place for 4 inputs */
    uint16_t d;
    uint8_t q[64], high[8]; /* bit i % 8 of high[i / 8]: bit 8 of place i */
    uint8_t signs[32];
    uint8_t scales[4]; /* nibble g: s of 32 inputs */
} BlockIQ3_S;

typedef struct { /* 256 inputs; value = d / 8 * (2 * s + 1) * (8 * p +- 1), p: -1, 0 or 1 */
    uint16_t d;
    uint8_t q[32];
    uint16_t
        high[8]; /* per 32 inputs: four times the upper three bits of a place, s, and the sign */
} BlockIQ1_S;

typedef struct {             /* as IQ1_S */
    uint8_t q[32], high[16]; /* nibble i of high: three bits of place i, then its sign */
    uint16_t scales[4]; /* four s, each of 16 inputs, then four bits of the f16 d, lowest first */
} BlockIQ1_M;

typedef struct {   /* value = d * (digit - 1); digit k of a byte is (byte * 3^k mod 256) * 3 >> 8 */
    uint8_t q[48]; /* 160 inputs in 32 bytes, digit after digit, then 80 in 16 */
    uint8_t high[4]; /* the last 16: four digits a byte */
    uint16_t d;
} BlockTQ1_0;

typedef struct { /* value = d * (code - 1); codes as in Q2_K */
    uint8_t q[64];
    uint16_t d;
} BlockTQ2_0;

typedef struct { /* 32 inputs; value = 2^(e - 128) * kE2m1Values[code]; nibbles as in Q4_0 */
    uint8_t e;
    uint8_t q[16];
} BlockMXFP4;

typedef struct {       /* 64 inputs; value = scale / 2 * kE2m1Values[code] */
    uint8_t scales[4]; /* of 16 inputs: E4M3 without its sign; 0x7F counts as 0 */
    uint8_t q[32];     /* 8 bytes for 16 inputs, which lie as in a short block of Q4_0 */
} BlockNVFP4;

typedef struct { /* 32 inputs; value = d * kE2m1Values[code], d a bf16 */
    uint16_t d;
    uint8_t q[16];
} BlockMXFP4_X;

typedef struct { /* 32 inputs; value = d[i / 16] * kE2m1Values[code] */
    uint16_t d[2];
    uint8_t q[16];
} BlockNVFP4_X;

typedef struct { /* 256 inputs; value = d / divide * (2 * s + 1) * table[code], divide and table of
                    the type */
    uint16_t d;
    uint8_t scales[4]; /* nibble g: s of 32 inputs */
    uint8_t q[128];    /* a group's nibbles as in Q4_0 */
} BlockIQ3_X;

typedef struct { /* the same, a scale for 16 inputs, codes of three bits, which lie as those of Q3_K
                  */
    uint16_t d;
    uint8_t scales[8];
    uint8_t high[32];
    uint8_t q[64];
} BlockIQ2_X;

#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) \
    static_assert(sizeof(block) == bytes, "the block's bytes");
#include "core/contract/formats.def"
#undef PILLION_FORMAT

static const int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
/* Code of a magnitude, plus half the table's length where the sign is minus. E2M1 is doubled, so
   that it is whole. */
static const int8_t kE2m1Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const int8_t kIq3XxsValues[16] = {4,  12,  20,  28,  36,  44,  52,  62,
                                         -4, -12, -20, -28, -36, -44, -52, -62};
static const int8_t kIq3SValues[16] = {1,  3,  5,  7,  9,  11,  13,  15,
                                       -1, -3, -5, -7, -9, -11, -13, -15};
static const int8_t kIq2Values[16] = {8, 25, 43, 0, -8, -25, -43, 0};
static const int8_t kIq1Values[16] = {-7, 1, 9, 0, -9, -1, 7, 0};

/* Six-bit fields of Q4_K and Q5_K: v[0..7] scales, v[8..15] minima. */
static inline void block_six_bits(const uint8_t* scales, uint8_t* v) {
    for (int i = 0; i < 4; i++) {
        v[i] = scales[i] & 63;
        v[8 + i] = scales[4 + i] & 63;
        v[4 + i] = (uint8_t)((scales[8 + i] & 15) | (scales[i] >> 6) << 4);
        v[12 + i] = (uint8_t)((scales[8 + i] >> 4) | (scales[4 + i] >> 6) << 4);
    }
}
static inline void block_set_six_bits(uint8_t* scales, const uint8_t* v) {
    for (int i = 0; i < 4; i++) {
        scales[i] = (uint8_t)(v[i] | (v[4 + i] >> 4) << 6);
        scales[4 + i] = (uint8_t)(v[8 + i] | (v[12 + i] >> 4) << 6);
        scales[8 + i] = (uint8_t)((v[4 + i] & 15) | (v[12 + i] & 15) << 4);
    }
}

/* Sixteen six-bit scales of Q3_K. */
static inline void block_q3_scales(const uint8_t* scales, uint8_t* v) {
    for (int i = 0; i < 16; i++)
        v[i] = (uint8_t)((scales[i % 8] >> (i / 8 * 4) & 15) |
                         (scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4);
}
static inline void block_set_q3_scales(uint8_t* scales, const uint8_t* v) {
    memset(scales, 0, 12);
    for (int i = 0; i < 16; i++) {
        scales[i % 8] |= (uint8_t)((v[i] & 15) << (i / 8 * 4));
        scales[8 + i % 4] |= (uint8_t)((v[i] >> 4) << (i / 4 * 2));
    }
}

static inline uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float float_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Exact, subnormals included; a NaN keeps its payload. */
static inline float f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 0) return float_of_bits(float_bits((float)mantissa * 0x1p-24f) | sign);
    return float_of_bits(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) |
                         mantissa << 13);
}

/* To nearest, ties to even, as the hardware's conversion; overflow gives infinity, every NaN a
 * quiet one. */
static inline uint16_t f32_to_f16(float f) {
    const uint32_t bits = float_bits(f), magnitude = bits & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and above */
    if (magnitude <
        0x38800000) { /* below 2^-14: the sum's last place is 2^-24, so the addition rounds */
        const uint32_t rounded = float_bits(float_of_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3F000000));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xFFF + odd) >> 13));
}

static inline float bf16_to_f32(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

/* To nearest, ties to even; every NaN a quiet one. */
static inline uint16_t f32_to_bf16(float f) {
    const uint32_t bits = float_bits(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

#ifdef __cplusplus
} /* namespace pillion */
#endif
