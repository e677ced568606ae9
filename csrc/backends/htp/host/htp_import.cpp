#include "backends/htp/host/htp_import.h"

#include <string.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

#include "backends/htp/wire/htp_pack.h"

namespace pillion::htp {
namespace {

constexpr size_t kPieceBytes = 1 << 20;    // of the file, for a thread; source pages are given back after 16 of them

size_t file_row(const WeightSource& s) { return row_bytes(s.dtype, s.width); }

// task(0) .. task(n - 1) on up to n_threads threads, in any order.
template <class F>
void parallel_for(int64_t n, int n_threads, const F& task) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t i; (i = next++) < n;) task(i);
    };
    std::vector<std::thread> threads;
    try {
        for (int64_t t = 1; t < std::min<int64_t>(n, n_threads); t++) threads.emplace_back(work);
    } catch (const std::system_error&) {    // the system gives no more: those there are do it
    }
    work();
    for (std::thread& t : threads) t.join();
}

bool pack(const WeightSource& s, int n_threads, const std::atomic<bool>& cancel, uint8_t* to) {
    const uint32_t dtype = uint32_t(s.dtype), width = uint32_t(s.width);
    const size_t row = file_row(s), matrix = size_t(htp_packed_bytes(dtype, width, uint64_t(s.rows)));
    const int64_t panels = int64_t(htp_panels(uint64_t(s.rows)));
    const int64_t piece = std::max<int64_t>(1, int64_t(kPieceBytes / std::max<size_t>(1, row * HTP_PANEL))), slice = 16 * piece;
    for (int64_t d = 0; d < s.depth; d++)
        for (int64_t first = 0; first < panels; first += slice) {
            if (cancel.load()) return false;
            const int64_t last = std::min(first + slice, panels);
            const uint8_t* from = s.data + row * size_t(s.rows) * size_t(d);
            parallel_for((last - first + piece - 1) / piece, n_threads, [&](int64_t i) {
                const int64_t begin = first + i * piece, end = std::min(begin + piece, last);
                (void)htp_pack_panels(dtype, from, s.row_order, uint64_t(s.rows), width, uint64_t(begin), uint64_t(end), to + matrix * size_t(d));
            });
            const int64_t rows = std::min(last * HTP_PANEL, s.rows) - first * HTP_PANEL;
            if (s.done && !s.row_order) s.done(s.owner, from + row * size_t(first * HTP_PANEL), row * size_t(rows));
        }
    return true;
}

}  // namespace

size_t weight_size(const WeightSource& s) {
    const size_t rows = size_t(s.rows * s.depth);
    switch (s.use) {
        case WeightSource::Use::vector: return size_t(s.width) * rows * 4;
        case WeightSource::Use::table: return file_row(s) * rows;
        case WeightSource::Use::matrix: break;
    }
    return size_t(htp_packed_bytes(uint32_t(s.dtype), uint32_t(s.width), uint64_t(s.rows))) * size_t(s.depth);
}

bool write_weight(const WeightSource& s, int n_threads, const std::atomic<bool>& cancel, uint8_t* to) {
    if (cancel.load()) return false;
    switch (s.use) {
        case WeightSource::Use::vector:
            for (int64_t r = 0; r < s.rows * s.depth; r++) {
                float* row = reinterpret_cast<float*>(to) + r * s.width;
                (void)htp_dequantize_row(uint32_t(s.dtype), s.data + file_row(s) * size_t(r), uint32_t(s.width), row);
            }
            return true;
        case WeightSource::Use::table: {
            const size_t bytes = weight_size(s);    // as in the file, which may go as it is copied
            for (size_t at = 0; at < bytes; at += 16 * kPieceBytes) {
                if (cancel.load()) return false;
                const size_t n = std::min(16 * kPieceBytes, bytes - at);
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
