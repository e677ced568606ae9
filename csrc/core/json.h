// Writes JSON. A value is its text; objects and arrays grow a member at a time, in the order of the
// calls, spaced as Python's json.dumps does: {"op": "add", "layers": [0, 1]}.
#pragma once
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pillion {

// A string with its quotes. Control bytes are escaped, invalid UTF-8 becomes U+FFFD.
std::string json_string(std::string_view text);
// The shortest text that reads back as the same value; NaN and infinities are null.
std::string json_number(double value);
std::string json_number(float value);

// Any JSON value. Made from a string, bool, number, nullptr, JsonObject or JsonArray.
class Json {
  public:
    Json(const char* text) : text_(json_string(text)) {}
    Json(std::string_view text) : text_(json_string(text)) {}
    Json(const std::string& text) : text_(json_string(text)) {}
    Json(bool value) : text_(value ? "true" : "false") {}
    Json(double value) : text_(json_number(value)) {}
    Json(float value) : text_(json_number(value)) {}
    Json(std::nullptr_t) : text_("null") {}
    template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
    Json(Integer value) : text_(std::to_string(value)) {}

    // `text` is JSON already.
    static Json parsed(std::string text) { return Json(std::move(text), 0); }

    const std::string& text() const { return text_; }

  private:
    friend class JsonArray;
    friend class JsonObject;
    Json(std::string text, int) : text_(std::move(text)) {}
    std::string text_;
};

class JsonArray {
  public:
    JsonArray& add(const Json& value);
    std::string text() const { return "[" + items_ + "]"; }
    operator Json() const { return Json::parsed(text()); }

  private:
    std::string items_;
};

class JsonObject {
  public:
    JsonObject& add(std::string_view key, const Json& value);
    std::string text() const { return "{" + members_ + "}"; }
    operator Json() const { return Json::parsed(text()); }

  private:
    std::string members_;
};

// [a, b, ...] of a range whose items a Json can be made from.
template <class Items>
JsonArray json_array(const Items& items) {
    JsonArray array;
    for (const auto& item : items) array.add(item);
    return array;
}

}  // namespace pillion
