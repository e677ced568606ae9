// From the bytes of a picture to what a vision tower reads: values of patches, their places, and
// which of them become one soft token.
#pragma once
#include <stdint.h>

#include "media/image_grid.h"

namespace pillion {

// Patches of `side` pixels, row by row. out: [patches, 3 * side * side], each patch channel by
// channel, rows in it, columns in those: value * by + plus of each byte. height, width: multiples
// of side.
void write_patches(const uint8_t* rgb, int height, int width, int side, float by, float plus,
                   float* out);

// The column and the row of each patch of a grid, and `first` + the row.
void write_places(int rows, int cols, int32_t first, int32_t* x, int32_t* y, int32_t* first_y);

// [grid.n(), pool * pool]: the patches of each soft token.
void write_groups(const ImageGrid& grid, int pool, int32_t* out);

}  // namespace pillion
