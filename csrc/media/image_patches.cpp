#include "media/image_patches.h"

namespace pillion {

void write_patches(const uint8_t* rgb, int height, int width, int side, float by, float plus,
                   float* out) {
    for (int top = 0; top < height; top += side)
        for (int left = 0; left < width; left += side)
            for (int channel = 0; channel < 3; channel++)
                for (int y = 0; y < side; y++) {
                    const uint8_t* from = rgb + 3 * (int64_t(top + y) * width + left) + channel;
                    for (int x = 0; x < side; x++) *out++ = float(from[3 * x]) * by + plus;
                }
}

void write_places(int rows, int cols, int32_t first, int32_t* x, int32_t* y, int32_t* first_y) {
    for (int row = 0; row < rows; row++)
        for (int col = 0; col < cols; col++) *x++ = col, *y++ = row, *first_y++ = first + row;
}

void write_groups(const ImageGrid& grid, int pool, int32_t* out) {
    const int cols = grid.cols * pool;
    for (int row = 0; row < grid.rows; row++)
        for (int col = 0; col < grid.cols; col++)
            for (int y = 0; y < pool; y++)
                for (int x = 0; x < pool; x++) *out++ = (row * pool + y) * cols + col * pool + x;
}

}  // namespace pillion
