// Bicubic resampling of images, to the bit what Pillow's Image.resize(size, BICUBIC) gives where it
// stretches the rows first: all versions up to 12, and later ones but for pictures that lose more
// than twice as many rows as columns.
#pragma once
#include <stdint.h>

namespace pillion {

// Most pixels of a side, and of a whole image.
constexpr int64_t kImageSideMax = 1 << 20, kImagePixelsMax = 1 << 26;

// rgb: [height, width, 3]; out: [out_height, out_width, 3]. Throws invalid_argument for a size that
// is below 1 or above the limits.
void resize_bicubic(const uint8_t* rgb, int64_t height, int64_t width, int64_t out_height,
                    int64_t out_width, uint8_t* out);

}  // namespace pillion
