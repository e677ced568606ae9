#include "run/decode_image.h"

#include <string.h>

#include <utility>

#include "run/exif.h"
#include "run/run_options.h"

#define WUFFS_IMPLEMENTATION
#define WUFFS_CONFIG__STATIC_FUNCTIONS
#define WUFFS_CONFIG__MODULES
#define WUFFS_CONFIG__MODULE__ADLER32
#define WUFFS_CONFIG__MODULE__AUX__BASE
#define WUFFS_CONFIG__MODULE__AUX__IMAGE
#define WUFFS_CONFIG__MODULE__BASE
#define WUFFS_CONFIG__MODULE__BMP
#define WUFFS_CONFIG__MODULE__CRC32
#define WUFFS_CONFIG__MODULE__DEFLATE
#define WUFFS_CONFIG__MODULE__GIF
#define WUFFS_CONFIG__MODULE__JPEG
#define WUFFS_CONFIG__MODULE__PNG
#define WUFFS_CONFIG__MODULE__WEBP
#define WUFFS_CONFIG__MODULE__ZLIB
#include <wuffs/wuffs.c>

namespace pillion::run {
namespace {

constexpr uint64_t kPixelsMost = 1 << 26;
constexpr uint32_t kSideMost = 1 << 20;

class Callbacks final : public wuffs_aux::DecodeImageCallbacks {
  public:
    wuffs_base__pixel_format SelectPixfmt(const wuffs_base__image_config&) override {
        return wuffs_base__make_pixel_format(WUFFS_BASE__PIXEL_FORMAT__BGRA_NONPREMUL);
    }
    AllocPixbufResult AllocPixbuf(const wuffs_base__image_config& config,
                                  bool allow_uninitialized) override {
        const uint64_t pixels = uint64_t(config.pixcfg.width()) * config.pixcfg.height();
        if (pixels > kPixelsMost)
            return AllocPixbufResult("it has " + std::to_string(pixels) + " pixels, at most " +
                                     std::to_string(kPixelsMost) + " are read");
        return DecodeImageCallbacks::AllocPixbuf(config, allow_uninitialized);
    }
};

std::string reason(const std::string& error) {
    if (error == wuffs_aux::DecodeImage_UnsupportedImageFormat)
        return "it is no PNG, JPEG, WebP, GIF or BMP file";
    if (error == wuffs_aux::DecodeImage_UnexpectedEndOfFile) return "the file ends too early";
    if (error == wuffs_webp__error__unsupported_webp_file + 1)
        return "it is a lossy WebP file, which only `pillion run` reads: save it as PNG or JPEG";
    return error.rfind("wuffs_aux::", 0) == 0 ? error.substr(error.find(": ") + 2) : error;
}

// Where the pixel at (y, x) of the upright picture lies in the stored one.
std::pair<size_t, size_t> stored_at(int orientation, size_t y, size_t x, size_t height,
                                    size_t width) {
    switch (orientation) {  // height, width: of the stored picture
        case 2: return {y, width - 1 - x};
        case 3: return {height - 1 - y, width - 1 - x};
        case 4: return {height - 1 - y, x};
        case 5: return {x, y};
        case 6: return {height - 1 - x, y};
        case 7: return {height - 1 - x, width - 1 - y};
        case 8: return {x, width - 1 - y};
        default: return {y, x};
    }
}

// The color over white, rounded.
uint8_t on_white(uint8_t color, uint8_t alpha) {
    return uint8_t((color * alpha + 255 * (255 - alpha) + 127) / 255);
}

}  // namespace

Image decode_image(const std::string& bytes, const std::string& name) {
    Callbacks callbacks;
    wuffs_aux::sync_io::MemoryInput input(bytes.data(), bytes.size());
    const wuffs_aux::DecodeImageResult decoded =
        wuffs_aux::DecodeImage(callbacks, input, wuffs_aux::DecodeImageArgQuirks::DefaultValue(),
                               wuffs_aux::DecodeImageArgFlags::DefaultValue(),
                               wuffs_aux::DecodeImageArgPixelBlend::DefaultValue(),
                               wuffs_aux::DecodeImageArgBackgroundColor::DefaultValue(),
                               wuffs_aux::DecodeImageArgMaxInclDimension(kSideMost));
    if (!decoded.error_message.empty())
        throw UsageError("the picture " + name +
                         " can't be read: " + reason(decoded.error_message));
    wuffs_base__pixel_buffer pixels = decoded.pixbuf;
    const wuffs_base__table_u8 plane = pixels.plane(0);
    const size_t height = pixels.pixcfg.height(), width = pixels.pixcfg.width();
    const int orientation = exif_orientation(bytes);
    const bool is_turned = orientation >= 5;
    Image image;
    image.height = int64_t(is_turned ? width : height);
    image.width = int64_t(is_turned ? height : width);
    image.rgb.resize(3 * height * width);
    uint8_t* to = image.rgb.data();
    for (size_t y = 0; y < size_t(image.height); y++)
        for (size_t x = 0; x < size_t(image.width); x++, to += 3) {
            const auto at = stored_at(orientation, y, x, height, width);
            const uint8_t* bgra = plane.ptr + at.first * plane.stride + 4 * at.second;
            for (int c = 0; c < 3; c++) to[c] = on_white(bgra[2 - c], bgra[3]);
        }
    return image;
}

}  // namespace pillion::run
