#include "api/handles.h"
#include "media/log_mel.h"
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

pillion_status pillion_log_mel(const float* samples, size_t n_samples, float* out, size_t capacity,
                               size_t* needed) {
    return guard([&] {
        if (n_samples > 0) check_samples(&need(samples, "samples"), int64_t(n_samples));
        const int64_t frames = log_mel_frames(int64_t(n_samples));
        const size_t floats = size_t(frames) * kMelBands;
        if (needed) *needed = floats;
        if (floats == 0) return;
        if (floats > capacity)
            fail(Status::buffer_too_small, "%zu samples give %zu floats, the buffer has %zu",
                 n_samples, floats, capacity);
        log_mel(samples, int64_t(n_samples), 0, frames, &need(out, "out"));
    });
}

}  // extern "C"
