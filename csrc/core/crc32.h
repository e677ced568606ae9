// CRC-32 as zlib, PNG and gzip compute it (reflected polynomial 0xEDB88320). It finds damage; it
// does not keep anybody from changing a file on purpose.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion {

// Of `n` more bytes behind those whose checksum is `crc`; 0: of none.
uint32_t crc32(uint32_t crc, const void* bytes, size_t n);

}  // namespace pillion
