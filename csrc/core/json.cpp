#include "core/json.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <charconv>

#include "core/utf8.h"

namespace pillion {
namespace {

template <class Float>
std::string shortest(Float value) {
    if (!isfinite(value)) return "null";
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, value);
    return std::string(text, end.ptr);
}

}  // namespace

std::string json_string(std::string_view text) {
    std::string out = "\"";
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    for (size_t i = 0, bad = 0; i < text.size();) {
        const size_t n = utf8_character(p + i, text.size() - i, bad);
        if (n == 0) {
            out += "\xef\xbf\xbd";  // U+FFFD
        } else if (p[i] == '"' || p[i] == '\\') {
            out += '\\';
            out += char(p[i]);
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", unsigned(p[i]));
            out += escape;
        } else {
            out.append(text, i, n);
        }
        i += n ? n : bad;
    }
    return out + '"';
}

std::string json_number(double value) { return shortest(value); }
std::string json_number(float value) { return shortest(value); }

JsonArray& JsonArray::add(const Json& value) {
    if (!items_.empty()) items_ += ", ";
    items_ += value.text();
    return *this;
}

JsonObject& JsonObject::add(std::string_view key, const Json& value) {
    if (!members_.empty()) members_ += ", ";
    members_ += json_string(key);
    members_ += ": ";
    members_ += value.text();
    return *this;
}

}  // namespace pillion
