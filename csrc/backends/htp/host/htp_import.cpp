#include "backends/htp/host/htp_import.h"

#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "backends/htp/wire/htp_pack.h"
#include "core/expand.h"
#include "core/parallel.h"

namespace pillion::htp {
namespace {

// Of the file, for one thread; source pages are given back after 16 chunks.
constexpr size_t kChunkBytes = 1 << 20;

size_t file_row(const WeightSource& s) { return row_bytes(s.dtype, s.width); }

// Packs panels [begin, end) from rows of a file that are expanded 32 at a time into `scratch`.
void pack_expanded(const WeightSource& s, const uint8_t* from, int64_t begin, int64_t end,
                   uint8_t* scratch, uint8_t* matrix) {
    const uint32_t dtype = uint32_t(expanded(s.dtype)), width = uint32_t(s.width);
    const size_t row = row_bytes(expanded(s.dtype), s.width),
                 panel = size_t(htp_panel_bytes(dtype, width));
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * HTP_PANEL, n = std::min<int64_t>(HTP_PANEL, s.rows - first);
        for (int64_t r = 0; r < n; r++) {
            const int64_t at = s.row_order ? s.row_order[first + r] : first + r;
            expand_row(s.dtype, from + file_row(s) * size_t(at), s.width,
                       scratch + row * size_t(r));
        }
        (void)htp_pack_panels(dtype, scratch, nullptr, uint64_t(n), width, 0, 1,
                              matrix + panel * size_t(p));
    }
}

bool pack(const WeightSource& s, int n_threads, const std::atomic<bool>& cancel, uint8_t* to) {
    const uint32_t dtype = uint32_t(expanded(s.dtype)), width = uint32_t(s.width);
    const size_t row = file_row(s),
                 matrix = size_t(htp_packed_bytes(dtype, width, uint64_t(s.rows)));
    const int64_t panels = int64_t(htp_panels(uint64_t(s.rows)));
    const int64_t chunk = std::max<int64_t>(1, int64_t(kChunkBytes /
                                                       std::max<size_t>(1, row * HTP_PANEL))),
                  slice = 16 * chunk;
    const size_t scratch_bytes =
        is_expanded(s.dtype) ? HTP_PANEL * row_bytes(expanded(s.dtype), s.width) : 0;
    // of each chunk
    const std::unique_ptr<uint8_t[]> scratch(new uint8_t[16 * scratch_bytes]);
    for (int64_t d = 0; d < s.depth; d++)
        for (int64_t first = 0; first < panels; first += slice) {
            if (cancel.load()) return false;
            const int64_t last = std::min(first + slice, panels);
            const uint8_t* from = s.data + row * size_t(s.rows) * size_t(d);
            parallel_for(n_threads, size_t((last - first + chunk - 1) / chunk), [&](size_t i) {
                const int64_t begin = first + int64_t(i) * chunk,
                              end = std::min(begin + chunk, last);
                if (is_expanded(s.dtype))
                    return pack_expanded(s, from, begin, end, scratch.get() + scratch_bytes * i,
                                         to + matrix * size_t(d));
                (void)htp_pack_panels(dtype, from, s.row_order, uint64_t(s.rows), width,
                                      uint64_t(begin), uint64_t(end), to + matrix * size_t(d));
            });
            const int64_t rows = std::min(last * HTP_PANEL, s.rows) - first * HTP_PANEL;
            if (s.done && !s.row_order)
                s.done(s.owner, from + row * size_t(first * HTP_PANEL), row * size_t(rows));
        }
    return true;
}

bool expand_table(const WeightSource& s, const std::atomic<bool>& cancel, uint8_t* to) {
    const size_t from_row = file_row(s), to_row = row_bytes(expanded(s.dtype), s.width);
    const int64_t rows = s.rows * s.depth,
                  chunk = std::max<int64_t>(1, int64_t(16 * kChunkBytes /
                                                       std::max<size_t>(1, from_row)));
    for (int64_t first = 0; first < rows; first += chunk) {
        if (cancel.load()) return false;
        const int64_t n = std::min(chunk, rows - first);
        const uint8_t* from = s.data + from_row * size_t(first);
        expand_row(s.dtype, from, n * s.width, to + to_row * size_t(first));
        if (s.done) s.done(s.owner, from, from_row * size_t(n));
    }
    return true;
}

}  // namespace

size_t weight_size(const WeightSource& s) {
    const size_t rows = size_t(s.rows * s.depth);
    switch (s.use) {
        case WeightSource::Use::vector: return size_t(s.width) * rows * 4;
        case WeightSource::Use::table: return row_bytes(expanded(s.dtype), s.width) * rows;
        case WeightSource::Use::matrix: break;
    }
    return size_t(
               htp_packed_bytes(uint32_t(expanded(s.dtype)), uint32_t(s.width), uint64_t(s.rows))) *
           size_t(s.depth);
}

bool write_weight(const WeightSource& s, int n_threads, const std::atomic<bool>& cancel,
                  uint8_t* to) {
    if (cancel.load()) return false;
    switch (s.use) {
        case WeightSource::Use::vector:
            for (int64_t r = 0; r < s.rows * s.depth; r++) {
                float* row = reinterpret_cast<float*>(to) + r * s.width;
                const uint8_t* from = s.data + file_row(s) * size_t(r);
                read_row(s.dtype, from, s.width, row);
            }
            return true;
        case WeightSource::Use::table: {
            if (is_expanded(s.dtype)) return expand_table(s, cancel, to);
            // in the file's layout; its pages may be dropped as it is copied
            const size_t bytes = weight_size(s);
            for (size_t at = 0; at < bytes; at += 16 * kChunkBytes) {
                if (cancel.load()) return false;
                const size_t n = std::min(16 * kChunkBytes, bytes - at);
                memcpy(to + at, s.data + at, n);
                if (s.done) s.done(s.owner, s.data + at, n);
            }
            return true;
        }
        case WeightSource::Use::matrix: break;
    }
    return pack(s, n_threads, cancel, to);
}

}  // namespace pillion::htp
