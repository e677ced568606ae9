#include "core/utf8.h"

namespace pillion {

size_t utf8_character(const uint8_t* p, size_t n, size_t& bad) {
    bad = 1;
    const uint8_t c = p[0];
    if (c < 0x80) return 1;
    const size_t length = c >= 0xc2 && c <= 0xdf   ? 2
                          : c >= 0xe0 && c <= 0xef ? 3
                          : c >= 0xf0 && c <= 0xf4 ? 4
                                                   : 0;
    for (size_t i = 1; i < length; ++i) {
        // The second byte's range excludes overlong forms, surrogates and what lies beyond
        // U+10FFFF.
        const uint8_t lo = i > 1 ? 0x80 : c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        const uint8_t hi = i > 1 ? 0xbf : c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (i >= n || p[i] < lo || p[i] > hi) return 0;
        bad = i + 1;
    }
    return length;
}

}  // namespace pillion
