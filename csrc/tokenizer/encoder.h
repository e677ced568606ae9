// The interface of a tokenizer family: encodes a span of text without special tokens.
// Invariants: an encoder is immutable, so any number of threads may share one. Every byte of the
// text reaches a token, or an unknown token if the vocabulary has one. A byte is dropped only where
// the family itself drops it (a byte-level file without that byte).
#pragma once
#include <stdint.h>

#include <string_view>
#include <vector>

namespace pillion {

// Text between two special tokens. If the second is user-defined, the passage continues behind it.
struct TextSpan {
    // shorter than 1 GiB; empty only between two special tokens
    std::string_view text;
    // begins a passage: at the start of the text or behind a control token
    bool opens = true;
    bool closes = true;  // ends the passage: no user-defined token follows
};

class Encoder {
  public:
    virtual ~Encoder() = default;
    // Appends the ids of the span's tokens.
    virtual void encode(const TextSpan& span, std::vector<int32_t>& ids) const = 0;
};

}  // namespace pillion
