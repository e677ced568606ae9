// Flash attention on tensor cores for many query rows: verification of drafted tokens, prefill.
//
// Block: one KV head, 16 * MT query rows, one part of the KV range. Per tile of 32 cells:
//   S = Q K^T by matrix products   ->  shared memory, masked
//   P = softmax update of S        ->  shared memory, half
//   O = diag(factor) O + P V       ->  registers
// With SHARE_KV the V tile reuses the buffer of the K tile, which makes room for more query
// rows at the price of no overlap between loading V and computing S.
#include "backends/cuda/kernels/attn_common.h"

namespace pillion::cuda {

constexpr int kKeys = 32;

__host__ __device__ constexpr int  tile_warps(int rows) { return rows == 16 ? 4 : 8; }
__host__ __device__ constexpr bool tile_shares_kv(int d, int rows) { return d == 512 && rows > 16; }

template <int D, int ROWS> struct TileLayout {           // byte offsets into dynamic shared memory
    static constexpr int LDH = D + 8;                    // leading dimensions: 16-byte rows that
    static constexpr int LDP = kKeys + 8;                // fall into different banks
    static constexpr int LDS = kKeys + 4;
    static constexpr size_t q     = 0;
    static constexpr size_t k     = q + sizeof(half) * ROWS * LDH;
    static constexpr size_t v     = tile_shares_kv(D, ROWS) ? k : k + sizeof(half) * kKeys * LDH;
    static constexpr size_t s     = v + sizeof(half) * kKeys * LDH;
    static constexpr size_t p     = s + sizeof(float) * ROWS * LDS;
    static constexpr size_t f     = p + sizeof(half) * ROWS * LDP;
    static constexpr size_t qpos  = f + sizeof(float) * ROWS;
    static constexpr size_t kvpos = qpos + sizeof(int) * ROWS;
    static constexpr size_t bytes = kvpos + sizeof(int) * kKeys;
};

// Loads kKeys rows of K or V as halves. Cells that no row can see (position -1 in s_kvpos) become
// zero, so that a zero probability never meets a NaN.
template <int D, int THREADS, KvType KV>
static __device__ __forceinline__ void load_kv(smem<half> dst, const void * base, const half * scale,
                                               smem<const int> s_kvpos, int kv0, int n_head_kv, int kv_head) {
    constexpr int CHUNKS = D / 8, LDH = D + 8;
    for (int i = int(threadIdx.x); i < kKeys * CHUNKS; i += THREADS) {
        const int kk = i / CHUNKS, c = i % CHUNKS;
        const smem<half> to = dst + (kk * LDH + c * 8);
        if (s_kvpos[kk] < 0) {
            shared_cast<uint4>(to)[0] = make_uint4(0, 0, 0, 0);
            continue;
        }
        const KvRow<KV> row(base, scale, size_t(kv0 + kk) * n_head_kv + kv_head, D);
        if constexpr (KV == KvType::f16) {
            cp_async16(to, row.p + c * 8);
        } else {
            float x[8];
            row.load8(c, x);
            Half8 t;
            PILLION_UNROLL
            for (int j = 0; j < 4; ++j) t.h[j] = __floats2half2_rn(x[2 * j], x[2 * j + 1]);
            shared_cast<uint4>(to)[0] = t.v;
        }
    }
    cp_async_commit();
}

template <int D, int MT, KvType KV>
static __global__ void __launch_bounds__(tile_warps(16 * MT) * 32) attn_tile_kernel(AttnArgs a) {
    constexpr int  ROWS = 16 * MT, WARPS = tile_warps(ROWS), THREADS = WARPS * 32;
    constexpr bool SHARE_KV = tile_shares_kv(D, ROWS);
    using L = TileLayout<D, ROWS>;
    constexpr int  LDH = L::LDH, LDP = L::LDP, LDS = L::LDS;
    constexpr int  N_TILES = D / 8, MINE = (N_TILES + WARPS - 1) / WARPS;   // output column tiles
    constexpr int  PER_ROW = THREADS / ROWS, COLS = kKeys / PER_ROW;         // softmax threads of a row

    PILLION_DYNAMIC_SHARED(unsigned char, shared);
    const smem<half>  s_q     = shared_cast<half>(shared + L::q);
    const smem<half>  s_k     = shared_cast<half>(shared + L::k);
    const smem<half>  s_v     = shared_cast<half>(shared + L::v);
    const smem<float> s_s     = shared_cast<float>(shared + L::s);
    const smem<half>  s_p     = shared_cast<half>(shared + L::p);
    const smem<float> s_f     = shared_cast<float>(shared + L::f);
    const smem<int>   s_qpos  = shared_cast<int>(shared + L::qpos);
    const smem<int>   s_kvpos = shared_cast<int>(shared + L::kvpos);

    const int tid = int(threadIdx.x), warp = tid / 32;
    const int split = int(blockIdx.x), kv_head = int(blockIdx.y), row0 = int(blockIdx.z) * ROWS;
    const int gqa = a.n_head / a.n_head_kv, n_rows = a.n_tokens * gqa;
    const RowMap map{gqa, a.n_head, kv_head};

    for (int i = tid; i < ROWS * (D / 2); i += THREADS) {
        const int r = i / (D / 2), c = i % (D / 2);
        float2 q = make_float2(0.0f, 0.0f);
        if (row0 + r < n_rows) q = reinterpret_cast<const float2 *>(a.q + map.q_row(row0 + r) * D)[c];
        shared_cast<half2>(s_q)[r * (LDH / 2) + c] = __float22half2_rn(q);
    }
    int q_lo = 0x7fffffff, q_hi = -1;
    for (int r = 0; r < ROWS; ++r) {
        const int p = row0 + r < n_rows ? a.q_pos[map.token(row0 + r)] : -1;
        if (p >= 0) { q_lo = min(q_lo, p); q_hi = max(q_hi, p); }
        if (tid == r) s_qpos[r] = p;
    }

    FragC o[MT][MINE];
    PILLION_UNROLL
    for (int mt = 0; mt < MT; ++mt) {
        PILLION_UNROLL
        for (int i = 0; i < MINE; ++i) o[mt][i] = FragC{{0.0f, 0.0f, 0.0f, 0.0f}};
    }
    const int my_row = tid / PER_ROW, my_col = tid % PER_ROW;
    float m = -INFINITY, l = 0.0f;                       // of my_row

    int begin, end;
    split_range(a.n_kv, a.n_split, split, kKeys, begin, end);

    for (int kv0 = begin; kv0 < end; kv0 += kKeys) {
        int pos = tid < kKeys && kv0 + tid < end ? a.kv_pos[kv0 + tid] : -1;
        if (!wanted(pos, q_lo, q_hi, a.window)) pos = -1;
        if (tid < kKeys) s_kvpos[tid] = pos;             // last read before the barrier in front of P V
        if (!__syncthreads_or(pos >= 0)) continue;       // also: the previous tile is finished

        load_kv<D, THREADS, KV>(s_k, a.k, a.k_scale, s_kvpos, kv0, a.n_head_kv, kv_head);
        if constexpr (!SHARE_KV) load_kv<D, THREADS, KV>(s_v, a.v, a.v_scale, s_kvpos, kv0, a.n_head_kv, kv_head);
        cp_async_wait<SHARE_KV ? 0 : 1>();
        __syncthreads();

        // S = Q K^T: units of 16 rows x 8 cells
        for (int u = warp; u < MT * (kKeys / 8); u += WARPS) {
            const int mt = u / (kKeys / 8), nt = u % (kKeys / 8);
            FragC c[2] = {{{0.0f, 0.0f, 0.0f, 0.0f}}, {{0.0f, 0.0f, 0.0f, 0.0f}}};
            PILLION_UNROLL
            for (int k = 0; k < D / 16; ++k) {
                FragA fa;
                FragB fb;
                load_a(fa, s_q + (mt * 16 * LDH + k * 16), LDH);
                load_b_by_column(fb, s_k + (nt * 8 * LDH + k * 16), LDH);
                mma(c[k % 2], fa, fb);
            }
            PILLION_UNROLL
            for (int i = 0; i < 4; ++i) {
                const int r = mt * 16 + frag_c_row(i), n = nt * 8 + frag_c_col(i);
                const float s = soft_cap((c[0].x[i] + c[1].x[i]) * a.scale, a.softcap);
                s_s[r * LDS + n] = visible(s_kvpos[n], s_qpos[r], a.window) ? s : -INFINITY;
            }
        }
        __syncthreads();

        if constexpr (SHARE_KV) load_kv<D, THREADS, KV>(s_v, a.v, a.v_scale, s_kvpos, kv0, a.n_head_kv, kv_head);

        // softmax: PER_ROW neighbouring lanes work on one row
        float x[COLS], top = m;
        PILLION_UNROLL
        for (int i = 0; i < COLS; ++i) {
            x[i] = s_s[my_row * LDS + my_col + i * PER_ROW];
            top = fmaxf(top, x[i]);
        }
        PILLION_UNROLL
        for (int d = 1; d < PER_ROW; d *= 2) top = fmaxf(top, __shfl_xor_sync(PILLION_FULL_MASK, top, d, 32));
        float sum = 0.0f;
        PILLION_UNROLL
        for (int i = 0; i < COLS; ++i) {
            const half p = __float2half(x[i] == -INFINITY ? 0.0f : __expf(x[i] - top));
            sum += __half2float(p);                      // the sum of what V is multiplied with
            s_p[my_row * LDP + my_col + i * PER_ROW] = p;
        }
        PILLION_UNROLL
        for (int d = 1; d < PER_ROW; d *= 2) sum += __shfl_xor_sync(PILLION_FULL_MASK, sum, d, 32);
        const float factor = rescale(m, top);
        l = l * factor + sum;
        m = top;
        if (my_col == 0) s_f[my_row] = factor;

        cp_async_wait<0>();
        __syncthreads();

        // O = diag(factor) O + P V
        PILLION_UNROLL
        for (int mt = 0; mt < MT; ++mt) {
            const float f0 = s_f[mt * 16 + frag_c_row(0)], f1 = s_f[mt * 16 + frag_c_row(2)];
            PILLION_UNROLL
            for (int i = 0; i < MINE; ++i) {
                o[mt][i].x[0] *= f0; o[mt][i].x[1] *= f0;
                o[mt][i].x[2] *= f1; o[mt][i].x[3] *= f1;
            }
        }
        PILLION_UNROLL
        for (int k = 0; k < kKeys / 16; ++k) {
            FragA fa[MT];
            PILLION_UNROLL
            for (int mt = 0; mt < MT; ++mt) load_a(fa[mt], s_p + (mt * 16 * LDP + k * 16), LDP);
            PILLION_UNROLL
            for (int i = 0; i < MINE; ++i) {
                const int nt = warp + i * WARPS;
                if (nt < N_TILES) {                      // same for all lanes of the warp
                    FragB fb;
                    load_b_by_row(fb, s_v + (k * 16 * LDH + nt * 8), LDH);
                    PILLION_UNROLL
                    for (int mt = 0; mt < MT; ++mt) mma(o[mt][i], fa[mt], fb);
                }
            }
        }
    }

    // Row sums travel through s_f; split results stay unnormalised.
    __syncthreads();
    if (my_col == 0) s_f[my_row] = a.n_split > 1 ? 1.0f : l > 0.0f ? 1.0f / l : 0.0f;
    if (my_col == 0 && a.n_split > 1 && row0 + my_row < n_rows)
        a.meta[map.q_row(row0 + my_row) * a.n_split + split] = make_float2(m, l);
    __syncthreads();
    PILLION_UNROLL
    for (int mt = 0; mt < MT; ++mt) {
        PILLION_UNROLL
        for (int h = 0; h < 2; ++h) {                    // rows 0..7 and 8..15 of the fragment
            const int r = mt * 16 + frag_c_row(2 * h);
            if (row0 + r < n_rows) {
                const size_t q_row = map.q_row(row0 + r);
                float * out = a.n_split > 1 ? a.part + (q_row * a.n_split + split) * D : a.dst + q_row * D;
                const float f = s_f[r];
                PILLION_UNROLL
                for (int i = 0; i < MINE; ++i) {
                    const int nt = warp + i * WARPS;
                    if (nt < N_TILES)
                        *reinterpret_cast<float2 *>(out + nt * 8 + frag_c_col(0)) =
                            make_float2(o[mt][i].x[2 * h] * f, o[mt][i].x[2 * h + 1] * f);
                }
            }
        }
    }
}

// ---- host -----------------------------------------------------------------------------------------------
template <int D> static size_t layout_bytes(int rows) {
    return rows == 16 ? TileLayout<D, 16>::bytes : rows == 32 ? TileLayout<D, 32>::bytes : TileLayout<D, 64>::bytes;
}

size_t attn_tile_shared(int d, int rows) {
    switch (d) {
        case  64: return layout_bytes< 64>(rows);
        case  80: return layout_bytes< 80>(rows);
        case  96: return layout_bytes< 96>(rows);
        case 128: return layout_bytes<128>(rows);
        case 256: return layout_bytes<256>(rows);
        default:  return layout_bytes<512>(rows);
    }
}

template <int D, int MT, KvType KV>
static void run(const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    constexpr int ROWS = 16 * MT;
    const int n_rows = a.n_tokens * (a.n_head / a.n_head_kv);
    PILLION_LAUNCH((attn_tile_kernel<D, MT, KV>), dim3(a.n_split, a.n_head_kv, (n_rows + ROWS - 1) / ROWS),
                   dim3(tile_warps(ROWS) * 32), plan.shared_bytes, stream, a);
}

template <int D, KvType KV>
static void run_rows(const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    switch (plan.rows) {
        case 16: return run<D, 1, KV>(plan, a, stream);
        case 32: return run<D, 2, KV>(plan, a, stream);
        case 64: return run<D, 4, KV>(plan, a, stream);
        default: throw std::logic_error("attn_tile: plan not made by attn_plan");
    }
}

template <int D>
static void run_type(const AttnShape & s, const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    if (s.kv == KvType::f16) run_rows<D, KvType::f16>(plan, a, stream);
    else                     run_rows<D, KvType::q8_0>(plan, a, stream);
}

void attn_tile(const AttnShape & s, const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    switch (s.d) {
        case  64: return run_type< 64>(s, plan, a, stream);
        case  80: return run_type< 80>(s, plan, a, stream);
        case  96: return run_type< 96>(s, plan, a, stream);
        case 128: return run_type<128>(s, plan, a, stream);
        case 256: return run_type<256>(s, plan, a, stream);
        case 512: return run_type<512>(s, plan, a, stream);
        default: throw std::logic_error("attn_tile: plan not made by attn_plan");
    }
}

}  // namespace pillion::cuda
