// Many rows, quantized weights: int8 tensor-core tiles of 128 weight rows by kColumns columns.
// Eight warps, four along the rows and two along the columns; a warp owns 32 rows by kColumns / 2
// columns.
//
// Weights are staged in packed form and decoded on the way into fragments. Lane (g, t) of a warp
// needs words t and t + 4 of row g, which decode_words makes from one word. Asynchronous copies
// bring bytes to shared memory, one stage ahead. Data too narrow for them (scales, single bits)
// goes through registers and is stored after the stage's products, decoded once for all warps.
//
// A sum runs over the blocks in order, with the operations of the matvec family on each block; it
// does not depend on the tile.
#pragma once

#include "backends/cuda/kernels/matmul_job.h"

namespace pillion::cuda {

constexpr int kMatmulThreads = 256, kStageBlocks = 2;

// Shared memory of a stage, in bytes. The distance between blocks exceeds their length by 64 bytes
// for weights and by 32 bytes for activations, so that copies of neighbouring pieces go to
// different banks. On reading, 8 rows of 16 bytes fill all banks once.
template <DType T, int kColumns>
struct QuantStage {
    static constexpr Codes kCodes = packed_format(T).codes;
    static constexpr Scales kScales = packed_format(T).scales;
    static constexpr int kFactors = n_scales(kScales) + n_lows(kScales);
    static constexpr bool kBits = extra_bytes(kCodes) == 4;
    static constexpr bool kWideExtra = extra_bytes(kCodes) >= 8;
    static constexpr int kBlock = 16 * kTileRows + 64;  // of 16 bytes a row
    static constexpr int kPlane16 = kStageBlocks * kBlock;
    // of 8 bytes a block: both blocks of a row side by side
    static constexpr int kPlane8 = 16 * kTileRows;
    static constexpr int kInput = 16 * kColumns + 32;  // half blocks of all columns

    static constexpr int codes = 0;
    static constexpr int extra = codes + (code_bytes(kCodes) == 16 ? kPlane16 : kPlane8);
    static constexpr int input = extra + (extra_bytes(kCodes) == 16  ? kPlane16
                                          : extra_bytes(kCodes) == 8 ? kPlane8
                                          : kBits                    ? 4 * kStageBlocks * kTileRows
                                                                     : 0);
    static constexpr int sums = input + 2 * kStageBlocks * kInput;
    static constexpr int halves = sums + 8 * kStageBlocks * kColumns;
    static constexpr int factors =
        halves + (n_lows(kScales) == 2 ? 8 * kStageBlocks * kColumns : 0);
    static constexpr int bytes = factors + 4 * kFactors * kStageBlocks * kTileRows;
};

// A thread's part in filling a stage.
template <DType T, int kColumns>
struct QuantLoader {
    using S = QuantStage<T, kColumns>;
    static constexpr Codes kCodes = S::kCodes;
    // threads that copy a column's four pieces: half, block
    static constexpr int kPerColumn = kMatmulThreads / kColumns;

    __device__ explicit QuantLoader(const MatmulArgs& args) : a(args), tid(int(threadIdx.x)) {}
    // False without columns. Rows and columns past the end repeat the last one.
    __device__ __forceinline__ bool begin(const Job& job, int row0) {
        if (job.columns == 0) return false;
        weight = (unsigned(job.weight_row) + unsigned(min(row0 + tid / 2, int(a.rows) - 1))) *
                 unsigned(a.blocks);
        input = job.input_row(min(tid / kPerColumn, job.columns - 1)) * a.input_blocks;
        return true;
    }

    // Starts the copies of blocks first and first + 1, and loads the data that goes through
    // registers.
    __device__ __forceinline__ void start(smem<unsigned char> stage, int first) {
        const int own = first + tid % 2;
        const size_t block = weight + unsigned(min(own, a.blocks - 1)),
                     pair = weight + unsigned(first);
        const int row = tid / 2, half = tid % 2;
        if constexpr (code_bytes(kCodes) == 16)
            cp_async16(stage + (S::codes + half * S::kBlock + row * 16),
                       a.weight.codes + block * 16);
        else if (half == 0) cp_async16(stage + (S::codes + row * 16), a.weight.codes + pair * 8);
        if constexpr (extra_bytes(kCodes) == 16)
            cp_async16(stage + (S::extra + half * S::kBlock + row * 16),
                       a.weight.extra + block * 16);
        else if constexpr (extra_bytes(kCodes) == 8) {
            if (half == 0) cp_async16(stage + (S::extra + row * 16), a.weight.extra + pair * 8);
        }
        const int column = tid / kPerColumn, own_piece = tid % kPerColumn;
        PILLION_UNROLL
        for (int piece = own_piece; piece < 4; piece += kPerColumn) {
            const size_t at = size_t(2 * input + piece % 2 * a.input_blocks + first + piece / 2);
            cp_async16(stage + (S::input + (piece % 2 * 2 + piece / 2) * S::kInput + column * 16),
                       a.codes + at * 16);
        }
        if (own_piece == 0)
            cp_async16(stage + (S::sums + column * 16), a.sums + size_t(input + first));
        if constexpr (n_lows(S::kScales) == 2) {
            if (own_piece == 1)
                cp_async16(stage + (S::halves + column * 16), a.halves + size_t(input + first));
        }
        cp_async_commit();
        load_scales<S::kScales>(raw, a.weight, block);
        if constexpr (S::kBits) load_words<4>(a.weight.extra + block * 4, &bits);
    }

