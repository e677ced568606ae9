// Pictures from files: PNG, JPEG, WebP, GIF and BMP, by wuffs (third_party/wuffs).
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

namespace pillion::run {

struct Image {
    int64_t height = 0, width = 0;
    std::vector<uint8_t> rgb;  // [height, width, 3]
};

// As it is to be seen: turned by its orientation tag, on white where it is transparent, the first
// frame of an animation. name: for sentences. Throws UsageError: no picture, a broken one, more
// than 64 million pixels.
Image decode_image(const std::string& bytes, const std::string& name);

}  // namespace pillion::run
