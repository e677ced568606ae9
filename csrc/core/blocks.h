/* GGUF weight blocks as they lie in the file, and f16 / bf16 <-> f32. Plain C and C++: also read on the DSP.
   Every struct is the file's bytes, little-endian; sizes are asserted. What a block's codes mean stands beside it; `code`
   is the unsigned number read from the bit fields. Nothing here allocates, and all functions are static: sources
   compiled for different instruction sets must not share one copy. */
#pragma once
#include <stdint.h>
#include <string.h>
#ifdef __cplusplus
namespace pillion {
#else
#include <assert.h> /* static_assert */
#endif

typedef struct { /* 32 inputs; value = d * (code - 8); byte i: input i in the low, input i + 16 in the high nibble */
    uint16_t d;
    uint8_t q[16];
} BlockQ4_0;

typedef struct { /* 32 inputs; value = d * code + m */
    uint16_t d, m;
    uint8_t q[16];
} BlockQ4_1;

typedef struct { /* 32 inputs; value = d * (code - 16); bit i of the 32-bit `high`: bit 4 of input i */
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

typedef struct { /* 256 inputs, 16 groups of 16; value = d * (scales[g] & 15) * code - dmin * (scales[g] >> 4) */
    uint8_t scales[16];
    uint8_t q[64]; /* 128 inputs per 32 bytes: input 32 * s + l of a half in bits 2s, 2s + 1 of byte l */
    uint16_t d, dmin;
} BlockQ2_K;

typedef struct { /* 256 inputs, 16 groups of 16; value = d * (scale[g] - 32) * (code - 4), six-bit scales, three-bit codes */
    uint8_t high[32]; /* bit s of byte l: bit 2 of the code of input 32 * s + l */
    uint8_t q[64];    /* bits 0 and 1, as in Q2_K */
    uint8_t scales[12]; /* low four bits of scale i: nibble i / 8 of byte i % 8; high two: bits 2 * (i / 4) of byte 8 + i % 4 */
    uint16_t d;
} BlockQ3_K;

typedef struct { /* 256 inputs, 8 groups of 32; value = d * scale[g] * code - dmin * low[g] */
    uint16_t d, dmin;
    uint8_t scales[12]; /* 8 six-bit scales and 8 six-bit minima: block_six_bits() */
    uint8_t q[128];     /* 64 inputs per 32 bytes: group 2c in the low, 2c + 1 in the high nibbles */
} BlockQ4_K;

typedef struct { /* as Q4_K with one more bit a code */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t high[32]; /* bit s of byte l: bit 4 of input 32 * s + l */
    uint8_t q[128];
} BlockQ5_K;

typedef struct { /* 256 inputs, 16 groups of 16; value = d * scales[g] * (code - 32) */
    uint8_t low[128]; /* low four bits; 128 inputs per 64 bytes: input 32 * s + l in nibble s / 2 of byte 32 * (s % 2) + l */
    uint8_t high[64]; /* high two bits, as the codes of Q2_K */
    int8_t scales[16];
    uint16_t d;
} BlockQ6_K;

typedef struct { /* 32 inputs; value = d * kIq4Values[code]; nibbles as in Q4_0 */
    uint16_t d;
    uint8_t q[16];
} BlockIQ4_NL;

typedef struct { /* 256 inputs, 8 groups of 32; value = d * (scale[g] - 32) * kIq4Values[code]; a group's nibbles as in Q4_0 */
    uint16_t d;
    uint16_t scales_high; /* bits 2g, 2g + 1: bits 4 and 5 of scale g */
    uint8_t scales_low[4]; /* nibble g: bits 0..3 */
    uint8_t q[128];
} BlockIQ4_XS;

static_assert(sizeof(BlockQ4_0) == 18, "the file's bytes");
static_assert(sizeof(BlockQ4_1) == 20, "the file's bytes");
static_assert(sizeof(BlockQ5_0) == 22, "the file's bytes");
static_assert(sizeof(BlockQ5_1) == 24, "the file's bytes");
static_assert(sizeof(BlockQ8_0) == 34, "the file's bytes");
static_assert(sizeof(BlockQ2_K) == 84, "the file's bytes");
static_assert(sizeof(BlockQ3_K) == 110, "the file's bytes");
static_assert(sizeof(BlockQ4_K) == 144, "the file's bytes");
static_assert(sizeof(BlockQ5_K) == 176, "the file's bytes");
static_assert(sizeof(BlockQ6_K) == 210, "the file's bytes");
static_assert(sizeof(BlockIQ4_NL) == 18, "the file's bytes");
static_assert(sizeof(BlockIQ4_XS) == 136, "the file's bytes");

static const int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

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
    for (int i = 0; i < 16; i++) v[i] = (uint8_t)((scales[i % 8] >> (i / 8 * 4) & 15) | (scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4);
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
    return float_of_bits(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | mantissa << 13);
}

/* To nearest, ties to even, as the hardware's conversion; overflow gives infinity, every NaN a quiet one. */
static inline uint16_t f32_to_f16(float f) {
    const uint32_t bits = float_bits(f), magnitude = bits & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and above */
    if (magnitude < 0x38800000) { /* below 2^-14: the sum's last place is 2^-24, so the addition rounds */
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
