#include "backends/cuda/cuda_import.h"

#include <string.h>

#include <algorithm>
#include <vector>

#include "backends/cuda/cuda_queue.h"
#include "backends/cuda/kernels/matmul.h"
#include "backends/cuda/kernels/matmul_layout.h"
#include "backends/cuda/kernels/row_values.h"
#include "core/expand.h"
#include "core/parallel.h"

namespace pillion::cuda {
namespace {

// Calls f(begin, end) over ranges of rows, on up to n_threads threads.
template <class F>
void over_rows(int64_t rows, int n_threads, const F& f) {
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(n_threads, rows / 64)),
                  each = (rows + parts - 1) / parts;
    parallel_for(n_threads, size_t(parts), [&](size_t i) {
        const int64_t begin = int64_t(i) * each;
        f(begin, std::min(begin + each, rows));
    });
}

// Where a row lies in the planes of a given number of rows.
struct PlaneRows {
    size_t plane[4], row_bytes[4];
    size_t bytes() const {
        return row_bytes[0] + row_bytes[1] + row_bytes[2] + row_bytes[3];
    }  // of a row
};

PlaneRows plane_rows(const WeightSource& s, int64_t rows) {
    switch (s.use) {
        case WeightSource::Use::vector: return {{}, {size_t(s.width) * 4, 0, 0, 0}};
        case WeightSource::Use::table:
            return {{}, {row_bytes(expanded(s.dtype), s.width), 0, 0, 0}};
        default: break;
    }
    const PlaneOffsets o = plane_offsets(expanded(s.dtype), rows, s.width);
    const PlaneOffsets row = plane_row_bytes(expanded(s.dtype), s.width);
    return {{o.codes, o.extra, o.scales, o.sub}, {row.codes, row.extra, row.scales, row.sub}};
}

PackedRows rows_at(const PlaneRows& p, uint8_t* to, int64_t row) {
    const auto plane = [&](int i) { return to + p.plane[i] + size_t(row) * p.row_bytes[i]; };
    return {plane(0), plane(1), plane(2), plane(3)};
}

class Importer {
  public:
    Importer(const WeightSource& s, CudaQueue& queue)
        : s_(s), queue_(queue), rows_(s.rows * s.depth), file_row_(row_bytes(s.dtype, s.width)),
          whole_(plane_rows(s, rows_)) {}

    Result<void> run(uint8_t* host, uint8_t* device) {
        Stream* stream = nullptr;
        Staging* staging = nullptr;
        if (!host) {
            const Result<Stream*> own_stream = queue_.stream();
            if (!own_stream) return own_stream.failure();
            const Result<Staging*> own_staging = queue_.staging();
            if (!own_staging) return own_staging.failure();
            stream = *own_stream, staging = *own_staging;
        }
        const int64_t each = rows_of_slice();
        for (int64_t begin = 0, i = 0; begin < rows_; begin += each, i++) {
            const int64_t n = std::min(each, rows_ - begin);
            if (host) {
                fill(whole_, host, begin, begin, n);
            } else {
                uint8_t* slice = staging->slice(int(i % 2));
                const PlaneRows planes = plane_rows(s_, n);
                fill(planes, slice, 0, begin, n);
                // Waits for the copy of the other slice, which ran while this one was packed and is
                // packed next.
                if (const Result<void> copied = stream->wait(); !copied) return copied;
                copy(planes, slice, device, begin, n, *stream);
            }
            if (queue_.cancel.load()) {
                // The copy reads the staging memory.
                if (stream) (void)stream->wait();
                return Failure(Status::cancelled, "cancelled");
            }
            if (s_.done && !s_.row_order)
                s_.done(s_.owner, s_.data + file_row_ * size_t(begin), file_row_ * size_t(n));
        }
        if (s_.done && s_.row_order) s_.done(s_.owner, s_.data, file_row_ * size_t(rows_));
        return stream ? stream->wait() : ok();
    }

  private:
    // As many rows as fit the packed slice, with the planes' padding.
    int64_t rows_of_slice() const {
        constexpr size_t kPadding = 4 * 256;
        return std::max<int64_t>(1, int64_t((kSliceBytes - kPadding) /
                                            std::max<size_t>(1, whole_.bytes())));
    }

    // Writes rows first .. first + n - 1 of the weight as rows from `at` on of `planes`.
    void fill(const PlaneRows& planes, uint8_t* to, int64_t at, int64_t first, int64_t n) {
        const uint8_t* from = s_.data + file_row_ * size_t(first);
        if (s_.row_order) {
            ordered_.resize(file_row_ * size_t(n));
            for (int64_t r = 0; r < n; r++)
                memcpy(ordered_.data() + file_row_ * size_t(r),
                       s_.data + file_row_ * size_t(s_.row_order[first + r]), file_row_);
            from = ordered_.data();
        }
        over_rows(n, queue_.n_threads(), [&](int64_t begin, int64_t end) {
            if (!queue_.cancel.load())
                make_rows(from + file_row_ * size_t(begin), end - begin,
                          rows_at(planes, to, at + begin));
        });
    }

