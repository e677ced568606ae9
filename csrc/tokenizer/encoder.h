// What a family of tokenizers does with a stretch of text that holds no special tokens.
// Invariant: an encoder is immutable, so any number of threads may use one; every byte of the text
// reaches a token, or an unknown token where the vocabulary has one, or is dropped only where the
// family itself drops it (a byte-level file without that byte).
#pragma once
#include <stdint.h>

#include <string_view>
#include <vector>

namespace pillion {

// Text between two special tokens, the second of which may be user-defined: then the passage goes
// on behind it.
struct Stretch {
    std::string_view text;  // shorter than 1 GiB; empty only between
    bool opens = true;   // begins a passage: the text starts here, or a control token stands before
    bool closes = true;  // ends it: no user-defined token follows
};

class Encoder {
  public:
    virtual ~Encoder() = default;
    // Appends the ids of the stretch.
    virtual void encode(const Stretch& stretch, std::vector<int32_t>& ids) const = 0;
};

}  // namespace pillion