    // Stores the data that went through registers. The odd block of a row counts as zero, because
    // its scales are zero.
    __device__ __forceinline__ void finish(smem<unsigned char> stage, int first) const {
        const int own = first + tid % 2;
        const bool past = own >= a.blocks;
        BlockScales<S::kScales> s;
        decode_scales<S::kScales, code_factor(kCodes)>(raw, own & 7, s);
        const smem<float> factors = shared_cast<float>(stage + S::factors);
        const int at = (tid % 2) * kTileRows + tid / 2;
        constexpr int kPlane = kStageBlocks * kTileRows;
        PILLION_UNROLL
        for (int i = 0; i < n_scales(S::kScales); i++)
            factors[i * kPlane + at] = past ? 0.0f : s.scale[i];
        PILLION_UNROLL
        for (int i = 0; i < n_lows(S::kScales); i++)
            factors[(n_scales(S::kScales) + i) * kPlane + at] = past ? 0.0f : s.low[i];
        if constexpr (S::kBits) shared_cast<uint32_t>(stage + S::extra)[at] = bits;
    }

    const MatmulArgs& a;
    int tid;
    unsigned weight;  // first block of the thread's row
    int input;        // first block of its column
    RawScales raw;
    uint32_t bits = 0;
};

template <DType T, int kColumns>
struct QuantTile {
    using S = QuantStage<T, kColumns>;
    static constexpr int kTilesN = kColumns / 16;  // of 8 columns a warp
    static constexpr int kNScales = n_scales(S::kScales), kNLows = n_lows(S::kScales);

    float sum[2][kTilesN][4];

    __device__ __forceinline__ void clear() {
        PILLION_UNROLL
        for (int m = 0; m < 2; m++) {
            PILLION_UNROLL
            for (int n = 0; n < kTilesN; n++) {
                PILLION_UNROLL
                for (int i = 0; i < 4; i++) sum[m][n][i] = 0.0f;
            }
        }
    }

    // Loads this lane's weight words of a row.
    static __device__ __forceinline__ void load_row(const smem<unsigned char>& stage, int block,
                                                    int row, uint32_t& low, uint32_t& high) {
        const int t = lane_id() & 3;
        const smem<const uint32_t> codes = shared_cast<const uint32_t>(stage + S::codes);
        const smem<const uint32_t> extra = shared_cast<const uint32_t>(stage + S::extra);
        const uint32_t code =
            codes[code_bytes(S::kCodes) == 16 ? block * (S::kBlock / 4) + row * 4 + t
                                              : row * 4 + block * 2 + (t & 1)];
        uint32_t more = 0;
        if constexpr (extra_bytes(S::kCodes) == 16)
            more = extra[block * (S::kBlock / 4) + row * 4 + t];
        if constexpr (extra_bytes(S::kCodes) == 8) more = extra[row * 4 + block * 2 + (t & 1)];
        if constexpr (S::kBits) more = extra[block * kTileRows + row];
        decode_words<S::kCodes>(code, more, t, low, high);
    }

    // Multiplies one block of 32 inputs.
    __device__ __forceinline__ void multiply(const smem<unsigned char>& stage, int block, int row0,
                                             int column0) {
        const int g = lane_id() >> 2, t = lane_id() & 3;
        const smem<const float> factors =
            shared_cast<const float>(stage + S::factors) + block * kTileRows;
        FragA weight[2];
        float scale[2][2][kNScales], low[2][2][kNLows ? kNLows : 1];  // [m][row g or g + 8]
        PILLION_UNROLL
        for (int m = 0; m < 2; m++) {
            PILLION_UNROLL
            for (int h = 0; h < 2; h++) {
                const int row = row0 + 16 * m + 8 * h + g;
                load_row(stage, block, row, weight[m].x[h], weight[m].x[h + 2]);
                PILLION_UNROLL
                for (int i = 0; i < kNScales; i++)
                    scale[m][h][i] = factors[i * kStageBlocks * kTileRows + row];
                PILLION_UNROLL
                for (int i = 0; i < kNLows; i++)
                    low[m][h][i] = factors[(kNScales + i) * kStageBlocks * kTileRows + row];
            }
        }
        const smem<const uint32_t> lows =
            shared_cast<const uint32_t>(stage + (S::input + block * S::kInput));
        const smem<const uint32_t> highs =
            shared_cast<const uint32_t>(stage + (S::input + (2 + block) * S::kInput));
        const smem<const float2> sums = shared_cast<const float2>(stage + S::sums),
                                 halves = shared_cast<const float2>(stage + S::halves);
        PILLION_UNROLL
        for (int n = 0; n < kTilesN; n++) {
            const int column = column0 + 8 * n, pair = column + 2 * t;
            const FragB x = {{lows[(column + g) * 4 + t], highs[(column + g) * 4 + t]}};
            const float2 s[2] = {sums[pair * kStageBlocks + block],
                                 sums[(pair + 1) * kStageBlocks + block]};
            float2 h[2] = {};
            if constexpr (kNLows == 2)
                h[0] = halves[pair * kStageBlocks + block],
                h[1] = halves[(pair + 1) * kStageBlocks + block];
            PILLION_UNROLL
            for (int m = 0; m < 2; m++) {
                FragI first = {{kSumStart, kSumStart, kSumStart, kSumStart}}, second = first;
                if constexpr (kNScales == 1) {
                    mma_s8(second, weight[m], x);
                } else {
                    mma_s8_16(first, weight[m].x[0], weight[m].x[1], x.x[0]);
                    mma_s8_16(second, weight[m].x[2], weight[m].x[3], x.x[1]);
                }
                PILLION_UNROLL
                for (int i = 0; i < 4; i++)
                    add(sum[m][n][i], first.x[i], second.x[i], scale[m][i >> 1], low[m][i >> 1],
                        s[i & 1], h[i & 1]);
            }
        }
    }

