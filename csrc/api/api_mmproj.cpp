// Images and sound to rows of the target's width.
#include "api/handles.h"
#include "media/mmproj.h"

using namespace pillion;
using namespace pillion::api;

struct pillion_mmproj { std::unique_ptr<Mmproj> mmproj; };

extern "C" {

pillion_status pillion_mmproj_open(const char* path, int32_t n_threads, pillion_mmproj** mmproj) {
    return guard([&] {
        need(path, "path"), need(mmproj, "mmproj");
        auto handle = std::make_unique<pillion_mmproj>();
        handle->mmproj = std::make_unique<Mmproj>(path, n_threads);
        *mmproj = handle.release();
    });
}

void pillion_mmproj_free(pillion_mmproj* mmproj) { delete mmproj; }

pillion_status pillion_mmproj_json(const pillion_mmproj* mmproj, char* out, size_t capacity,
                                   size_t* needed) {
    return guard(
        [&] { write_text(need(mmproj, "mmproj").mmproj->to_json(), out, capacity, needed); });
}

pillion_status pillion_mmproj_image_grid(const pillion_mmproj* mmproj, size_t height, size_t width,
                                         int32_t n_tokens, int32_t* rows, int32_t* cols) {
    return guard([&] {
        need(mmproj, "mmproj"), need(rows, "rows"), need(cols, "cols");
        const ImageGrid grid =
            mmproj->mmproj->image_grid(int64_t(height), int64_t(width), n_tokens);
        *rows = grid.rows, *cols = grid.cols;
    });
}

pillion_status pillion_mmproj_encode_image(pillion_mmproj* mmproj, const uint8_t* rgb,
                                           size_t height, size_t width, int32_t n_tokens,
                                           float* rows, size_t capacity) {
    return guard([&] {
        need(mmproj, "mmproj"), need(rgb, "rgb"), need(rows, "rows");
        mmproj->mmproj->encode_image(rgb, int64_t(height), int64_t(width), n_tokens, rows,
                                     int64_t(capacity));
    });
}

pillion_status pillion_mmproj_audio_tokens(const pillion_mmproj* mmproj, size_t n_samples,
                                           size_t* n) {
    return guard([&] {
        need(mmproj, "mmproj"), need(n, "n");
        *n = size_t(mmproj->mmproj->audio_tokens(int64_t(n_samples)));
    });
}

pillion_status pillion_mmproj_encode_audio(pillion_mmproj* mmproj, const float* samples,
                                           size_t n_samples, float* rows, size_t capacity) {
    return guard([&] {
        need(mmproj, "mmproj"), need(samples, "samples"), need(rows, "rows");
        mmproj->mmproj->encode_audio(samples, int64_t(n_samples), rows, int64_t(capacity));
    });
}

pillion_status pillion_mmproj_cancel(pillion_mmproj* mmproj) {
    return guard([&] { need(mmproj, "mmproj").mmproj->cancel(); });
}

}  // extern "C"
