#include "media/image_grid.h"

#include <math.h>

#include <algorithm>

#include "core/error.h"

namespace pillion {

ImageGrid image_grid(const VisionParams& p, int64_t height, int64_t width, int n_tokens) {
    if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX)
        fail(Status::invalid_argument, "an image of %ld x %ld pixels, each side must be 1 or more",
             long(height), long(width));
    if (n_tokens == 0) n_tokens = p.image_tokens;
    if (n_tokens < 1 || n_tokens > kImageTokensMax)
        fail(Status::invalid_argument, "%d tokens for an image, allowed are 1 to %d", n_tokens,
             kImageTokensMax);
    // In the order of the reference's operations, in double: another order rounds some sizes to
    // another grid.
    const double unit = p.unit();
    const double f = sqrt(n_tokens * unit * unit / (double(height) * double(width)));
    const int rows = int(floor(f * double(height) / unit)),
              cols = int(floor(f * double(width) / unit));
    if (rows == 0) return {1, std::max(1, int(std::min<int64_t>(width / height, n_tokens)))};
    if (cols == 0) return {std::max(1, int(std::min<int64_t>(height / width, n_tokens))), 1};
    return {rows, cols};
}

}  // namespace pillion
