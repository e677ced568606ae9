// UTF-8, one character at a time.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion {

// The length of the UTF-8 character at `p`, of which `n` bytes can be read, or 0 if there is none;
// then `bad` bytes are to be replaced by one mark (the longest beginning of a character that was
// broken off, as Unicode recommends and Python does).
size_t utf8_character(const uint8_t* p, size_t n, size_t& bad);

}  // namespace pillion
