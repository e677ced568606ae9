// GGUF metadata as numbers, vectors and text. gguf.cpp parses and checks all bounds.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <set>
#include <type_traits>

#include "core/json.h"
#include "core/utf8.h"
#include "gguf/gguf.h"

namespace pillion {
namespace {

template <class T>
T load(const GgufValue& value, uint64_t i) {
    T out;
    memcpy(&out, value.bytes + i * sizeof out, sizeof out);
    return out;
}

// Calls f(string) for the first n strings of a string value.
template <class F>
void each_string(const GgufValue& value, uint64_t n, F f) {
    const uint8_t* p = value.bytes;
    for (uint64_t i = 0; i < n; ++i) {
        uint64_t length;
        memcpy(&length, p, sizeof length);
        f(std::string_view(reinterpret_cast<const char*>(p) + 8, size_t(length)));
        p += 8 + length;
    }
}

// A value's type for error sentences: "u32", "array of string".
std::string type_text(const GgufValue& value) {
    return (value.is_array ? "array of " : "") + std::string(gguf_type_name(value.element));
}

// C0, DEL and C1, which a terminal might obey.
bool is_control(const uint8_t* p, size_t n) {
    return p[0] < 0x20 || p[0] == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

// Writes U+FFFD for invalid UTF-8, and for NUL, which a C string cannot hold.
std::string shown_text(std::string_view text) {
    std::string out;
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    for (size_t i = 0, bad = 0; i < text.size();) {
        const size_t n = utf8_character(p + i, text.size() - i, bad);
        if (n == 0 || p[i] == 0) out += "\xef\xbf\xbd";
        else out.append(text, i, n);
        i += n ? n : bad;
    }
    return out;
}

// Element i of a value without strings.
Json element_json(const GgufValue& value, uint64_t i) {
    switch (value.element) {
        case GgufType::boolean: return value.bytes[i] != 0;
        case GgufType::f32: return load<float>(value, i);
        case GgufType::f64: return load<double>(value, i);
        case GgufType::u64: return load<uint64_t>(value, i);  // may exceed int64
        default: break;
    }
    int64_t out = 0;
    gguf_integer(value, i, out);
    return out;
}

// Calls f(Json) for the first n elements.
template <class F>
void each_json(const GgufValue& value, uint64_t n, F f) {
    if (value.element == GgufType::string)
        return each_string(value, n, [&](std::string_view s) { f(Json(s)); });
    for (uint64_t i = 0; i < n; ++i) f(element_json(value, i));
}

}  // namespace

const char* gguf_type_name(GgufType type) {
    switch (type) {
        case GgufType::u8: return "u8";
        case GgufType::i8: return "i8";
        case GgufType::u16: return "u16";
        case GgufType::i16: return "i16";
        case GgufType::u32: return "u32";
        case GgufType::i32: return "i32";
        case GgufType::f32: return "f32";
        case GgufType::boolean: return "bool";
        case GgufType::string: return "string";
        case GgufType::array: return "array";
        case GgufType::u64: return "u64";
        case GgufType::i64: return "i64";
        case GgufType::f64: return "f64";
    }
    return "?";
}

bool gguf_integer(const GgufValue& value, uint64_t i, int64_t& out) {
    switch (value.element) {
        case GgufType::u8:
        case GgufType::boolean: out = load<uint8_t>(value, i); return true;
        case GgufType::i8:
            out = load<int8_t>(value, i);  // NOLINT(bugprone-signed-char-misuse): a number
            return true;
        case GgufType::u16: out = load<uint16_t>(value, i); return true;
        case GgufType::i16: out = load<int16_t>(value, i); return true;
        case GgufType::u32: out = load<uint32_t>(value, i); return true;
        case GgufType::i32: out = load<int32_t>(value, i); return true;
        case GgufType::i64: out = load<int64_t>(value, i); return true;
        case GgufType::u64: {
            const uint64_t v = load<uint64_t>(value, i);
            out = int64_t(v);
            return v <= uint64_t(INT64_MAX);
        }
        default: return false;
    }
}

bool gguf_real(const GgufValue& value, uint64_t i, double& out) {
    if (value.element == GgufType::f32) out = double(load<float>(value, i));
    else if (value.element == GgufType::f64) out = load<double>(value, i);
    else return false;
    return true;
}

const GgufValue& GgufFile::required(std::string_view key) const {
    if (const GgufValue* value = find(key)) return *value;
    fail(Status::file_corrupt, "key %s is missing", printable(key).c_str());
}

const GgufValue& GgufFile::required_array(std::string_view key) const {
    const GgufValue& value = required(key);
    if (!value.is_array)
        fail(Status::file_corrupt, "key %s: it is a %s, expected an array", printable(key).c_str(),
             gguf_type_name(value.element));
    return value;
}

const GgufValue& GgufFile::scalar(const GgufValue& value) const {
    if (!value.is_array) return value;
    if (value.element == GgufType::string || value.count == 0)
        fail(Status::file_corrupt,
             "key %s: it is an %s of %" PRIu64 " elements, expected one value",
             printable(value.key).c_str(), type_text(value).c_str(), value.count);
    const size_t each = value.n_bytes / size_t(value.count);
    for (uint64_t i = 1; i < value.count; ++i)
        if (memcmp(value.bytes, value.bytes + i * each, each) != 0)
            fail(Status::file_corrupt,
                 "key %s: it is an array of different values, expected one value",
                 printable(value.key).c_str());
    return value;
}

int64_t GgufFile::integer(std::string_view key, int64_t lo, int64_t hi) const {
    const GgufValue& value = scalar(required(key));
    int64_t out = 0;
    if (value.element == GgufType::f32 || value.element == GgufType::f64 ||
        value.element == GgufType::string)
        fail(Status::file_corrupt, "key %s: it is a %s, expected an integer",
             printable(key).c_str(), type_text(value).c_str());
    if (!gguf_integer(value, 0, out) || out < lo || out > hi)
        fail(Status::file_corrupt, "key %s: %s is outside %" PRId64 " to %" PRId64,
             printable(key).c_str(), element_json(value, 0).text().c_str(), lo, hi);
    return out;
}

int64_t GgufFile::integer_or(std::string_view key, int64_t fallback, int64_t lo, int64_t hi) const {
    return find(key) ? integer(key, lo, hi) : fallback;
}

float GgufFile::f32(std::string_view key) const {
    const GgufValue& value = scalar(required(key));
    double real = 0;
    int64_t whole = 0;
    if (gguf_real(value, 0, real)) {
        // The conversion is undefined beyond float's range. Infinity makes such a value fail the
        // caller's range check.
        if (isfinite(real) && fabs(real) > double(__FLT_MAX__))
            return real > 0 ? INFINITY : -INFINITY;
        return float(real);
    }
    if (value.element != GgufType::boolean && gguf_integer(value, 0, whole)) return float(whole);
    fail(Status::file_corrupt, "key %s: it is a %s, expected a number", printable(key).c_str(),
         type_text(value).c_str());
}

float GgufFile::f32(std::string_view key, float fallback) const {
    return find(key) ? f32(key) : fallback;
}

std::string_view GgufFile::string(std::string_view key) const {
    const GgufValue& value = required(key);
    if (value.is_array || value.element != GgufType::string)
        fail(Status::file_corrupt, "key %s: it is a %s, expected a string", printable(key).c_str(),
             type_text(value).c_str());
    std::string_view out;
    each_string(value, 1, [&](std::string_view s) { out = s; });
    return out;
}

std::string_view GgufFile::string(std::string_view key, std::string_view fallback) const {
    return find(key) ? string(key) : fallback;
}

std::vector<int64_t> GgufFile::per_layer(std::string_view key, size_t n, int64_t lo,
                                         int64_t hi) const {
    const GgufValue& value = required(key);
    if (!value.is_array) return std::vector<int64_t>(n, integer(key, lo, hi));
    if (value.count != n)
        fail(Status::file_corrupt,
             "key %s: it has %" PRIu64 " values, expected one or %zu (one per layer)",
             printable(key).c_str(), value.count, n);
    std::vector<int64_t> out(n);
    for (size_t i = 0; i < n; ++i) {
        if (value.element == GgufType::f32 || value.element == GgufType::f64 ||
            value.element == GgufType::string)
            fail(Status::file_corrupt, "key %s: it is an %s, expected integers",
                 printable(key).c_str(), type_text(value).c_str());
        if (!gguf_integer(value, i, out[i]) || out[i] < lo || out[i] > hi)
            fail(Status::file_corrupt, "key %s: value %zu is %s, outside %" PRId64 " to %" PRId64,
                 printable(key).c_str(), i, element_json(value, i).text().c_str(), lo, hi);
    }
    return out;
}

std::vector<std::string_view> GgufFile::strings(std::string_view key) const {
    const GgufValue& value = required_array(key);
    if (value.element != GgufType::string)
        fail(Status::file_corrupt, "key %s: it is an %s, expected strings", printable(key).c_str(),
             type_text(value).c_str());
    std::vector<std::string_view> out;
    out.reserve(size_t(value.count));  // open() has checked that the file holds that many strings
    each_string(value, value.count, [&](std::string_view s) { out.push_back(s); });
    return out;
}

std::vector<int32_t> GgufFile::int32s(std::string_view key) const {
    const GgufValue& value = required_array(key);
    std::vector<int32_t> out(size_t(value.count));
    for (size_t i = 0; i < out.size(); ++i) {
        int64_t v = 0;
        if (value.element == GgufType::boolean || !gguf_integer(value, i, v) || v < INT32_MIN ||
            v > INT32_MAX)
            fail(Status::file_corrupt, "key %s: element %zu of its %s is not a 32-bit integer",
                 printable(key).c_str(), i, type_text(value).c_str());
        out[i] = int32_t(v);
    }
    return out;
}

std::vector<float> GgufFile::float32s(std::string_view key) const {
    const GgufValue& value = required_array(key);
    std::vector<float> out(size_t(value.count));
    if (value.element == GgufType::f32) {
        if (!out.empty()) memcpy(out.data(), value.bytes, value.n_bytes);
        return out;
    }
    for (size_t i = 0; i < out.size(); ++i) {
        double v = 0;
        if (!gguf_real(value, i, v) || (isfinite(v) && fabs(v) > double(__FLT_MAX__)))
            fail(Status::file_corrupt, "key %s: element %zu of its %s is not a 32-bit float",
                 printable(key).c_str(), i, type_text(value).c_str());
        out[i] = float(v);
    }
    return out;
}

std::vector<uint8_t> GgufFile::booleans(std::string_view key) const {
    const GgufValue& value = required_array(key);
    std::vector<uint8_t> out(size_t(value.count));
    for (size_t i = 0; i < out.size(); ++i) {
        int64_t v = 0;
        if (!gguf_integer(value, i, v) || v < 0 || v > 1)
            fail(Status::file_corrupt, "key %s: element %zu of its %s is not true or false",
                 printable(key).c_str(), i, type_text(value).c_str());
        out[i] = uint8_t(v);
    }
    return out;
}

const GgufValue* GgufFile::find_shown(std::string_view key) const {
    if (const GgufValue* value = find(key)) return value;
    const std::vector<std::string> shown = shown_keys();
    for (size_t i = 0; i < shown.size(); ++i)
        if (shown[i] == key) return &values_[i];
    return nullptr;
}

std::vector<std::string> GgufFile::shown_keys() const {
    std::vector<std::string> keys;
    std::set<std::string> taken;
    for (const GgufValue& v : values_) {
        keys.push_back(shown_text(v.key));
        if (keys.back() == v.key) taken.insert(keys.back());
    }
    for (size_t i = 0; i < keys.size(); ++i) {
        if (keys[i] == values_[i].key) continue;
        const std::string plain = keys[i];
        for (int n = 2; !taken.insert(keys[i]).second; ++n)
            keys[i] = plain + " (" + std::to_string(n) + ")";
    }
    return keys;
}

std::string printable(std::string_view text, size_t max_bytes) {
    std::string out;
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    for (size_t i = 0, bad = 0; i < text.size();) {
        const size_t n = utf8_character(p + i, text.size() - i, bad);
        if (out.size() + (n ? n : 1) > max_bytes) return out + "...";
        if (n == 0 || is_control(p + i, n)) out += '?';
        else out.append(text, i, n);
        i += n ? n : bad;
    }
    return out;
}

std::string to_json(const GgufValue& value, size_t max_array) {
    if (!value.is_array) {
        std::string scalar;
        each_json(value, 1, [&](const Json& v) { scalar = v.text(); });
        return scalar;
    }
    const uint64_t n = value.count > max_array ? max_array : value.count;
    JsonArray items;
    each_json(value, n, [&](const Json& v) { items.add(v); });
    if (n == value.count) return items.text();
    return JsonObject()
        .add("count", value.count)
        .add("element", gguf_type_name(value.element))
        .add("first", items)
        .text();
}

}  // namespace pillion
