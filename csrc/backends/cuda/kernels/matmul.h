// Products of packed weights with activation rows: every GGUF weight format that pillion reads, one
// to many rows, routed experts, chosen clusters. All functions except those marked "host" enqueue
// on `stream` and return; pointers are device memory.
//
//     out[c][r] = sum over i of weight[r][i] * x[c][i]
//     c: row of the run, r: row of the weight; x and out f32
//
// Two families of kernels. The *maximum* of rows that a call is made for (RowCount::max) chooses
// the family, never the count at run time:
//
//     max <= kMatvecRows   "matvec": integer dot products; a weight is read once for all rows. A
//                          row's bits do not depend on how many rows run beside it, nor on `max`:
//                          plain decoding and verification agree bit for bit.
//     max > kMatvecRows    "matmul": tensor cores. A row's bits do not depend on its neighbours
//                          either, but they differ from those of the first family in the last
//                          places. F16 and BF16 weights go through cuBLAS from kBlasRows (blas.h)
//                          on if the machine has it; then a row's bits may depend on how many run.
//
// F32 weights use only the first family. The work of a call is that of the rows that run in the
// matvec family, and that of `max`, rounded up to an instance, in the matmul family. A captured
// graph should therefore not be made for many more rows than it gets.
//
// Order of use: repack() once per weight; prepare_input() once per input, for any number of weights
// that share it; matmul() for each weight.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/device/runtime.h"
#include "core/dtype.h"

namespace pillion::cuda {

constexpr int kMatvecRows = 16;

// The formats that repack() takes: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K
// IQ4_NL IQ4_XS TQ2_0, and those that core/expand.h makes of others.
bool matmul_supports(DType dtype);

// --- weights (host) ---

// Bytes of a packed [rows, width]; for experts rows is n_experts * rows of one. width: a multiple
// of the format's block. The data must be aligned to 256 bytes. matmul_layout.h defines the bytes.
size_t packed_bytes(DType dtype, int64_t rows, int64_t width);

// Packs n rows of a file (they may be unaligned) to their places in the planes. Rows are
// independent, so a caller may split a matrix over threads, or into slices whose planes are copied
// to those of the whole.
struct PackedRows {
    uint8_t *codes, *extra, *scales, *sub;  // of the first row, in host memory
};
void repack_rows(DType dtype, const void* file_rows, int64_t n, int64_t width,
                 const PackedRows& to);

// Packs rows [begin, end) of a matrix that is whole on both sides. file_rows: its first row;
// `packed`: packed_bytes().
void repack(DType dtype, const void* file_rows, int64_t begin, int64_t end, int64_t rows,
            int64_t width, void* packed);

struct PackedWeight {  // [depth, rows, width]
    DType dtype;
    int64_t depth;  // experts; 1 for a plain matrix
    int64_t rows;
    int64_t width;
    const void* data;  // device
};

// --- rows ---

// Number of rows that run: min(*count, max) * per_row. Grids are sized for max. The device reads
// count (StepState::rows or out_rows), so a captured graph stays valid. count null: max rows.
struct RowCount {
    const int32_t* count;  // device
    int32_t max;
    // input rows of a run's row: n_used for the second product of routed experts
    int32_t per_row = 1;
};

// --- inputs ---

// The form of a product's input. q8: int8 in blocks of 32. f16, bf16: for the tensor cores. f16
// rows are scaled by a power of two so that no value overflows. bf16 rows are the sum of two terms,
// which keeps enough digits.
enum class InputKind : uint8_t { f32, q8, f16, bf16 };

// The kind for a weight's format. rows_max: as RowCount::max, without per_row.
InputKind input_kind(DType weight, int32_t rows_max);

struct MatmulInput {  // f32 x[rows_max, width] and its prepared form
    InputKind kind;
    int32_t rows_max;  // RowCount::max * per_row
    int64_t width;
    const float* x;  // aligned to 16 bytes
    void* prepared;  // input_bytes(), aligned to 256; unused for f32
};

size_t input_bytes(InputKind kind, int32_t rows_max, int64_t width);
void prepare_input(const MatmulInput& input, RowCount rows, stream_t stream);

// --- products ---

// out [rows.max, weight.rows]
void matmul(const PackedWeight& weight, const MatmulInput& input, float* out, RowCount rows,
            stream_t stream);

// Routed experts: x [rows, per_row, width], ids [rows, n_used] -> out [rows, n_used, weight.rows].
// The (row, slot) pairs are sorted by expert into lists once per routing; all products of a layer
// share the lists. An id outside 0 .. n_experts - 1 gives no output.
struct MoeShape {
    int32_t n_experts;
    int32_t n_used;
    int32_t per_row;  // 1: all slots of a row share its input; n_used: each has its own
};
constexpr int kExpertsMax = 1024;

size_t moe_lists_bytes(const MoeShape& shape, int32_t rows_max);
// rows.per_row must be 1 in both calls. The input is prepared with per_row = shape.per_row.
void moe_group(const MoeShape& shape, const int32_t* ids, void* lists, RowCount rows,
               stream_t stream);
void moe_matmul(const PackedWeight& weight, const MoeShape& shape, const void* lists,
                const MatmulInput& input, float* out, RowCount rows, stream_t stream);

// The centroid head. For row c it takes the weight rows [clusters[c][k] * cluster_rows, ... +
// cluster_rows), k < n_clusters, side by side: out [rows.max, n_clusters * cluster_rows]. clusters
// [rows.max, n_clusters]. Uses the matvec family for any number of rows; the input has the kind of
// kMatvecRows.
void cluster_matmul(const PackedWeight& weight, const int32_t* clusters, int32_t n_clusters,
                    int32_t cluster_rows, const MatmulInput& input, float* out, RowCount rows,
                    stream_t stream);

// out [rows.max, width] = scale * weight[ids[c]]: embedding rows of a table that is also a head.
// Exact values of the format, then one multiplication. ids are clamped to the table.
void unpack_rows(const PackedWeight& weight, const int32_t* ids, float scale, float* out,
                 RowCount rows, stream_t stream);

}  // namespace pillion::cuda
