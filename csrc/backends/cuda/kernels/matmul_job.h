// The work of one block of a product: rows of a matrix, and columns. Plain, routed to experts, or
// chosen clusters.
#pragma once

#include "backends/cuda/kernels/matmul_kernels.h"

namespace pillion::cuda {

struct Job {
    size_t weight_row;   // first row of the matrix among all rows of the planes
    int begin, columns;  // columns 0: nothing to do
    // null: column i is row begin + i of input and output
    const int32_t* pairs;
    uint32_t pair_part;  // MatmulArgs
    float* out;

    // At most kMatvecColumns; up to twice that (a run of a few rows) in two equal parts. The code
    // divides by no variable: the compiler makes a call of it, and the caller's registers then go
    // through memory.
    __device__ __forceinline__ int columns_at_once() const {
        return columns > kMatvecColumns && columns <= 2 * kMatvecColumns ? (columns + 1) / 2
                                                                         : kMatvecColumns;
    }
    __device__ __forceinline__ int out_row(int i) const {
        return pairs ? pairs[begin + i] : begin + i;
    }
    __device__ __forceinline__ int input_row(int i) const {
        if (!pairs) return begin + i;
        return pair_part ? int(uint64_t(uint32_t(pairs[begin + i])) * pair_part >> 32)
                         : pairs[begin + i];
    }
};

// tile: index of the column tile (plain, routed) or the row (clusters); slot: number of the
// cluster.
static __device__ __forceinline__ Job make_job(const MatmulArgs& a, int tile, int slot) {
    Job job = {0, 0, 0, nullptr, 0, a.out};
    const int n = rows_now(a.count.count, a.count.max, a.count.per_row);
    if (a.lists.data) {
        if (tile >= a.lists.data[0]) return job;
        const int32_t* t = a.lists.tile(tile);
        job.weight_row = size_t(t[0]) * size_t(a.rows);
        job.begin = t[1], job.columns = t[2];
        job.pairs = a.lists.pairs(), job.pair_part = a.pair_part;
    } else if (a.clusters) {
        if (tile >= n) return job;
        job.weight_row = size_t(a.clusters[size_t(tile) * a.n_clusters + slot]) * size_t(a.rows);
        job.begin = tile, job.columns = 1;
        job.out += size_t(slot) * size_t(a.rows);
    } else {
        job.begin = tile * a.columns;
        job.columns = max(0, min(a.columns, n - job.begin));
    }
    return job;
}

}  // namespace pillion::cuda
