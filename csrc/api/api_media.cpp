#include "api/handles.h"
#include "media/resize.h"

using namespace pillion;
using namespace pillion::api;

extern "C" {

pillion_status pillion_resize_image(const uint8_t* rgb, int64_t height, int64_t width,
                                    int64_t out_height, int64_t out_width, uint8_t* out_rgb) {
    return guard([&] {
        resize_bicubic(&need(rgb, "rgb"), height, width, out_height, out_width,
                       &need(out_rgb, "out_rgb"));
    });
}

}  // extern "C"
