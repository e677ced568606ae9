// The runner of tests/cuda/test_cuda_matmul.py: runs jobs from a file through the kernels of
// backends/cuda/kernels/matmul.h, in the emulation (or, built by nvcc, on a GPU). `runner IN OUT`.
//
// IN: jobs one after the other, each i32 header[12], then its blobs, each i64 bytes and the bytes.
// OUT: for each job i64 bytes and the bytes of its result. Memory that no kernel writes is 0xFF.
//
//     header    op, dtype, rows, width, depth, rows_max, count (-1: no count on the device),
//               then p[0..4]
//     matmul    p: per_row
//               blobs: weight rows, x
//               out [rows_max * per_row, rows]
//     moe       p: n_used, per_row
//               blobs: weight rows, x, ids
//               out [rows_max, n_used, rows]
//     clusters  p: n_clusters, cluster_rows
//               blobs: weight rows, x, clusters
//               out [rows_max, n_clusters * cluster_rows]
//     unpack    blobs: weight rows, scale (one value), ids
//               out [rows_max, width]
//     prepare   p: kind; dtype is unused
//               blobs: an empty one, x
//               out: the prepared bytes
#include <stdio.h>
#include <string.h>

#include <exception>
#include <memory>
#include <vector>

#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/matmul.h"

using namespace pillion;
using namespace pillion::cuda;

namespace {

using Bytes = std::vector<uint8_t>;
using Device = cuda::Buffer<uint8_t>;

struct Job {
    int32_t op, dtype, rows, width, depth, rows_max, count, p[5];
    Bytes blob[3];
    DType type() const { return DType(uint32_t(dtype)); }
};

Bytes result(Device& d) { return d.host(); }
template <class T>
T* as(Device& d) {
    return reinterpret_cast<T*>(d.get());
}
Device zeroed(size_t n) { return Device(Bytes(n, 0xFF)); }

// Packed in two ranges, as two threads would.
Bytes packed(const Job& j) {
    const int64_t rows = int64_t(j.depth) * j.rows, middle = rows / 2;
    Bytes out(packed_bytes(j.type(), rows, j.width), 0xFF);
    repack(j.type(), j.blob[0].data(), middle, rows, rows, j.width, out.data());
    repack(j.type(), j.blob[0].data(), 0, middle, rows, j.width, out.data());
    return out;
}

struct Input {
    Device x, prepared;
    MatmulInput in;
    Input(const Job& j, InputKind kind, RowCount rows)
        : x(j.blob[1]), prepared(zeroed(input_bytes(kind, rows.max * rows.per_row, j.width))) {
        in = {kind, rows.max * rows.per_row, j.width, as<const float>(x), prepared.get()};
        prepare_input(in, rows, nullptr);
    }
};

Bytes run(const Job& j) {
    Device count(Bytes(reinterpret_cast<const uint8_t*>(&j.count),
                       reinterpret_cast<const uint8_t*>(&j.count) + 4));
    RowCount rows = {j.count < 0 ? nullptr : as<const int32_t>(count), j.rows_max, 1};
    if (j.op == 4) {
        Input input(j, InputKind(j.p[0]), rows);
        return result(input.prepared);
    }
    Device data(packed(j)), third(j.blob[2]);
    const PackedWeight weight = {j.type(), j.depth, j.rows, j.width, data.get()};
    if (j.op == 0) {
        rows.per_row = j.p[0];
        Input input(j, input_kind(j.type(), j.rows_max), rows);
        Device out = zeroed(size_t(j.rows_max) * size_t(rows.per_row) * size_t(j.rows) * 4);
        matmul(weight, input.in, as<float>(out), rows, nullptr);
        return result(out);
    }
    if (j.op == 1) {
        const MoeShape shape = {j.depth, j.p[0], j.p[1]};
        Input input(j, input_kind(j.type(), j.rows_max), {rows.count, rows.max, shape.per_row});
        Device lists = zeroed(moe_lists_bytes(shape, j.rows_max));
        Device out = zeroed(size_t(j.rows_max) * size_t(shape.n_used) * size_t(j.rows) * 4);
        moe_group(shape, as<const int32_t>(third), lists.get(), rows, nullptr);
        moe_matmul(weight, shape, lists.get(), input.in, as<float>(out), rows, nullptr);
        return result(out);
    }
    if (j.op == 2) {
        Input input(j, input_kind(j.type(), 1), rows);
        Device out = zeroed(size_t(j.rows_max) * size_t(j.p[0]) * size_t(j.p[1]) * 4);
        cluster_matmul(weight, as<const int32_t>(third), j.p[0], j.p[1], input.in, as<float>(out),
                       rows, nullptr);
        return result(out);
    }
    float scale;
    memcpy(&scale, j.blob[1].data(), 4);
    Device out = zeroed(size_t(j.rows_max) * size_t(j.width) * 4);
    unpack_rows(weight, as<const int32_t>(third), scale, as<float>(out), rows, nullptr);
    return result(out);
}

bool read(FILE* f, void* to, size_t n) { return fread(to, 1, n, f) == n; }

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::unique_ptr<FILE, int (*)(FILE*)> in(fopen(argv[1], "rb"), fclose),
        out(fopen(argv[2], "wb"), fclose);
    if (!in || !out) return 2;
    Job j;
    int number = 0;
    try {
        for (; read(in.get(), &j, offsetof(Job, blob)); number++) {
            for (Bytes& b : j.blob) {
                int64_t n = 0;
                if (!read(in.get(), &n, 8)) return 2;
                b.resize(size_t(n));
                if (!read(in.get(), b.data(), b.size())) return 2;
            }
            const Bytes r = run(j);
            const int64_t n = int64_t(r.size());
            if (fwrite(&n, 1, 8, out.get()) != 8 ||
                fwrite(r.data(), 1, r.size(), out.get()) != r.size())
                return 2;
        }
    } catch (const std::exception& e) {
        fprintf(stderr, "job %d: %s\n", number, e.what());
        return 1;
    }
    return 0;
}
