// Flash attention on tensor cores for many rows: prefill.
//
// Block: one KV head, 16 * MT query vectors of a segment, all positions they see. For each tile of
// 32 positions:
//   S = Q K^T by matrix products   ->  shared memory, masked
//   P = softmax update of S        ->  shared memory, half
//   O = diag(factor) O + P V       ->  registers
// If K and V share a buffer, more query vectors fit, but loading V cannot overlap computing S.
#include "backends/cuda/kernels/attention_common.h"

namespace pillion::cuda {
namespace {

constexpr int kKeys = 32;  // positions of a tile

__host__ __device__ constexpr int tile_warps(int rows) { return rows == 16 ? 4 : 8; }
// Blocks that a multiprocessor's registers hold. Left to itself the compiler goes for one more in
// some instances, and spills.
__host__ __device__ constexpr int tile_residents(int d, int rows) {
    if (d == 512 && rows == 64) return 1;
    if (d > 128 || (d % 64 && rows == 64)) return 2;
    return d > 64 ? 3 : 4;
}
__host__ __device__ constexpr bool tile_shares_kv(int d, int rows) { return d == 512 && rows > 16; }

// Byte offsets into dynamic shared memory. Leading dimensions: 16-byte rows that fall into
// different banks.
template <int D, int Rows>
struct TileLayout {
    static constexpr int kHalfStride = D + 8, kWeightStride = kKeys + 8, kScoreStride = kKeys + 4;
    static constexpr size_t kQ = 0;
    static constexpr size_t kK = kQ + sizeof(half) * Rows * kHalfStride;
    static constexpr size_t kV =
        tile_shares_kv(D, Rows) ? kK : kK + sizeof(half) * kKeys * kHalfStride;
    static constexpr size_t kScore = kV + sizeof(half) * kKeys * kHalfStride;
    static constexpr size_t kWeight = kScore + sizeof(float) * Rows * kScoreStride;
    static constexpr size_t kFactor = kWeight + sizeof(half) * Rows * kWeightStride;
    static constexpr size_t kRanges = kFactor + sizeof(float) * Rows;
    static constexpr size_t kBytes = kRanges + sizeof(PositionRange) * Rows;
};

template <int D, int Rows>
struct TileShared {
    using L = TileLayout<D, Rows>;
    smem<half> q, k, v, weight;
    smem<float> score, factor;
    smem<PositionRange> ranges;
    __device__ __forceinline__ explicit TileShared(smem<unsigned char> base)
        : q(shared_cast<half>(base + L::kQ)), k(shared_cast<half>(base + L::kK)),
          v(shared_cast<half>(base + L::kV)), weight(shared_cast<half>(base + L::kWeight)),
          score(shared_cast<float>(base + L::kScore)),
          factor(shared_cast<float>(base + L::kFactor)),
          ranges(shared_cast<PositionRange>(base + L::kRanges)) {}
};

template <int D, int Rows, int Threads>
__device__ __forceinline__ void load_queries(const AttnCall& a, const AttnRows& rows, int first,
                                             const TileShared<D, Rows>& s) {
    constexpr int kStride = TileLayout<D, Rows>::kHalfStride;
    for (int i = int(threadIdx.x); i < Rows * (D / 2); i += Threads) {
        const int r = i / (D / 2), c = i % (D / 2);
        float2 q = make_float2(0.0f, 0.0f);
        if (first + r < rows.n_vectors)
            q = reinterpret_cast<const float2*>(a.q + rows.index(first + r) * D)[c];
        shared_cast<half2>(s.q)[r * (kStride / 2) + c] = __float22half2_rn(q);
    }
    if (threadIdx.x < Rows) s.ranges[threadIdx.x] = rows.seen(first + int(threadIdx.x));
}

// Loads a tile of K or V as halves. Positions that no vector of the block sees become zero, so that
// a weight of zero never meets a NaN.
template <int D, int Threads, KvType KV>
__device__ __forceinline__ void load_kv(smem<half> to, const uint8_t* base, const uint8_t* scale,
                                        int tile, PositionRange range, const AttnCall& a,
                                        const KvTile& place) {
    constexpr int kChunks = D / 8, kStride = D + 8;
    const int kv_head = int(blockIdx.x);
    for (int i = int(threadIdx.x); i < kKeys * kChunks; i += Threads) {
        const int kk = i / kChunks, c = i % kChunks;
        const smem<half> at = to + (kk * kStride + c * 8);
        if (!range.has(tile + kk)) {
            shared_cast<uint4>(at)[0] = make_uint4(0, 0, 0, 0);
            continue;
        }
        const KvRow<KV> row(base + place.page, scale + place.page,
                            size_t(place.slot + kk) * a.n_head_kv + kv_head, D);
        if constexpr (KV == KvType::f16) {
            cp_async16(at, row.p + c * 8);
        } else {
            float x[8];
            row.load8(c, x);
            Half8 t;
            PILLION_UNROLL
            for (int j = 0; j < 4; j++) t.h[j] = __floats2half2_rn(x[2 * j], x[2 * j + 1]);
            shared_cast<uint4>(at)[0] = t.v;
        }
    }
    cp_async_commit();
}

// S = Q K^T in units of 16 vectors x 8 positions.
template <int D, int MT>
__device__ __forceinline__ void score_tile(const AttnCall& a, int tile,
                                           const TileShared<D, 16 * MT>& s) {
    using L = TileLayout<D, 16 * MT>;
    for (int u = int(threadIdx.x) / 32; u < MT * (kKeys / 8); u += tile_warps(16 * MT)) {
        const int mt = u / (kKeys / 8), nt = u % (kKeys / 8);
        FragC c[2] = {{{0.0f, 0.0f, 0.0f, 0.0f}}, {{0.0f, 0.0f, 0.0f, 0.0f}}};
        PILLION_UNROLL
        for (int k = 0; k < D / 16; k++) {
            FragA fa;
            FragB fb;
            load_a(fa, s.q + (mt * 16 * L::kHalfStride + k * 16), L::kHalfStride);
            load_b_by_column(fb, s.k + (nt * 8 * L::kHalfStride + k * 16), L::kHalfStride);
            mma(c[k % 2], fa, fb);
        }
        PILLION_UNROLL
        for (int i = 0; i < 4; i++) {
            const int r = mt * 16 + frag_c_row(i), n = nt * 8 + frag_c_col(i);
            const float x = soft_cap((c[0].x[i] + c[1].x[i]) * a.scale, a.softcap);
            s.score[r * L::kScoreStride + n] = s.ranges[r].has(tile + n) ? x : -INFINITY;
        }
    }
}

// Neighbouring lanes share a vector's scores. l sums the factors of V: the rounded weights.
template <int D, int Rows>
__device__ __forceinline__ void update_softmax(float& m, float& l, const TileShared<D, Rows>& s) {
    using L = TileLayout<D, Rows>;
    constexpr int kLanes = tile_warps(Rows) * 32 / Rows, kColumns = kKeys / kLanes;
    const int row = int(threadIdx.x) / kLanes, column = int(threadIdx.x) % kLanes;
    float x[kColumns], top = m, sum = 0.0f;
    PILLION_UNROLL
    for (int i = 0; i < kColumns; i++) {
        x[i] = s.score[row * L::kScoreStride + column + i * kLanes];
        top = fmaxf(top, x[i]);
    }
    PILLION_UNROLL
    for (int d = 1; d < kLanes; d *= 2)
        top = fmaxf(top, __shfl_xor_sync(PILLION_FULL_MASK, top, d, 32));
    PILLION_UNROLL
    for (int i = 0; i < kColumns; i++) {
        const half p = __float2half(x[i] == -INFINITY ? 0.0f : __expf(x[i] - top));
        sum += __half2float(p);
        s.weight[row * L::kWeightStride + column + i * kLanes] = p;
    }
    PILLION_UNROLL
    for (int d = 1; d < kLanes; d *= 2) sum += __shfl_xor_sync(PILLION_FULL_MASK, sum, d, 32);
    const float factor = rescale(m, top);
    l = fmaf(l, factor, sum);
    m = top;
    if (column == 0) s.factor[row] = factor;
}

// O = diag(factor) O + P V; a warp owns every WARPS-th column tile.
template <int D, int MT, int Mine>
__device__ __forceinline__ void add_values(FragC (&o)[MT][Mine], const TileShared<D, 16 * MT>& s) {
    using L = TileLayout<D, 16 * MT>;
    constexpr int kWarps = tile_warps(16 * MT);
    const int warp = int(threadIdx.x) / 32;
    PILLION_UNROLL
    for (int mt = 0; mt < MT; mt++) {
        const float f0 = s.factor[mt * 16 + frag_c_row(0)], f1 = s.factor[mt * 16 + frag_c_row(2)];
        PILLION_UNROLL
        for (int i = 0; i < Mine; i++) {
            o[mt][i].x[0] *= f0, o[mt][i].x[1] *= f0;
            o[mt][i].x[2] *= f1, o[mt][i].x[3] *= f1;
        }
    }
    PILLION_UNROLL
    for (int k = 0; k < kKeys / 16; k++) {
        FragA fa[MT];
        PILLION_UNROLL
        for (int mt = 0; mt < MT; mt++)
            load_a(fa[mt], s.weight + (mt * 16 * L::kWeightStride + k * 16), L::kWeightStride);
        PILLION_UNROLL
        for (int i = 0; i < Mine; i++) {
            const int nt = warp + i * kWarps;
            if (nt >= D / 8) continue;  // the same for all lanes of the warp
            FragB fb;
            load_b_by_row(fb, s.v + (k * 16 * L::kHalfStride + nt * 8), L::kHalfStride);
            PILLION_UNROLL
            for (int mt = 0; mt < MT; mt++) mma(o[mt][i], fa[mt], fb);
        }
    }
}

// The block's rows are found again: kept through the loop they would cost registers.
template <int D, int MT, int Mine>
__device__ __forceinline__ void write_outputs(const AttnCall& a, const FragC (&o)[MT][Mine],
                                              const TileShared<D, 16 * MT>& s) {
    constexpr int kWarps = tile_warps(16 * MT);
    const int number = int(blockIdx.y);
    const AttnRows rows = rows_of_block<16 * MT>(a, int(blockIdx.x), number);
    const int first = first_of_block<16 * MT>(rows, number);
    PILLION_UNROLL
    for (int mt = 0; mt < MT; mt++) {
        PILLION_UNROLL
        for (int h = 0; h < 2; h++) {  // rows 0..7 and 8..15 of the fragment
            const int r = mt * 16 + frag_c_row(2 * h);
            if (first + r >= rows.n_vectors) continue;
            float* out = a.out + rows.index(first + r) * D;
            const float f = s.factor[r];
            PILLION_UNROLL
            for (int i = 0; i < Mine; i++) {
                const int nt = int(threadIdx.x) / 32 + i * kWarps;
                if (nt < D / 8)
                    *reinterpret_cast<float2*>(out + nt * 8 + frag_c_col(0)) =
                        make_float2(o[mt][i].x[2 * h] * f, o[mt][i].x[2 * h + 1] * f);
            }
        }
    }
}

template <int D, int MT, KvType KV>
__global__ void __launch_bounds__(tile_warps(16 * MT) * 32, tile_residents(D, 16 * MT))
    tile_kernel(AttnCall a) {
    constexpr int kRows = 16 * MT, kWarps = tile_warps(kRows), kThreads = kWarps * 32;
    constexpr bool kShareKv = tile_shares_kv(D, kRows);
    constexpr int kMine = (D / 8 + kWarps - 1) / kWarps;  // output column tiles of a warp
    PILLION_DYNAMIC_SHARED(unsigned char, base);
    const TileShared<D, kRows> s(base);
    const int number = int(blockIdx.y);
    const AttnRows rows = rows_of_block<kRows>(a, int(blockIdx.x), number);
    const int first = first_of_block<kRows>(rows, number);
    if (first >= rows.n_vectors) return;
    const PositionRange range = rows.seen_by_any(first, kRows);

    load_queries<D, kRows, kThreads>(a, rows, first, s);
    FragC o[MT][kMine];
    PILLION_UNROLL
    for (int mt = 0; mt < MT; mt++) {
        PILLION_UNROLL
        for (int i = 0; i < kMine; i++) o[mt][i] = FragC{{0.0f, 0.0f, 0.0f, 0.0f}};
    }
    float m = -INFINITY, l = 0.0f;
    for (int tile = range.begin / kKeys * kKeys; tile < range.end; tile += kKeys) {
        const KvTile place(a, rows, tile);
        __syncthreads();  // the last tile is finished
        load_kv<D, kThreads, KV>(s.k, a.k, a.k_scale, tile, range, a, place);
        if constexpr (!kShareKv)
            load_kv<D, kThreads, KV>(s.v, a.v, a.v_scale, tile, range, a, place);
        cp_async_wait<kShareKv ? 0 : 1>();
        __syncthreads();
        score_tile<D, MT>(a, tile, s);
        __syncthreads();
        if constexpr (kShareKv)
            load_kv<D, kThreads, KV>(s.v, a.v, a.v_scale, tile, range, a, place);
        update_softmax<D, kRows>(m, l, s);
        cp_async_wait<0>();
        __syncthreads();
        add_values<D, MT>(o, s);
    }
    __syncthreads();  // the last factors are read; the array now carries the sums
    if (threadIdx.x % (kThreads / kRows) == 0)
        s.factor[threadIdx.x / (kThreads / kRows)] = l > 0.0f ? 1.0f / l : 0.0f;
    __syncthreads();
    write_outputs<D, MT>(a, o, s);
}

template <int D>
size_t layout_bytes(int rows) {
    return rows == 16   ? TileLayout<D, 16>::kBytes
           : rows == 32 ? TileLayout<D, 32>::kBytes
                        : TileLayout<D, 64>::kBytes;
}

// Calls f with the instance for (d, rows, kv); false if it does not exist.
template <int D, KvType KV, class F>
bool with_rows(int rows, const F& f) {
    switch (rows) {
        case 16: return f(tile_kernel<D, 1, KV>);
        case 32: return f(tile_kernel<D, 2, KV>);
        case 64: return f(tile_kernel<D, 4, KV>);
        default: return false;
    }
}
template <class F>
bool with_instance(int d, int rows, KvType kv, const F& f) {
    return with_head_size(d, [&](auto size) {
        constexpr int D = decltype(size)::value;
        return kv == KvType::q8_0 ? with_rows<D, KvType::q8_0>(rows, f)
                                  : with_rows<D, KvType::f16>(rows, f);
    });
}

}  // namespace

size_t attn_tile_shared(int d, int rows) {
    size_t bytes = 0;
    with_head_size(d, [&](auto size) {
        return bytes = layout_bytes<decltype(size)::value>(rows), true;
    });
    return bytes;
}

void attn_tile(const AttnPlan& plan, KvType kv, const AttnCall& c, stream_t stream) {
    const dim3 grid(c.n_head_kv, attn_blocks(plan, c.rows, c.n_head / c.n_head_kv));
    const bool known = with_instance(c.d, plan.rows, kv, [&](auto kernel) {
        launch("attn_tile", kernel, grid, dim3(tile_warps(plan.rows) * 32), plan.shared_bytes,
               stream, c);
        return true;
    });
    if (!known) stream->fail(Status::internal, "attn_tile", "a plan that attn_plan does not make");
}

bool attn_tile_probe(const AttnPlan& plan, KvType kv, int d) {
    return with_instance(d, plan.rows, kv, [&](auto kernel) {
        return can_launch(kernel, tile_warps(plan.rows) * 32, plan.shared_bytes);
    });
}

}  // namespace pillion::cuda
