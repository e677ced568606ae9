// The codes of a block of core/blocks.h, one a byte. get_codes: unsigned codes of all inputs.
// set_codes: the way back, into a block whose code fields are zero.
#pragma once
#include <stdint.h>

#include "core/blocks.h"

namespace pillion::cpu {

inline void get_nibbles(const uint8_t* q, uint8_t* c) {
    for (int i = 0; i < 16; i++) c[i] = q[i] & 15, c[16 + i] = q[i] >> 4;
}
inline void set_nibbles(uint8_t* q, const uint8_t* c) {
    for (int i = 0; i < 16; i++) q[i] |= uint8_t((c[i] & 15) | c[16 + i] << 4);
}
inline void get_codes(const BlockQ4_0& b, uint8_t* c) { get_nibbles(b.q, c); }
inline void set_codes(BlockQ4_0& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void get_codes(const BlockQ4_1& b, uint8_t* c) { get_nibbles(b.q, c); }
inline void set_codes(BlockQ4_1& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void get_codes(const BlockIQ4_NL& b, uint8_t* c) { get_nibbles(b.q, c); }
inline void set_codes(BlockIQ4_NL& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void get_codes(const BlockMXFP4_X& b, uint8_t* c) { get_nibbles(b.q, c); }
inline void set_codes(BlockMXFP4_X& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void get_codes(const BlockNVFP4_X& b, uint8_t* c) { get_nibbles(b.q, c); }
inline void set_codes(BlockNVFP4_X& b, const uint8_t* c) { set_nibbles(b.q, c); }

template <class B>
inline void get_five_bits(const B& b, uint8_t* c) {
    get_nibbles(b.q, c);
    for (int i = 0; i < 32; i++) c[i] |= uint8_t((b.high[i / 8] >> (i % 8) & 1) << 4);
}
template <class B>
inline void set_five_bits(B& b, const uint8_t* c) {
    set_nibbles(b.q, c);
    for (int i = 0; i < 32; i++) b.high[i / 8] |= uint8_t((c[i] >> 4) << (i % 8));
}
inline void get_codes(const BlockQ5_0& b, uint8_t* c) { get_five_bits(b, c); }
inline void set_codes(BlockQ5_0& b, const uint8_t* c) { set_five_bits(b, c); }
inline void get_codes(const BlockQ5_1& b, uint8_t* c) { get_five_bits(b, c); }
inline void set_codes(BlockQ5_1& b, const uint8_t* c) { set_five_bits(b, c); }

inline void get_codes(const BlockQ8_0& b, uint8_t* c) {
    for (int i = 0; i < 32; i++) c[i] = uint8_t(b.q[i] ^ 0x80);
}
inline void set_codes(BlockQ8_0& b, const uint8_t* c) {
    for (int i = 0; i < 32; i++) b.q[i] = int8_t(c[i] ^ 0x80);
}

inline void get_pairs(const uint8_t* q, uint8_t* c) {
    for (int i = 0; i < 256; i++) c[i] = q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}
inline void set_pairs(uint8_t* q, const uint8_t* c) {
    for (int i = 0; i < 256; i++) q[i / 128 * 32 + i % 32] |= uint8_t(c[i] << (i / 32 % 4 * 2));
}
inline void get_codes(const BlockQ2_K& b, uint8_t* c) { get_pairs(b.q, c); }
inline void set_codes(BlockQ2_K& b, const uint8_t* c) { set_pairs(b.q, c); }
inline void get_codes(const BlockTQ2_0& b, uint8_t* c) { get_pairs(b.q, c); }
inline void set_codes(BlockTQ2_0& b, const uint8_t* c) { set_pairs(b.q, c); }

template <class B>
inline void get_three_bits(const B& b, uint8_t* c) {
    for (int i = 0; i < 256; i++)
        c[i] = uint8_t((b.q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) |
                       (b.high[i % 32] >> (i / 32) & 1) << 2);
}
template <class B>
inline void set_three_bits(B& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        b.q[i / 128 * 32 + i % 32] |= uint8_t((c[i] & 3) << (i / 32 % 4 * 2));
        b.high[i % 32] |= uint8_t((c[i] >> 2) << (i / 32));
    }
}
inline void get_codes(const BlockQ3_K& b, uint8_t* c) { get_three_bits(b, c); }
inline void set_codes(BlockQ3_K& b, const uint8_t* c) { set_three_bits(b, c); }
inline void get_codes(const BlockIQ2_X& b, uint8_t* c) { get_three_bits(b, c); }
inline void set_codes(BlockIQ2_X& b, const uint8_t* c) { set_three_bits(b, c); }

inline void get_codes(const BlockQ4_K& b, uint8_t* c) {
    for (int i = 0; i < 256; i++) c[i] = b.q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}
inline void set_codes(BlockQ4_K& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) b.q[i / 64 * 32 + i % 32] |= uint8_t(c[i] << (i / 32 % 2 * 4));
}
inline void get_codes(const BlockQ5_K& b, uint8_t* c) {
    for (int i = 0; i < 256; i++)
        c[i] = uint8_t((b.q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15) |
                       (b.high[i % 32] >> (i / 32) & 1) << 4);
}
inline void set_codes(BlockQ5_K& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        b.q[i / 64 * 32 + i % 32] |= uint8_t((c[i] & 15) << (i / 32 % 2 * 4));
        b.high[i % 32] |= uint8_t((c[i] >> 4) << (i / 32));
    }
}
inline void get_codes(const BlockQ6_K& b, uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, s = i / 32 % 4, l = i % 32;
        c[i] = uint8_t((b.low[64 * half + s % 2 * 32 + l] >> (s / 2 * 4) & 15) |
                       (b.high[32 * half + l] >> (2 * s) & 3) << 4);
    }
}
inline void set_codes(BlockQ6_K& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, s = i / 32 % 4, l = i % 32;
        b.low[64 * half + s % 2 * 32 + l] |= uint8_t((c[i] & 15) << (s / 2 * 4));
        b.high[32 * half + l] |= uint8_t((c[i] >> 4) << (2 * s));
    }
}
template <class B>
inline void get_nibbles_256(const B& b, uint8_t* c) {
    for (int g = 0; g < 8; g++) get_nibbles(b.q + 16 * g, c + 32 * g);
}
template <class B>
inline void set_nibbles_256(B& b, const uint8_t* c) {
    for (int g = 0; g < 8; g++) set_nibbles(b.q + 16 * g, c + 32 * g);
}
inline void get_codes(const BlockIQ4_XS& b, uint8_t* c) { get_nibbles_256(b, c); }
inline void set_codes(BlockIQ4_XS& b, const uint8_t* c) { set_nibbles_256(b, c); }
inline void get_codes(const BlockIQ3_X& b, uint8_t* c) { get_nibbles_256(b, c); }
inline void set_codes(BlockIQ3_X& b, const uint8_t* c) { set_nibbles_256(b, c); }

}  // namespace pillion::cpu
