#include "tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace pillion {
namespace {

constexpr uint32_t kRuns[] = {
#include "tokenizer/unicode_tables.inc"
};

constexpr uint32_t kFlagBits = 11;
constexpr uint32_t kCodePoints = 0x110000;
constexpr const char kReplacement[] = "\xEF\xBF\xBD";

uint32_t search_flags(uint32_t code_point) {
    // Finds the first run that starts behind the code point; the run before it holds it. Run 0
    // starts at 0.
    const uint32_t key = (code_point << kFlagBits) | ((1u << kFlagBits) - 1);
    const uint32_t* const next = std::upper_bound(std::begin(kRuns), std::end(kRuns), key);
    return next[-1] & ((1u << kFlagBits) - 1);
}

std::array<uint16_t, 128> ascii_flags() {
    std::array<uint16_t, 128> flags{};
    for (uint32_t c = 0; c < flags.size(); ++c) flags[c] = uint16_t(search_flags(c));
    return flags;
}

// The bytes that may follow a lead byte: their number and the range of the first one, from table
// 3-7 of the Unicode standard. The ranges exclude overlong forms, surrogates and values above
// U+10FFFF.
struct Lead {
    uint32_t further;  // 0: not a lead byte
    uint8_t low, high;
};

Lead lead_of(uint8_t byte) {
    if (byte < 0xC2 || byte > 0xF4) return {0, 0, 0};
    if (byte < 0xE0) return {1, 0x80, 0xBF};
    if (byte < 0xF0)
        return {2, uint8_t(byte == 0xE0 ? 0xA0 : 0x80), uint8_t(byte == 0xED ? 0x9F : 0xBF)};
    return {3, uint8_t(byte == 0xF0 ? 0x90 : 0x80), uint8_t(byte == 0xF4 ? 0x8F : 0xBF)};
}

// Appends the complete text of `bytes` to `out`. Returns how many bytes remain, all of one
// unfinished character.
size_t append_text(std::string_view bytes, std::string& out) {
    size_t at = 0;
    while (at < bytes.size()) {
        const Utf8Step step = utf8_step(bytes.data() + at, bytes.size() - at);
        if (step.state == Utf8State::incomplete) break;
        if (step.state == Utf8State::valid) out.append(bytes, at, step.bytes);
        else out += kReplacement;
        at += step.bytes;
    }
    return bytes.size() - at;
}

}  // namespace

uint32_t unicode_flags(uint32_t code_point) {
    static const std::array<uint16_t, 128> ascii = ascii_flags();
    if (code_point < ascii.size()) return ascii[code_point];
    return code_point < kCodePoints ? search_flags(code_point) : 0;
}

Utf8Step utf8_step(const char* text, size_t n) {
    const uint8_t first = uint8_t(text[0]);
    if (first < 0x80) return {first, 1, Utf8State::valid};
    const Lead lead = lead_of(first);
    if (lead.further == 0) return {0, 1, Utf8State::invalid};
    uint32_t code_point = first & (0x3Fu >> lead.further);
    for (uint32_t i = 1; i <= lead.further; ++i) {
        if (i == n) return {0, i, Utf8State::incomplete};
        const uint8_t byte = uint8_t(text[i]);
        const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : (byte & 0xC0) == 0x80;
        if (!fits) return {0, i, Utf8State::invalid};
        code_point = code_point << 6 | (byte & 0x3F);
    }
    return {code_point, lead.further + 1, Utf8State::valid};
}

std::string Utf8Stream::feed(std::string_view bytes) {
    std::string out;
    if (held_.empty()) {
        const size_t left = append_text(bytes, out);
        held_.assign(bytes.substr(bytes.size() - left));
        return out;
    }
    held_.append(bytes);
    const size_t left = append_text(held_, out);
    held_.erase(0, held_.size() - left);
    return out;
}

std::string Utf8Stream::flush() {
    std::string out = held_.empty() ? "" : kReplacement;
    held_.clear();
    return out;
}

std::string replace_invalid_utf8(std::string_view bytes) {
    Utf8Stream stream;
    std::string out = stream.feed(bytes);
    return out += stream.flush();
}

}  // namespace pillion