    static __device__ __forceinline__ void add(float& to, int first, int second,
                                               const float (&scale)[kNScales],
                                               const float (&low)[kNLows ? kNLows : 1],
                                               const float2& s, const float2& h) {
        if constexpr (kNScales == 1) to = fma_rn(mul_rn(sum_value(second), s.x), scale[0], to);
        else
            to = fma_rn(fma_rn(sum_value(second), scale[1], mul_rn(sum_value(first), scale[0])),
                        s.x, to);
        if constexpr (kNLows == 1) to = fma_rn(-low[0], s.y, to);
        if constexpr (kNLows == 2) to = fma_rn(-low[1], h.y, fma_rn(-low[0], h.x, to));
    }
};

template <DType T, int kColumns>
static __global__ void __launch_bounds__(kMatmulThreads, 2) matmul_quant_kernel(MatmulArgs a) {
    using S = QuantStage<T, kColumns>;
    PILLION_DYNAMIC_SHARED(unsigned char, shared);
    const int row0 = int(blockIdx.y) * kTileRows, warp = int(threadIdx.x) / 32;
    const int warp_row = warp / 2 * 32, warp_column = warp % 2 * (kColumns / 2);
    QuantLoader<T, kColumns> loader(a);
    if (!loader.begin(make_job(a, int(blockIdx.x), 0), row0)) return;
    QuantTile<T, kColumns> tile;
    tile.clear();
    loader.start(shared, 0);
    loader.finish(shared, 0);
    int at = 0;  // the stage to multiply
    for (int block = 0; block < a.blocks; block += kStageBlocks) {
        const smem<unsigned char> stage = shared + at * S::bytes,
                                  other = shared + (S::bytes - at * S::bytes);
        cp_async_wait<0>();
        __syncthreads();  // the stage is complete, and the other one is read
        const bool more = block + kStageBlocks < a.blocks;
        if (more) loader.start(other, block + kStageBlocks);
        PILLION_NO_UNROLL
        for (int b = 0; b < kStageBlocks; b++) tile.multiply(stage, b, warp_row, warp_column);
        if (more) loader.finish(other, block + kStageBlocks);
        at ^= 1;
    }
    // Made again: registers are scarce in the loop.
    const Job job = make_job(a, int(blockIdx.x), 0);
    PILLION_UNROLL
    for (int n = 0; n < kColumns / 16; n++) {
        PILLION_UNROLL
        for (int i = 0; i < 2; i++) {
            const int column = warp_column + 8 * n + frag_c_col(i);
            if (column >= job.columns) continue;
            float* out = job.out + size_t(job.out_row(column)) * size_t(a.out_stride);
            PILLION_UNROLL
            for (int m = 0; m < 4; m++) {
                const int row = row0 + warp_row + 16 * (m / 2) + frag_c_row(2 * (m & 1));
                if (row < a.rows) out[row] = tile.sum[m / 2][n][2 * (m & 1) + i];
            }
        }
    }
}

template <DType T>
void matmul_quant(const MatmulArgs& a, dim3 grid, int columns, stream_t stream) {
    const dim3 block(kMatmulThreads);
    if (columns == 32)
        PILLION_LAUNCH((matmul_quant_kernel<T, 32>), grid, block, 2 * QuantStage<T, 32>::bytes,
                       stream, a);
    else if (columns == 64)
        PILLION_LAUNCH((matmul_quant_kernel<T, 64>), grid, block, 2 * QuantStage<T, 64>::bytes,
                       stream, a);
    else
        PILLION_LAUNCH((matmul_quant_kernel<T, 128>), grid, block, 2 * QuantStage<T, 128>::bytes,
                       stream, a);
}

}  // namespace pillion::cuda
