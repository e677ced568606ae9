// Flash attention for few query rows: any GQA ratio, head dims up to 512, KV split over blocks.
//
// Block: one KV head, up to R query rows, one part of the KV range. Per tile of 64 cells:
//   1. eight lanes share a cell and compute the scores of all R rows from one read of K;
//   2. one warp per row updates the running maximum and sum;
//   3. a thread owns eight output columns and accumulates p * V for all R rows.
#include "backends/cuda/kernels/attn_common.h"

namespace pillion::cuda {

constexpr int kThreads = 128;
constexpr int kKeys    = 64;

__host__ __device__ constexpr int decode_groups(int d) { return kThreads / (d / 8); }

size_t attn_decode_shared(int d, int rows) {
    return sizeof(float) * (size_t(rows) * d + size_t(rows) * kKeys + size_t(decode_groups(d)) * d + 4 * rows);
}

template <int D, int R, KvType KV>
static __global__ void __launch_bounds__(kThreads, 3) attn_decode_kernel(AttnArgs a) {
    constexpr int CHUNKS = D / 8;                       // 16-byte pieces of a half row
    constexpr int GROUPS = decode_groups(D);            // cells handled side by side in step 3
    constexpr int WARPS  = kThreads / 32;
    constexpr int MINE   = (R + WARPS - 1) / WARPS;     // softmax rows of a warp

    PILLION_DYNAMIC_SHARED(float, shared);
    const smem<float> s_q      = shared;                        // [R][D], scaled
    const smem<float> s_score  = shared + R * D;                // [R][kKeys]
    const smem<float> s_out    = shared + R * (D + kKeys);      // [GROUPS][D]
    const smem<float> s_factor = s_out + GROUPS * D;            // [R]
    const smem<float> s_max    = s_factor + R;
    const smem<float> s_sum    = s_max + R;
    const smem<int>   s_qpos   = shared_cast<int>(s_sum + R);   // [R]

    const int tid = int(threadIdx.x), warp = tid / 32, lane = tid % 32;
    const int split = int(blockIdx.x), kv_head = int(blockIdx.y), row0 = int(blockIdx.z) * R;
    const int gqa = a.n_head / a.n_head_kv, n_rows = a.n_tokens * gqa;
    const RowMap map{gqa, a.n_head, kv_head};

    for (int i = tid; i < R * D; i += kThreads) {
        const int row = row0 + i / D;
        s_q[i] = row < n_rows ? a.q[map.q_row(row) * D + i % D] * a.scale : 0.0f;
    }
    int q_lo = 0x7fffffff, q_hi = -1;
    PILLION_UNROLL
    for (int r = 0; r < R; ++r) {
        const int p = row0 + r < n_rows ? a.q_pos[map.token(row0 + r)] : -1;
        if (p >= 0) { q_lo = min(q_lo, p); q_hi = max(q_hi, p); }
        if (tid == r) s_qpos[r] = p;
    }

    float m[MINE], l[MINE], o[R][8];
    PILLION_UNROLL
    for (int i = 0; i < MINE; ++i) { m[i] = -INFINITY; l[i] = 0.0f; }
    PILLION_UNROLL
    for (int r = 0; r < R; ++r) {
        PILLION_UNROLL
        for (int i = 0; i < 8; ++i) o[r][i] = 0.0f;
    }

    int begin, end;
    split_range(a.n_kv, a.n_split, split, kKeys, begin, end);
    const int group = tid / CHUNKS, chunk = tid % CHUNKS;

    for (int kv0 = begin; kv0 < end; kv0 += kKeys) {
        // Skip tiles no row can see. The vote is also the barrier that protects s_score.
        const bool any = tid < kKeys && kv0 + tid < end && wanted(a.kv_pos[kv0 + tid], q_lo, q_hi, a.window);
        if (!__syncthreads_or(any)) continue;

        // 1. scores
        for (int kk = tid / 8; kk < kKeys; kk += kThreads / 8) {
            const int key = kv0 + kk;
            const int kv_pos = key < end ? a.kv_pos[key] : -1;
            float acc[R];
            PILLION_UNROLL
            for (int r = 0; r < R; ++r) acc[r] = 0.0f;
            if (wanted(kv_pos, q_lo, q_hi, a.window)) {
                const KvRow<KV> k(a.k, a.k_scale, size_t(key) * a.n_head_kv + kv_head, D);
                for (int c = tid % 8; c < CHUNKS; c += 8) {
                    float x[8];
                    k.load8(c, x);
                    PILLION_UNROLL
                    for (int r = 0; r < R; ++r) {
                        const smem<const float4> q = shared_cast<const float4>(s_q + (r * D + c * 8));
                        const float4 q0 = q[0], q1 = q[1];
                        acc[r] += x[0] * q0.x + x[1] * q0.y + x[2] * q0.z + x[3] * q0.w
                                + x[4] * q1.x + x[5] * q1.y + x[6] * q1.z + x[7] * q1.w;
                    }
                }
            }
            PILLION_UNROLL
            for (int r = 0; r < R; ++r) {
                float s = acc[r];
                s += __shfl_xor_sync(PILLION_FULL_MASK, s, 4, 32);
                s += __shfl_xor_sync(PILLION_FULL_MASK, s, 2, 32);
                s += __shfl_xor_sync(PILLION_FULL_MASK, s, 1, 32);
                if (tid % 8 == r % 8) s_score[r * kKeys + kk] = visible(kv_pos, s_qpos[r], a.window) ? soft_cap(s, a.softcap) : -INFINITY;
            }
        }
        __syncthreads();

        // 2. softmax
        PILLION_UNROLL
        for (int i = 0; i < MINE; ++i) {
            const int r = warp + i * WARPS;
            if (r < R) {
                const float s0 = s_score[r * kKeys + lane], s1 = s_score[r * kKeys + lane + 32];
                const float m_new = fmaxf(m[i], warp_max(fmaxf(s0, s1)));
                const float p0 = s0 == -INFINITY ? 0.0f : __expf(s0 - m_new);
                const float p1 = s1 == -INFINITY ? 0.0f : __expf(s1 - m_new);
                const float f  = rescale(m[i], m_new);
                l[i] = l[i] * f + warp_sum(p0 + p1);
                m[i] = m_new;
                s_score[r * kKeys + lane]      = p0;
                s_score[r * kKeys + lane + 32] = p1;
                if (lane == 0) s_factor[r] = f;
            }
        }
        __syncthreads();

        // 3. output
        if (group < GROUPS) {
            PILLION_UNROLL
            for (int r = 0; r < R; ++r) {
                const float f = s_factor[r];
                PILLION_UNROLL
                for (int i = 0; i < 8; ++i) o[r][i] *= f;
            }
            const int n = min(kKeys, end - kv0);
            for (int kk = group; kk < n; kk += GROUPS) {
                float p[R];
                bool used = false;
                PILLION_UNROLL
                for (int r = 0; r < R; ++r) {
                    p[r] = s_score[r * kKeys + kk];
                    used |= p[r] != 0.0f;
                }
                if (!used) continue;                    // never multiplies a cell nobody can see
                const KvRow<KV> v(a.v, a.v_scale, size_t(kv0 + kk) * a.n_head_kv + kv_head, D);
                float x[8];
                v.load8(chunk, x);
                PILLION_UNROLL
                for (int r = 0; r < R; ++r) {
                    PILLION_UNROLL
                    for (int i = 0; i < 8; ++i) o[r][i] += p[r] * x[i];
                }
            }
        }
    }

    // Add the groups and write, one row at a time.
    PILLION_UNROLL
    for (int i = 0; i < MINE; ++i) {
        const int r = warp + i * WARPS;
        if (r < R && lane == 0) { s_max[r] = m[i]; s_sum[r] = l[i]; }
    }
    PILLION_UNROLL
    for (int r = 0; r < R; ++r) {
        __syncthreads();
        if (group < GROUPS) {
            PILLION_UNROLL
            for (int i = 0; i < 8; ++i) s_out[group * D + chunk * 8 + i] = o[r][i];
        }
        __syncthreads();
        if (row0 + r < n_rows) {
            const size_t q_row = map.q_row(row0 + r);
            const float inv = s_sum[r] > 0.0f ? 1.0f / s_sum[r] : 0.0f;
            for (int d = tid; d < D; d += kThreads) {
                float sum = 0.0f;
                for (int g = 0; g < GROUPS; ++g) sum += s_out[g * D + d];
                if (a.n_split == 1) a.dst[q_row * D + d] = sum * inv;
                else                a.part[(q_row * a.n_split + split) * D + d] = sum;
            }
            if (tid == 0 && a.n_split > 1) a.meta[q_row * a.n_split + split] = make_float2(s_max[r], s_sum[r]);
        }
    }
}

// ---- combination of the KV splits, for both attention kernels --------------------------------------
static __global__ void __launch_bounds__(kThreads) attn_combine_kernel(
        const float * part, const float2 * meta, float * dst, int d, int n_split) {
    const size_t row = blockIdx.x;
    part += row * n_split * d;
    meta += row * n_split;
    float m = -INFINITY, l = 0.0f;
    for (int s = 0; s < n_split; ++s) m = fmaxf(m, meta[s].x);
    for (int s = 0; s < n_split; ++s) l += rescale(meta[s].x, m) * meta[s].y;
    const float inv = l > 0.0f ? 1.0f / l : 0.0f;
    for (int i = int(threadIdx.x); i < d; i += kThreads) {
        float sum = 0.0f;
        for (int s = 0; s < n_split; ++s) sum += rescale(meta[s].x, m) * part[size_t(s) * d + i];
        dst[row * d + i] = sum * inv;
    }
}

template <int D, int R, KvType KV>
static void run(const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    const int n_rows = a.n_tokens * (a.n_head / a.n_head_kv);
    PILLION_LAUNCH((attn_decode_kernel<D, R, KV>), dim3(a.n_split, a.n_head_kv, (n_rows + R - 1) / R), dim3(kThreads),
                   plan.shared_bytes, stream, a);
}

template <int D, KvType KV>
static void run_rows(const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    switch (plan.rows) {
        case 1: return run<D, 1, KV>(plan, a, stream);
        case 2: return run<D, 2, KV>(plan, a, stream);
        case 4: return run<D, 4, KV>(plan, a, stream);
        case 8: return run<D, 8, KV>(plan, a, stream);
        default: throw std::logic_error("attn_decode: plan not made by attn_plan");
    }
}

template <int D>
static void run_type(const AttnShape & s, const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    if (s.kv == KvType::f16) run_rows<D, KvType::f16>(plan, a, stream);
    else                     run_rows<D, KvType::q8_0>(plan, a, stream);
}

void attn_decode(const AttnShape & s, const AttnPlan & plan, const AttnArgs & a, stream_t stream) {
    switch (s.d) {
        case  64: return run_type< 64>(s, plan, a, stream);
        case  80: return run_type< 80>(s, plan, a, stream);
        case  96: return run_type< 96>(s, plan, a, stream);
        case 128: return run_type<128>(s, plan, a, stream);
        case 256: return run_type<256>(s, plan, a, stream);
        case 512: return run_type<512>(s, plan, a, stream);
        default: throw std::logic_error("attn_decode: plan not made by attn_plan");
    }
}

void attn_combine(const AttnShape & s, const AttnArgs & a, stream_t stream) {
    PILLION_LAUNCH(attn_combine_kernel, dim3(a.n_tokens * a.n_head), dim3(kThreads), 0, stream, a.part, a.meta, a.dst, s.d, a.n_split);
}

}  // namespace pillion::cuda
