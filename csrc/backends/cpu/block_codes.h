// The codes of all inputs into a block of core/contract/blocks.h whose code fields are zero: the
// way back from NAME_code of core/contract/block_values.h.
#pragma once
#include <stdint.h>

#include "core/contract/blocks.h"

namespace pillion::cpu {

inline void set_nibbles(uint8_t* q, const uint8_t* c) {
    for (int i = 0; i < 16; i++) q[i] |= uint8_t((c[i] & 15) | c[16 + i] << 4);
}
inline void set_codes(BlockQ4_0& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void set_codes(BlockQ4_1& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void set_codes(BlockIQ4_NL& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void set_codes(BlockMXFP4_X& b, const uint8_t* c) { set_nibbles(b.q, c); }
inline void set_codes(BlockNVFP4_X& b, const uint8_t* c) { set_nibbles(b.q, c); }

template <class B>
inline void set_five_bits(B& b, const uint8_t* c) {
    set_nibbles(b.q, c);
    for (int i = 0; i < 32; i++) b.high[i / 8] |= uint8_t((c[i] >> 4) << (i % 8));
}
inline void set_codes(BlockQ5_0& b, const uint8_t* c) { set_five_bits(b, c); }
inline void set_codes(BlockQ5_1& b, const uint8_t* c) { set_five_bits(b, c); }

inline void set_codes(BlockQ8_0& b, const uint8_t* c) {
    for (int i = 0; i < 32; i++) b.q[i] = int8_t(c[i] ^ 0x80);
}

inline void set_pairs(uint8_t* q, const uint8_t* c) {
    for (int i = 0; i < 256; i++) q[i / 128 * 32 + i % 32] |= uint8_t(c[i] << (i / 32 % 4 * 2));
}
inline void set_codes(BlockQ2_K& b, const uint8_t* c) { set_pairs(b.q, c); }
inline void set_codes(BlockTQ2_0& b, const uint8_t* c) { set_pairs(b.q, c); }

template <class B>
inline void set_three_bits(B& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        b.q[i / 128 * 32 + i % 32] |= uint8_t((c[i] & 3) << (i / 32 % 4 * 2));
        b.high[i % 32] |= uint8_t((c[i] >> 2) << (i / 32));
    }
}
inline void set_codes(BlockQ3_K& b, const uint8_t* c) { set_three_bits(b, c); }
inline void set_codes(BlockIQ2_X& b, const uint8_t* c) { set_three_bits(b, c); }

inline void set_codes(BlockQ4_K& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) b.q[i / 64 * 32 + i % 32] |= uint8_t(c[i] << (i / 32 % 2 * 4));
}
inline void set_codes(BlockQ5_K& b, const uint8_t* c) {
    for (int i = 0; i < 256; i++) {
        b.q[i / 64 * 32 + i % 32] |= uint8_t((c[i] & 15) << (i / 32 % 2 * 4));
        b.high[i % 32] |= uint8_t((c[i] >> 4) << (i / 32));
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
inline void set_nibbles_256(B& b, const uint8_t* c) {
    for (int g = 0; g < 8; g++) set_nibbles(b.q + 16 * g, c + 32 * g);
}
inline void set_codes(BlockIQ4_XS& b, const uint8_t* c) { set_nibbles_256(b, c); }
inline void set_codes(BlockIQ3_X& b, const uint8_t* c) { set_nibbles_256(b, c); }

}  // namespace pillion::cpu
