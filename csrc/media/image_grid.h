// How many soft tokens a picture becomes.
#pragma once
#include <stdint.h>

#include "media/mmproj_params.h"

namespace pillion {

struct ImageGrid {
    int rows, cols;  // of soft tokens
    int n() const { return rows * cols; }
};

// The largest grid of at most n_tokens squares that keeps the picture's proportions, rounded down;
// one row or column for a picture too narrow for that. The picture is then stretched to the grid.
// n_tokens 0: VisionParams::image_tokens. Throws invalid_argument for a size below 1, and for other
// n_tokens outside 1 .. kImageTokensMax.
ImageGrid image_grid(const VisionParams& p, int64_t height, int64_t width, int n_tokens);

}  // namespace pillion
