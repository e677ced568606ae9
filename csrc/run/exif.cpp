#include "run/exif.h"

#include <stdint.h>

#include <string_view>

namespace pillion::run {
namespace {

using namespace std::string_view_literals;

// A number of `bytes` bytes, 0 where the text ends before.
uint32_t number(std::string_view text, size_t at, int bytes, bool little) {
    uint32_t v = 0;
    if (at > text.size() || text.size() - at < size_t(bytes)) return 0;
    for (int i = 0; i < bytes; i++)
        v |= uint32_t(uint8_t(text[at + size_t(i)])) << 8 * (little ? i : bytes - 1 - i);
    return v;
}

std::string_view part(std::string_view text, size_t at, size_t n) {
    return at > text.size() ? ""sv : text.substr(at, n);
}

// Segments FF, type, length of the rest; FF DA begins the picture.
std::string_view of_jpeg(std::string_view file) {
    for (size_t at = 2; at + 4 <= file.size() && file[at] == '\xFF';) {
        const uint8_t type = uint8_t(file[at + 1]);
        const size_t n = number(file, at + 2, 2, /*little=*/false);
        const std::string_view body = part(file, at + 4, n < 2 ? 0 : n - 2);
        if (type == 0xE1 && part(body, 0, 6) == "Exif\0\0"sv) return body.substr(6);
        if (type == 0xDA || n < 2) break;
        at += 2 + n;
    }
    return {};
}

// Chunks of a name and a length, behind `begin` bytes. around: bytes of a chunk beside these.
std::string_view of_chunks(std::string_view file, size_t begin, std::string_view wanted,
                           bool is_png) {
    for (size_t at = begin; at + 8 <= file.size();) {
        const size_t n = number(file, is_png ? at : at + 4, 4, /*little=*/!is_png);
        if (part(file, is_png ? at + 4 : at, 4) == wanted) return part(file, at + 8, n);
        at += 8 + n + (is_png ? 4 : n % 2);  // a checksum, or padding
    }
    return {};
}

std::string_view exif_of(std::string_view file) {
    if (part(file, 0, 2) == "\xFF\xD8"sv) return of_jpeg(file);
    if (part(file, 0, 8) == "\x89PNG\r\n\x1A\n"sv) return of_chunks(file, 8, "eXIf"sv, true);
    if (part(file, 0, 4) == "RIFF"sv && part(file, 8, 4) == "WEBP"sv)
        return of_chunks(file, 12, "EXIF"sv, false);
    return {};
}

}  // namespace

int exif_orientation(const std::string& file) {
    std::string_view exif = exif_of(file);
    if (part(exif, 0, 6) == "Exif\0\0"sv) exif.remove_prefix(6);
    const bool little = part(exif, 0, 2) == "II"sv;
    if (!little && part(exif, 0, 2) != "MM"sv) return 1;
    const size_t directory = number(exif, 4, 4, little), n = number(exif, directory, 2, little);
    for (size_t i = 0; i < n; i++) {
        const size_t entry = directory + 2 + 12 * i;
        if (number(exif, entry, 2, little) != 274) continue;
        const uint32_t value = number(exif, entry + 8, 2, little);
        return value >= 1 && value <= 8 ? int(value) : 1;
    }
    return 1;
}

}  // namespace pillion::run
