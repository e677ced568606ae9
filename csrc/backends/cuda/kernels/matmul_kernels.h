// The interface between the launchers of matmul.cpp and the kernels: arguments, and the functions
// that each kernel file defines.
#pragma once

#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/matmul.h"
#include "backends/cuda/kernels/matmul_device.h"

namespace pillion::cuda {

// The lists of a routing (moe_group), i32: number of tiles; three words per tile: expert, index of
// its first pair, number of pairs; then the pairs, (row * n_used + slot), sorted by expert. A tile
// has at most `tile` pairs, all of one expert.
struct MoeLists {
    int tiles_max;
    const int32_t* data;
    static constexpr int kTileWords = 3;
    __host__ __device__ const int32_t* tile(int i) const { return data + 1 + kTileWords * i; }
    __host__ __device__ const int32_t* pairs() const { return data + 1 + kTileWords * tiles_max; }
};
// Columns that a block of the matvec family multiplies at once: the last token and eight drafts.
constexpr int kMatvecColumns = 9;
// Pairs of a tile: kMatvecColumns for a few rows; else as many columns as an expert gets on
// average, so that tiles are neither many nor empty.
int moe_tile(const MoeShape& shape, int32_t rows_max);
int moe_tiles_max(const MoeShape& shape, int32_t rows_max);

// The arguments of a product. A block derives its weight rows and columns from its index
// (matmul_job.h).
struct MatmulArgs {
    Planes weight;
    int64_t rows;  // of the matrix, of one expert, or of a cluster
    int blocks;    // of 32 inputs in a row
    int64_t width;

    const int8_t* codes;  // q8 input (matmul_layout.h)
    const float2* sums;
    const float2* halves;
    int input_blocks;           // q8_blocks
    const float* x;             // f32 input
    const void* values;         // f16, bf16 input
    const float* value_scales;  // f16
    // rows_max of the input: the distance between the two terms of bf16
    int64_t input_rows;

    float* out;
    int64_t out_stride;  // floats between columns
    RowCount count;
    int columns;  // of a tile of plain products

    MoeLists lists;  // data null: not routed
    // input row of a pair: pair * pair_part >> 32; 0: the pair itself
    uint32_t pair_part;
    const int32_t* clusters;  // null: not the centroid head
    int n_clusters;
};

// The matvec family. grid x: matvec_rows(columns_max) weight rows each; y, z: as make_job defines.
// columns_max: 1 or kMatvecColumns.
template <DType T>
void matvec_quant(const MatmulArgs& a, dim3 grid, int columns_max, stream_t stream);
template <DType T>
void matvec_float(const MatmulArgs& a, dim3 grid, int columns_max, stream_t stream);
__host__ __device__ constexpr int matvec_rows(int columns_max) { return columns_max == 1 ? 8 : 16; }

// The matmul family: kTileRows weight rows by 32, 64 or 128 columns. grid x: column tiles; y: row
// tiles.
constexpr int kTileRows = 128;
template <DType T>
void matmul_quant(const MatmulArgs& a, dim3 grid, int columns, stream_t stream);
template <DType T>
void matmul_float(const MatmulArgs& a, dim3 grid, int columns, stream_t stream);

template <DType T>
void unpack(const MatmulArgs& a, const int32_t* ids, float scale, stream_t stream);

void quantize_rows(const MatmulInput& input, RowCount rows, stream_t stream);
void round_rows(const MatmulInput& input, RowCount rows, stream_t stream);  // f16, bf16
// out[c][:] *= scales[c]
void scale_rows(float* out, const float* scales, int n, int64_t width, stream_t stream);

}  // namespace pillion::cuda
