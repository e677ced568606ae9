// UTF-8 and the few Unicode properties that tokenizer rules need, without normalisation, case
// folding or locale. Invariant: every function accepts invalid bytes. A reader that must see every
// byte takes invalid bytes one at a time; a reader that makes text replaces them exactly as
// Python's bytes.decode("utf-8", "replace") does.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>

namespace pillion {

// One general-category bit per code point, and further properties. tools/make_unicode_tables.py
// uses the same bits.
enum UnicodeFlags : uint32_t {
    kLetter = 1,
    kMark = 2,
    kNumber = 4,
    kPunctuation = 8,
    kSymbol = 16,
    kSeparator = 32,
    kOther = 64,
    // the property White_Space, the meaning of \s
    kWhitespace = 128,
    kUpper = 256,  // Lu, Lt
    kLower = 512,  // Ll
};

// 0 for a value that is not a code point, such as kInvalidByte.
uint32_t unicode_flags(uint32_t code_point);

enum class Utf8State { valid, invalid, incomplete };

// `bytes` is at least 1. invalid: bytes that Python would replace by one U+FFFD. incomplete: all
// remaining bytes, and more bytes could still make them valid. `code_point` is set only for valid.
struct Utf8Step {
    uint32_t code_point;
    uint32_t bytes;
    Utf8State state;
};

// Reads one character. Requires n > 0.
Utf8Step utf8_step(const char* text, size_t n);

inline constexpr uint32_t kInvalidByte = 0xffffffff;

// As utf8_step, for readers that must keep every byte: anything invalid is one byte with code point
// kInvalidByte.
inline Utf8Step utf8_step_or_byte(const char* text, size_t n) {
    const Utf8Step step = utf8_step(text, n);
    return step.state == Utf8State::valid ? step : Utf8Step{kInvalidByte, 1, Utf8State::invalid};
}

// Turns a stream of byte pieces into text. Holds back an unfinished character, at most three bytes.
class Utf8Stream {
  public:
    // Returns the text that is complete so far; may be empty.
    std::string feed(std::string_view bytes);
    // Returns the rest: empty, or one U+FFFD for an unfinished character. Resets the stream.
    std::string flush();

  private:
    std::string held_;
};

// Returns all of `bytes` as valid UTF-8.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace pillion
