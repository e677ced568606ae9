#include "api/handles.h"
#include "gguf/gguf_join.h"

using namespace pillion;
using namespace pillion::api;

namespace {

CopyProgress reporter(pillion_progress_callback progress, void* user) {
    return [=](uint64_t done, uint64_t total) {
        return !progress || progress(done, total, user) == 0;
    };
}

}  // namespace

extern "C" {

pillion_status pillion_join(const char* part, const char* out, pillion_progress_callback progress,
                            void* user) {
    return guard(
        [&] { join_gguf(&need(part, "part"), &need(out, "out"), reporter(progress, user)); });
}

pillion_status pillion_split(const char* path, const char* prefix, uint64_t max_bytes,
                             uint64_t max_tensors, size_t* n_parts,
                             pillion_progress_callback progress, void* user) {
    return guard([&] {
        const size_t n = split_gguf(&need(path, "path"), &need(prefix, "prefix"),
                                    {max_bytes, max_tensors}, reporter(progress, user));
        if (n_parts) *n_parts = n;
    });
}

}  // extern "C"
