// Single values of rows in the layout of the file, for embeddings and for vectors at import. On
// both sides: __host__ __device__.
#pragma once
#include "backends/cuda/device/device.h"
#include "core/contract/blocks.h"
#include "core/dtype.h"

namespace pillion::cuda {

__host__ __device__ inline float half_at(const void* p) {  // any address
    const uint8_t* b = static_cast<const uint8_t*>(p);
    return __half2float(__ushort_as_half(static_cast<unsigned short>(b[0] | b[1] << 8)));
}
__host__ __device__ inline float float_at(const uint8_t* b) {
    union {
        uint32_t bits;
        float value;
    } t;
    t.bits = uint32_t(b[0]) | uint32_t(b[1]) << 8 | uint32_t(b[2]) << 16 | uint32_t(b[3]) << 24;
    return t.value;
}
__host__ __device__ inline int nibble(const uint8_t* q, int i) {
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}
// Entry of a table of core/contract/blocks.h, whose first eight and last eight bytes are given: an
// array of the host is none of the device's.
__host__ __device__ inline int table_value(unsigned long long low, unsigned long long high,
                                           int code) {
    return int8_t((code < 8 ? low : high) >> (code % 8 * 8) & 255);
}
__host__ __device__ inline int iq4_value(int code) {
    return table_value(0xF6EADDCFBFAD9881ull, 0x7159453526190D01ull, code);
}
__host__ __device__ inline int e2m1_value(int code) {
    return table_value(0x0C08060403020100ull, 0xF4F8FAFCFDFEFF00ull, code);
}

// Six-bit fields of Q4_K and Q5_K: scale g, minimum g.
__host__ __device__ inline int six_bit_scale(const uint8_t* s, int g) {
    return g < 4 ? s[g] & 63 : (s[4 + g] & 15) | (s[g - 4] >> 6) << 4;
}
__host__ __device__ inline int six_bit_minimum(const uint8_t* s, int g) {
    return g < 4 ? s[4 + g] & 63 : (s[4 + g] >> 4) | (s[g] >> 6) << 4;
}

__host__ __device__ inline float bf16_at(const uint8_t* b) {
    const uint8_t bytes[4] = {0, 0, b[0], b[1]};
    return float_at(bytes);
}
// Formats with odd scales of 16 or 32 inputs.
__host__ __device__ inline float odd_scale(const void* d, float divide, const uint8_t* nibbles,
                                           int g) {
    return half_at(d) / divide * float(2 * (nibbles[g / 2] >> (g % 2 * 4) & 15) + 1);
}
__host__ __device__ inline float iq3_value(DType type, const uint8_t* block, int i) {
    const auto* b = reinterpret_cast<const BlockIQ3_X*>(block);
    const int code = nibble(b->q + i / 32 * 16, i % 32);
    const int v = type == DType::iq3_s_x
                      ? table_value(0x0F0D0B0907050301ull, 0xF1F3F5F7F9FBFDFFull, code)
                      : table_value(0x3E342C241C140C04ull, 0xC2CCD4DCE4ECF4FCull, code);
    return odd_scale(&b->d, type == DType::iq3_s_x ? 1.0f : 4.0f, b->scales, i / 32) * float(v);
}
__host__ __device__ inline float iq2_value(DType type, const uint8_t* block, int i) {
    const auto* b = reinterpret_cast<const BlockIQ2_X*>(block);
    const int code = (b->q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) |
                     (b->high[i % 32] >> (i / 32) & 1) << 2;
    const int v =
        table_value(type == DType::iq2_x ? 0x00D5E7F8002B1908ull : 0x0007FFF7000901F9ull, 0, code);
    return odd_scale(&b->d, 8.0f, b->scales, i / 16) * float(v);
}

__host__ __device__ inline float k_value(DType type, const uint8_t* block,
                                         int i) {  // input i < 256 of a block of 256
    const int half = i / 128, part = i % 128 / 32, l = i % 32;
    switch (type) {
        case DType::q2_k: {
            const auto* b = reinterpret_cast<const BlockQ2_K*>(block);
            const int code = b->q[half * 32 + l] >> (2 * part) & 3, s = b->scales[i / 16];
            return half_at(&b->d) * float(s & 15) * float(code) - half_at(&b->dmin) * float(s >> 4);
        }
        case DType::q3_k: {
            const auto* b = reinterpret_cast<const BlockQ3_K*>(block);
            const int code = (b->q[half * 32 + l] >> (2 * part) & 3) | (b->high[l] >> (i / 32) & 1)
                                                                           << 2,
                      g = i / 16;
            const int scale = (b->scales[g % 8] >> (g / 8 * 4) & 15) |
                              (b->scales[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
            return half_at(&b->d) * float(scale - 32) * float(code - 4);
        }
        case DType::q4_k: {
            const auto* b = reinterpret_cast<const BlockQ4_K*>(block);
            const int g = i / 32, code = b->q[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
            return half_at(&b->d) * float(six_bit_scale(b->scales, g)) * float(code) -
                   half_at(&b->dmin) * float(six_bit_minimum(b->scales, g));
        }
        case DType::q5_k: {
            const auto* b = reinterpret_cast<const BlockQ5_K*>(block);
            const int g = i / 32, code = (b->q[g / 2 * 32 + l] >> (g % 2 * 4) & 15) |
                                         (b->high[l] >> g & 1) << 4;
            return half_at(&b->d) * float(six_bit_scale(b->scales, g)) * float(code) -
                   half_at(&b->dmin) * float(six_bit_minimum(b->scales, g));
        }
        case DType::q6_k: {
            const auto* b = reinterpret_cast<const BlockQ6_K*>(block);
            const int low = b->low[half * 64 + part % 2 * 32 + l] >> (part / 2 * 4) & 15,
                      high = b->high[half * 32 + l] >> (2 * part) & 3;
            return half_at(&b->d) * float(b->scales[i / 16]) * float((low | high << 4) - 32);
        }
        case DType::iq3_xxs_x:
        case DType::iq3_s_x: return iq3_value(type, block, i);
        case DType::iq2_x:
        case DType::iq1_x: return iq2_value(type, block, i);
        case DType::tq2_0: {
            const auto* b = reinterpret_cast<const BlockTQ2_0*>(block);
            return half_at(&b->d) * float((b->q[half * 32 + l] >> (2 * part) & 3) - 1);
        }
        default: {  // iq4_xs
            const auto* b = reinterpret_cast<const BlockIQ4_XS*>(block);
            const int g = i / 32, scale = (b->scales_low[g / 2] >> (g % 2 * 4) & 15) |
                                          (b->scales_high >> (2 * g) & 3) << 4;
            return half_at(&b->d) * float(scale - 32) * float(iq4_value(nibble(b->q + g * 16, l)));
        }
    }
}

__host__ __device__ inline float block32_value(DType type, const uint8_t* block,
                                               int i) {  // input i < 32 of a block of 32
    switch (type) {
        case DType::q4_0: return half_at(block) * float(nibble(block + 2, i) - 8);
        case DType::q4_1: return half_at(block) * float(nibble(block + 4, i)) + half_at(block + 2);
        case DType::q5_0:
            return half_at(block) *
                   float((nibble(block + 6, i) | (block[2 + i / 8] >> (i % 8) & 1) << 4) - 16);
        case DType::q5_1:
            return half_at(block) *
                       float(nibble(block + 8, i) | (block[4 + i / 8] >> (i % 8) & 1) << 4) +
                   half_at(block + 2);
        case DType::iq4_nl: return half_at(block) * float(iq4_value(nibble(block + 2, i)));
        case DType::mxfp4_x: return bf16_at(block) * float(e2m1_value(nibble(block + 2, i)));
        case DType::nvfp4_x:
            return half_at(block + i / 16 * 2) * float(e2m1_value(nibble(block + 4, i)));
        default: return half_at(block) * float(int8_t(block[2 + i]));  // q8_0
    }
}

// Value i of a row. Types without weights in them (integers) give 0.
__host__ __device__ inline float row_value(DType type, const uint8_t* row, int i) {
    switch (type) {
        case DType::f32: return float_at(row + size_t(i) * 4);
        case DType::f16: return half_at(row + size_t(i) * 2);
        case DType::bf16: return bf16_at(row + size_t(i) * 2);
        case DType::q4_0:
        case DType::mxfp4_x:
        case DType::iq4_nl: return block32_value(type, row + size_t(i / 32) * 18, i % 32);
        case DType::q4_1:
        case DType::nvfp4_x: return block32_value(type, row + size_t(i / 32) * 20, i % 32);
        case DType::q5_0: return block32_value(type, row + size_t(i / 32) * 22, i % 32);
        case DType::q5_1: return block32_value(type, row + size_t(i / 32) * 24, i % 32);
        case DType::q8_0: return block32_value(type, row + size_t(i / 32) * 34, i % 32);
        case DType::q2_k: return k_value(type, row + size_t(i / 256) * sizeof(BlockQ2_K), i % 256);
        case DType::q3_k: return k_value(type, row + size_t(i / 256) * sizeof(BlockQ3_K), i % 256);
        case DType::q4_k: return k_value(type, row + size_t(i / 256) * sizeof(BlockQ4_K), i % 256);
        case DType::q5_k: return k_value(type, row + size_t(i / 256) * sizeof(BlockQ5_K), i % 256);
        case DType::q6_k: return k_value(type, row + size_t(i / 256) * sizeof(BlockQ6_K), i % 256);
        case DType::iq4_xs:
            return k_value(type, row + size_t(i / 256) * sizeof(BlockIQ4_XS), i % 256);
        case DType::iq3_xxs_x:
        case DType::iq3_s_x:
            return k_value(type, row + size_t(i / 256) * sizeof(BlockIQ3_X), i % 256);
        case DType::iq2_x:
        case DType::iq1_x:
            return k_value(type, row + size_t(i / 256) * sizeof(BlockIQ2_X), i % 256);
        case DType::tq2_0:
            return k_value(type, row + size_t(i / 256) * sizeof(BlockTQ2_0), i % 256);
        default: return 0.0f;
    }
}

}  // namespace pillion::cuda
