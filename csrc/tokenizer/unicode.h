// UTF-8 and the few Unicode properties that tokenizer rules ask for. No normalisation, no case
// folding, no locale. Invariant: nothing here fails on bad bytes. A reader that must see every byte
// takes invalid bytes one at a time; a reader that makes text replaces them exactly as Python's
// bytes.decode("utf-8", "replace") does.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>

namespace pillion {

// One general-category bit per code point, and properties beside it. The bits are those of
// tools/make_unicode_tables.py.
enum UnicodeFlags : uint32_t {
    kLetter = 1,
    kMark = 2,
    kNumber = 4,
    kPunctuation = 8,
    kSymbol = 16,
    kSeparator = 32,
    kOther = 64,
    kWhitespace = 128,  // the property White_Space, what \s means
    kUpper = 256,       // Lu, Lt
    kLower = 512,       // Ll
};

// 0 for a value that is no code point, such as kInvalidByte.
uint32_t unicode_flags(uint32_t code_point);

enum class Utf8State { valid, invalid, incomplete };

// `bytes` is at least 1. invalid: the bytes that Python would replace by one U+FFFD. incomplete:
// all that is left, and more bytes could still make it valid. `code_point` is meant only for valid.
struct Utf8Step {
    uint32_t code_point;
    uint32_t bytes;
    Utf8State state;
};

// n > 0.
Utf8Step utf8_step(const char* text, size_t n);

inline constexpr uint32_t kInvalidByte = 0xffffffff;

// As utf8_step, for readers that must keep every byte: anything not valid is one byte with code
// point kInvalidByte.
inline Utf8Step utf8_step_or_byte(const char* text, size_t n) {
    const Utf8Step step = utf8_step(text, n);
    return step.state == Utf8State::valid ? step : Utf8Step{kInvalidByte, 1, Utf8State::invalid};
}

// Turns a stream of byte pieces into text: holds back half a character, never more than three
// bytes.
class Utf8Stream {
  public:
    // The text complete so far; may be empty.
    std::string feed(std::string_view bytes);
    // The rest: empty, or one U+FFFD for a character that never came whole. The stream is then as
    // new.
    std::string flush();

  private:
    std::string held_;
};

// The whole of `bytes` as valid UTF-8.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace pillion
