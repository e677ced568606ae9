#include "core/crc32.h"

#include <string.h>

#include <array>

namespace pillion {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320u;
// Eight bytes a step: table t maps a byte to its checksum with t zero bytes behind it.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
    Tables tables = {};
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte;
        for (int bit = 0; bit < 8; bit++) c = (c >> 1) ^ ((c & 1) != 0 ? kPolynomial : 0);
        tables[0][byte] = c;
    }
    for (size_t t = 1; t < 8; t++)
        for (size_t byte = 0; byte < 256; byte++) {
            const uint32_t before = tables[t - 1][byte];
            tables[t][byte] = (before >> 8) ^ tables[0][before & 255];
        }
    return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(uint32_t crc, const void* bytes, size_t n) {
    const auto* at = static_cast<const uint8_t*>(bytes);
    uint32_t c = ~crc;
    for (; n >= 8; at += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);  // little-endian, as the rest of the library
        word ^= c;
        c = 0;
        for (size_t i = 0; i < 8; i++) c ^= kTables[7 - i][(word >> (8 * i)) & 255];
    }
    for (; n > 0; at++, n--) c = (c >> 8) ^ kTables[0][(c ^ *at) & 255];
    return ~c;
}

}  // namespace pillion
