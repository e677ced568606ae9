// Chooses the kernel of a product and sets up its arguments.
#include "backends/cuda/kernels/matmul.h"

#include "backends/cuda/kernels/blas.h"
#include "backends/cuda/kernels/matmul_kernels.h"
#include "core/error.h"

namespace pillion::cuda {
namespace {

constexpr int kGridMax = 65535;  // of y and z

bool is_float(DType t) { return packed_format(t).float_bytes > 0; }

MatmulArgs weight_args(const PackedWeight& w) {
    PILLION_CHECK(matmul_supports(w.dtype) && w.width % info(w.dtype).block == 0 && w.rows > 0 &&
                  w.width > 0);
    // Kernels count blocks in 32 bits.
    PILLION_CHECK(w.depth * w.rows * (w.width / 32) < (int64_t(1) << 31));
    const PlaneOffsets o = plane_offsets(w.dtype, w.depth * w.rows, w.width);
    const uint8_t* p = static_cast<const uint8_t*>(w.data);
    MatmulArgs a = {};
    a.weight = {p + o.codes, p + o.extra, p + o.scales, p + o.sub};
    a.rows = w.rows;
    a.width = w.width;
    a.blocks = int(w.width / 32);
    return a;
}

void set_input(MatmulArgs& a, DType weight, const MatmulInput& in) {
    PILLION_CHECK(in.width == a.width);
    PILLION_CHECK(is_float(weight) ? in.kind != InputKind::q8 : in.kind == InputKind::q8);
    const uint8_t* p = static_cast<const uint8_t*>(in.prepared);
    a.x = in.x;
    a.input_rows = in.rows_max;
    a.values = p;
    if (in.kind == InputKind::f16)
        a.value_scales =
            reinterpret_cast<const float*>(p + f16_scales_offset(in.rows_max, in.width));
    if (in.kind != InputKind::q8) return;
    const Q8Offsets o = q8_offsets(in.rows_max, in.width);
    a.codes = reinterpret_cast<const int8_t*>(p + o.codes);
    a.sums = reinterpret_cast<const float2*>(p + o.sums);
    a.halves = reinterpret_cast<const float2*>(p + o.halves);
    a.input_blocks = int(q8_blocks(in.width));
}

void run_matvec(DType t, const MatmulArgs& a, int tiles, int slots, int columns, stream_t stream) {
    const int instance = columns == 1 ? 1 : kMatvecColumns;
    const int64_t blocks = (a.rows + matvec_rows(instance) - 1) / matvec_rows(instance);
    PILLION_CHECK(tiles <= kGridMax && slots <= kGridMax);
    const dim3 grid{unsigned(blocks), unsigned(tiles), unsigned(slots)};
    switch (t) {
#define PILLION_CASE(T) \
    case DType::T: return matvec_quant<DType::T>(a, grid, instance, stream);
        PILLION_CUDA_QUANT_FORMATS(PILLION_CASE)
#undef PILLION_CASE
        case DType::f32: return matvec_float<DType::f32>(a, grid, instance, stream);
        case DType::f16: return matvec_float<DType::f16>(a, grid, instance, stream);
        case DType::bf16: return matvec_float<DType::bf16>(a, grid, instance, stream);
        default: break;
    }
}

void run_matmul(DType t, const MatmulArgs& a, int tiles, int columns, stream_t stream) {
    const int64_t blocks = (a.rows + kTileRows - 1) / kTileRows;
    PILLION_CHECK(blocks <= kGridMax);
    const dim3 grid{unsigned(tiles), unsigned(blocks), 1u};
    switch (t) {
#define PILLION_CASE(T) \
    case DType::T: return matmul_quant<DType::T>(a, grid, columns, stream);
        PILLION_CUDA_QUANT_FORMATS(PILLION_CASE)
#undef PILLION_CASE
        case DType::f16: return matmul_float<DType::f16>(a, grid, columns, stream);
        case DType::bf16: return matmul_float<DType::bf16>(a, grid, columns, stream);
        default: break;
    }
}

// The widest tile that still gives every multiprocessor a block. A wide tile decodes weights once
// for more columns, but an idle multiprocessor costs more.
int tile_columns(int64_t rows, int columns_max, stream_t stream) {
    const int multiprocessors = stream ? stream->multiprocessors() : device_limits().sm_count;
    int columns = columns_max <= 32 ? 32 : columns_max <= 64 ? 64 : 128;
    const int64_t blocks = (rows + kTileRows - 1) / kTileRows;
    while (columns > 32 && blocks * ((columns_max + columns - 1) / columns) < multiprocessors)
        columns /= 2;
    return columns;
}

// Runs the prepared input through cuBLAS. False if it does not suit this product or this machine.
bool run_blas(const PackedWeight& w, const MatmulArgs& a, const MatmulInput& in, int n,
              stream_t stream) {
    const bool two_terms = in.kind == InputKind::bf16;
    if (!stream || stream->recording() || n < kBlasRows || w.depth != 1 ||
        (in.kind != InputKind::f16 && !two_terms))
        return false;
    const int64_t stride = float_stride(w.width);
    BlasProduct p = {w.dtype,  w.rows, w.width, stride,       a.weight.codes,
                     a.values, n,      a.out,   /*add=*/false};
    if (!blas_product(p, *stream)) return false;
    if (two_terms) {
        p.x = static_cast<const uint8_t*>(a.values) + size_t(in.rows_max) * size_t(stride) * 2,
        p.add = true;
        blas_product(p, *stream);
    } else {
        scale_rows(a.out, a.value_scales, n, w.rows, stream);
    }
    return true;
}

}  // namespace

InputKind input_kind(DType weight, int32_t rows_max) {
    if (!is_float(weight)) return InputKind::q8;
    if (rows_max <= kMatvecRows || weight == DType::f32) return InputKind::f32;
    return weight == DType::f16 ? InputKind::f16 : InputKind::bf16;
}

size_t input_bytes(InputKind kind, int32_t rows_max, int64_t width) {
    switch (kind) {
        case InputKind::q8: return q8_offsets(rows_max, width).end;
        case InputKind::f16:
            return f16_scales_offset(rows_max, width) + align_256(size_t(rows_max) * 4);
        case InputKind::bf16: return align_256(size_t(rows_max) * size_t(float_stride(width)) * 4);
        default: return 0;
    }
}

void prepare_input(const MatmulInput& input, RowCount rows, stream_t stream) {
    PILLION_CHECK(int64_t(rows.max) * rows.per_row == input.rows_max &&
                  (input.kind != InputKind::q8 || input.width % 32 == 0));
    PILLION_CHECK(input.rows_max <= kGridMax);
    if (input.rows_max == 0 || input.kind == InputKind::f32) return;
    if (input.kind == InputKind::q8) quantize_rows(input, rows, stream);
    else round_rows(input, rows, stream);
}

void matmul(const PackedWeight& weight, const MatmulInput& input, float* out, RowCount rows,
            stream_t stream) {
    if (rows.max == 0) return;
    MatmulArgs a = weight_args(weight);
    set_input(a, weight.dtype, input);
    a.out = out, a.out_stride = weight.rows;
    a.count = rows;
    const int n = rows.max * rows.per_row;
    const bool is_matvec = rows.max <= kMatvecRows || weight.dtype == DType::f32;
    a.columns = is_matvec ? kMatvecRows : tile_columns(weight.rows, n, stream);
    const int tiles = (n + a.columns - 1) / a.columns;
    if (is_matvec) run_matvec(weight.dtype, a, tiles, 1, n < kMatvecRows ? n : kMatvecRows, stream);
    else if (!run_blas(weight, a, input, n, stream))
        run_matmul(weight.dtype, a, tiles, a.columns, stream);
}

int moe_tile(const MoeShape& shape, int32_t rows_max) {
    if (rows_max <= kMatvecRows) return kMatvecColumns;
    const int64_t average = int64_t(rows_max) * shape.n_used / shape.n_experts;
    return average <= 32 ? 32 : average <= 64 ? 64 : 128;
}

// Most tiles of a routing. An expert's last tile may be partly filled, so each active expert adds
// at most one tile to the full ones.
int moe_tiles_max(const MoeShape& shape, int32_t rows_max) {
    const int64_t pairs = int64_t(rows_max) * shape.n_used;
    return int(pairs / moe_tile(shape, rows_max) +
               (pairs < shape.n_experts ? pairs : shape.n_experts));
}

size_t moe_lists_bytes(const MoeShape& shape, int32_t rows_max) {
    PILLION_CHECK(shape.n_experts >= 1 && shape.n_experts <= kExpertsMax);
    const size_t tiles = size_t(moe_tiles_max(shape, rows_max)) * MoeLists::kTileWords;
    return align_256((1 + tiles + size_t(rows_max) * size_t(shape.n_used)) * 4);
}

void moe_matmul(const PackedWeight& weight, const MoeShape& shape, const void* lists,
                const MatmulInput& input, float* out, RowCount rows, stream_t stream) {
    PILLION_CHECK(rows.per_row == 1 && weight.depth == shape.n_experts &&
                  (shape.per_row == 1 || shape.per_row == shape.n_used));
    if (rows.max == 0) return;
    MatmulArgs a = weight_args(weight);
    set_input(a, weight.dtype, input);
    a.out = out, a.out_stride = weight.rows;
    a.count = rows;
    a.lists = {moe_tiles_max(shape, rows.max), static_cast<const int32_t*>(lists)};
    // ceil(2^32 / n_used): the upper half of the product is the quotient for every pair < 2^32 /
    // n_used.
    const bool shared = shape.per_row == 1 && shape.n_used > 1;
    PILLION_CHECK(!shared || int64_t(rows.max) * shape.n_used * shape.n_used < int64_t(1) << 32);
    a.pair_part =
        shared
            ? uint32_t(((uint64_t(1) << 32) + uint64_t(shape.n_used) - 1) / uint64_t(shape.n_used))
            : 0;
    const int tile = moe_tile(shape, rows.max), tiles = a.lists.tiles_max;
    if (rows.max <= kMatvecRows || weight.dtype == DType::f32)
        run_matvec(weight.dtype, a, tiles, 1, tile, stream);
    else run_matmul(weight.dtype, a, tiles, tile, stream);
}

void cluster_matmul(const PackedWeight& weight, const int32_t* clusters, int32_t n_clusters,
                    int32_t cluster_rows, const MatmulInput& input, float* out, RowCount rows,
                    stream_t stream) {
    PILLION_CHECK(rows.per_row == 1 && weight.depth == 1 && weight.rows % cluster_rows == 0);
    if (rows.max == 0 || n_clusters == 0) return;
    MatmulArgs a = weight_args(weight);
    set_input(a, weight.dtype, input);
    PILLION_CHECK(input.kind == InputKind::q8 || input.kind == InputKind::f32);
    a.rows = cluster_rows;
    a.out = out, a.out_stride = int64_t(n_clusters) * cluster_rows;
    a.count = rows;
    a.clusters = clusters, a.n_clusters = n_clusters;
    run_matvec(weight.dtype, a, rows.max, n_clusters, 1, stream);
}

void unpack_rows(const PackedWeight& weight, const int32_t* ids, float scale, float* out,
                 RowCount rows, stream_t stream) {
    if (rows.max == 0) return;
    MatmulArgs a = weight_args(weight);
    a.out = out;
    a.count = rows;
    const DType t = weight.dtype;
    switch (t) {
#define PILLION_CASE(T) \
    case DType::T: return unpack<DType::T>(a, ids, scale, stream);
        PILLION_CUDA_QUANT_FORMATS(PILLION_CASE)
        PILLION_CASE(f32)
        PILLION_CASE(f16)
        PILLION_CASE(bf16)
#undef PILLION_CASE
        default: break;
    }
}

}  // namespace pillion::cuda
