#include "backends/cuda/cuda_import.h"

#include <string.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include "backends/cuda/kernels/host_values.h"
#include "backends/cuda/kernels/matmul.h"

namespace pillion::cuda {
namespace {

size_t file_bytes(const WeightSource& s) { return row_bytes(s.dtype, s.width) * size_t(s.rows * s.depth); }

// f(begin, end) over stretches of rows, on up to n_threads threads. What can't get a thread is done here.
template <class F>
void over_rows(int64_t rows, int n_threads, const F& f) {
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(n_threads, rows / 64)), each = (rows + parts - 1) / parts;
    std::vector<std::thread> threads;
    int64_t begin = 0;
    for (int64_t i = 0; i + 1 < parts; i++, begin += each) {
        const int64_t from = begin, to = begin + each;
        try {
            threads.emplace_back([&f, from, to] { f(from, to); });
        } catch (const std::system_error&) {
            f(from, to);
        }
    }
    f(begin, rows);
    for (std::thread& t : threads) t.join();
}

}  // namespace

bool is_weight_type(DType dtype) { return matmul_supports(dtype); }

size_t weight_size(const WeightSource& s) {
    switch (s.use) {
        case WeightSource::Use::vector: return size_t(s.width * s.rows * s.depth) * 4;
        case WeightSource::Use::table: return s.mapped ? 0 : file_bytes(s);
        default: return packed_bytes(s.dtype, s.rows * s.depth, s.width);
    }
}

bool make_weight(const WeightSource& s, int n_threads, const std::atomic<bool>& cancel, std::vector<uint8_t>& bytes) {
    bytes.resize(weight_size(s));
    if (cancel.load()) return false;
    const size_t row = row_bytes(s.dtype, s.width);
    const int64_t rows = s.rows * s.depth;
    if (s.use == WeightSource::Use::table) {
        memcpy(bytes.data(), s.data, bytes.size());
    } else if (s.use == WeightSource::Use::vector) {
        for (int64_t r = 0; r < rows; r++)
            row_values(s.dtype, s.data + size_t(r) * row, int(s.width), reinterpret_cast<float*>(bytes.data()) + r * s.width);
    } else {
        std::vector<uint8_t> ordered;
        const uint8_t* from = s.data;
        if (s.row_order) {
            ordered.resize(row * size_t(rows));
            for (int64_t r = 0; r < rows; r++) memcpy(ordered.data() + row * size_t(r), s.data + row * size_t(s.row_order[r]), row);
            from = ordered.data();
        }
        over_rows(rows, n_threads, [&](int64_t begin, int64_t end) {
            if (!cancel.load()) repack(s.dtype, from, begin, end, rows, s.width, bytes.data());
        });
    }
    return !cancel.load();
}

}  // namespace pillion::cuda