    void make_rows(const uint8_t* from, int64_t n, const PackedRows& to) const {
        if (is_expanded(s_.dtype)) return make_expanded(from, n, to);
        if (s_.use == WeightSource::Use::table) {
            memcpy(to.codes, from, file_row_ * size_t(n));
        } else if (s_.use == WeightSource::Use::vector) {
            for (int64_t r = 0; r < n; r++)
                row_values(s_.dtype, from + size_t(r) * file_row_, int(s_.width),
                           reinterpret_cast<float*>(to.codes) + r * s_.width);
        } else {
            repack_rows(s_.dtype, from, n, s_.width, to);
        }
    }

    // Works chunk by chunk: a thread allocates nothing, because it could not report a failure.
    void make_expanded(const uint8_t* from, int64_t n, const PackedRows& to) const {
        constexpr int64_t kTogether = 256;  // a multiple of every block
        const DType kept = expanded(s_.dtype);
        if (s_.use == WeightSource::Use::table)
            return expand_row(s_.dtype, from, n * s_.width, to.codes);
        if (s_.use == WeightSource::Use::vector)
            return read_row(s_.dtype, from, n * s_.width, reinterpret_cast<float*>(to.codes));
        const PlaneRows rows = plane_rows(s_, n);
        for (int64_t r = 0; r < n; r++) {
            for (int64_t at = 0; at < s_.width; at += kTogether) {
                uint8_t blocks[kTogether * 5 / 8];  // NVFP4_X: 20 bytes for 32
                const int64_t values = std::min<int64_t>(kTogether, s_.width - at);
                const PlaneOffsets done = plane_row_bytes(kept, at);
                const auto plane = [&](uint8_t* p, int i, size_t bytes) {
                    return p + size_t(r) * rows.row_bytes[i] + bytes;
                };
                expand_row(s_.dtype, from + file_row_ * size_t(r) + row_bytes(s_.dtype, at), values,
                           blocks);
                repack_rows(kept, blocks, 1, values,
                            {plane(to.codes, 0, done.codes), plane(to.extra, 1, done.extra),
                             plane(to.scales, 2, done.scales), plane(to.sub, 3, done.sub)});
            }
        }
    }

    void copy(const PlaneRows& planes, const uint8_t* slice, uint8_t* device, int64_t begin,
              int64_t n, Stream& stream) const {
        for (int i = 0; i < 4; i++)
            stream.copy(device + whole_.plane[i] + size_t(begin) * whole_.row_bytes[i],
                        slice + planes.plane[i], size_t(n) * planes.row_bytes[i]);
    }

    const WeightSource& s_;
    CudaQueue& queue_;
    int64_t rows_;
    size_t file_row_;
    PlaneRows whole_;
    std::vector<uint8_t> ordered_;
};

}  // namespace

bool is_weight_type(DType dtype) { return matmul_supports(expanded(dtype)); }

bool stays_in_file(const WeightSource& s) {
    return s.use == WeightSource::Use::table && s.mapped && !is_expanded(s.dtype);
}

size_t weight_size(const WeightSource& s) {
    switch (s.use) {
        case WeightSource::Use::vector: return size_t(s.width * s.rows * s.depth) * 4;
        case WeightSource::Use::table:
            return stays_in_file(s)
                       ? 0
                       : row_bytes(expanded(s.dtype), s.width) * size_t(s.rows * s.depth);
        default: return packed_bytes(expanded(s.dtype), s.rows * s.depth, s.width);
    }
}

Result<std::unique_ptr<Staging>> Staging::make(int device_index) {
    auto staging = std::make_unique<Staging>();
    for (int i = 0; i < 2; i++) {
        Result<std::unique_ptr<Memory>> locked =
            Memory::allocate(device_index, kSliceBytes, MemoryKind::mapped);
        if (locked) staging->locked_[i] = std::move(*locked);
        else if (locked.failure().code() != Status::out_of_memory) return locked.failure();
        else staging->plain_[i].reset(new uint8_t[kSliceBytes]);
    }
    return staging;
}

Result<void> import_content(const WeightSource& s, uint8_t* host, uint8_t* device,
                            CudaQueue& queue) {
    return Importer(s, queue).run(host, device);
}

}  // namespace pillion::cuda
