// Flash attention for a few rows: any ratio of heads, head sizes up to 512, positions split over
// blocks.
//
// Block: one KV head, up to R query vectors of a segment, one split of the positions. For each tile
// of 64 positions:
//   1. eight lanes share a position and compute the scores of all R vectors from one read of K;
//   2. one warp per vector updates the running maximum and sum;
//   3. a thread owns eight output columns and accumulates p * V for all R vectors.
// A vector's arithmetic is the same for every R. A position that it does not see changes none of
// its sums; not even a zero is added.
#include "backends/cuda/kernels/attention_common.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kKeys = 64;  // positions of a tile

// positions side by side in step 3
__host__ __device__ constexpr int decode_groups(int d) { return kThreads / (d / 8); }

// Shared memory, in floats; the spans of the vectors follow.
template <int D, int R>
struct DecodeShared {
    static constexpr int kQ = 0, kScore = R * D, kOut = kScore + R * kKeys,
                         kFactor = kOut + decode_groups(D) * D, kMax = kFactor + R, kSum = kMax + R,
                         kRanges = kSum + R;
    smem<float> q, score, out, factor, max, sum;
    smem<PositionRange> ranges;
    __device__ __forceinline__ explicit DecodeShared(smem<float> base)
        : q(base + kQ), score(base + kScore), out(base + kOut), factor(base + kFactor),
          max(base + kMax), sum(base + kSum), ranges(shared_cast<PositionRange>(base + kRanges)) {}
};

template <int D, int R>
__device__ __forceinline__ void load_queries(const AttnCall& a, const AttnRows& rows, int first,
                                             const DecodeShared<D, R>& s) {
    for (int i = int(threadIdx.x); i < R * D; i += kThreads) {
        const int vector = first + i / D;
        s.q[i] = vector < rows.n_vectors ? a.q[rows.index(vector) * D + i % D] : 0.0f;
    }
    if (threadIdx.x < R) s.ranges[threadIdx.x] = rows.seen(first + int(threadIdx.x));
}

// 1. Scores of the positions [tile, tile + 64) that any vector of the block sees.
template <int D, int R, KvType KV>
__device__ __forceinline__ void score_tile(const AttnCall& a, const AttnRows& rows, int tile,
                                           PositionRange range, const DecodeShared<D, R>& s) {
    const int tid = int(threadIdx.x);
    const KvTile at(a, rows, tile);
    for (int kk = tid / 8; kk < kKeys; kk += kThreads / 8) {
        float sum[R];
        PILLION_UNROLL
        for (int r = 0; r < R; r++) sum[r] = 0.0f;
        // Other slots may hold anything, NaN included.
        if (range.has(tile + kk)) {
            const KvRow<KV> k(a.k + at.page, a.k_scale + at.page,
                              size_t(at.slot + kk) * a.n_head_kv + rows.kv_head, D);
            for (int c = tid % 8; c < D / 8; c += 8) {
                float x[8];
                k.load8(c, x);
                PILLION_UNROLL
                for (int r = 0; r < R; r++) {
                    const smem<const float4> q = shared_cast<const float4>(s.q + (r * D + c * 8));
                    const float4 q0 = q[0], q1 = q[1];
                    sum[r] = fmaf(x[0], q0.x, sum[r]), sum[r] = fmaf(x[1], q0.y, sum[r]);
                    sum[r] = fmaf(x[2], q0.z, sum[r]), sum[r] = fmaf(x[3], q0.w, sum[r]);
                    sum[r] = fmaf(x[4], q1.x, sum[r]), sum[r] = fmaf(x[5], q1.y, sum[r]);
                    sum[r] = fmaf(x[6], q1.z, sum[r]), sum[r] = fmaf(x[7], q1.w, sum[r]);
                }
            }
        }
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            float v = sum[r];
            PILLION_UNROLL
            for (int o = 4; o > 0; o /= 2) v += __shfl_xor_sync(PILLION_FULL_MASK, v, o, 32);
            if (tid % 8 == r % 8)
                s.score[r * kKeys + kk] = range.has(tile + kk) && s.ranges[r].has(tile + kk)
                                              ? soft_cap(v * a.scale, a.softcap)
                                              : -INFINITY;
        }
    }
}

// 2. Turns scores into weights under the new maximum; old sums are multiplied by `factor`.
template <int D, int R, int Mine>
__device__ __forceinline__ void update_softmax(float (&m)[Mine], float (&l)[Mine],
                                               const DecodeShared<D, R>& s) {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    PILLION_UNROLL
    for (int i = 0; i < Mine; i++) {
        const int r = warp + i * kWarps;
        if (r >= R) continue;
        const float s0 = s.score[r * kKeys + lane], s1 = s.score[r * kKeys + lane + 32];
        const float top = fmaxf(m[i], warp_max(fmaxf(s0, s1)));
        const float p0 = s0 == -INFINITY ? 0.0f : __expf(s0 - top),
                    p1 = s1 == -INFINITY ? 0.0f : __expf(s1 - top);
        const float factor = rescale(m[i], top);
        l[i] = fmaf(l[i], factor, warp_sum(p0 + p1));
        m[i] = top;
        s.score[r * kKeys + lane] = p0;
        s.score[r * kKeys + lane + 32] = p1;
        if (lane == 0) s.factor[r] = factor;
    }
}

// 3. Skips a weight of zero: its value may belong to a position that this vector must not see.
template <int D, int R, KvType KV>
__device__ __forceinline__ void add_values(const AttnCall& a, const AttnRows& rows, int tile,
                                           PositionRange range, const DecodeShared<D, R>& s,
                                           float (&o)[R][8]) {
    constexpr int kChunks = D / 8, kGroups = decode_groups(D);
    const int group = int(threadIdx.x) / kChunks, chunk = int(threadIdx.x) % kChunks;
    if (group >= kGroups) return;
    const KvTile at(a, rows, tile);
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        const float f = s.factor[r];
        PILLION_UNROLL
        for (int i = 0; i < 8; i++) o[r][i] *= f;
    }
    for (int kk = group; kk < kKeys; kk += kGroups) {
        if (!range.has(tile + kk)) continue;
        const KvRow<KV> v(a.v + at.page, a.v_scale + at.page,
                          size_t(at.slot + kk) * a.n_head_kv + rows.kv_head, D);
        float x[8];
        v.load8(chunk, x);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            const float p = s.score[r * kKeys + kk];
            if (p == 0.0f) continue;
            PILLION_UNROLL
            for (int i = 0; i < 8; i++) o[r][i] = fmaf(p, x[i], o[r][i]);
        }
    }
}

// Adds the groups' sums, one vector at a time. The block's rows are found again: kept through the
// loop they would cost registers that it lacks.
template <int D, int R, int Mine>
__device__ __forceinline__ void write_outputs(const AttnCall& a, const float (&m)[Mine],
                                              const float (&l)[Mine], const float (&o)[R][8],
                                              const DecodeShared<D, R>& s) {
    constexpr int kChunks = D / 8, kGroups = decode_groups(D);
    const int tid = int(threadIdx.x), group = tid / kChunks, chunk = tid % kChunks,
              split = int(blockIdx.x), number = int(blockIdx.z);
    const AttnRows rows = rows_of_block<R>(a, int(blockIdx.y), number);
    const int first = first_of_block<R>(rows, number);
    PILLION_UNROLL
    for (int i = 0; i < Mine; i++) {
        const int r = tid / 32 + i * kWarps;
        if (r < R && tid % 32 == 0) s.max[r] = m[i], s.sum[r] = l[i];
    }
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        __syncthreads();
        if (group < kGroups) {
            PILLION_UNROLL
            for (int i = 0; i < 8; i++) s.out[group * D + chunk * 8 + i] = o[r][i];
        }
        __syncthreads();
        if (first + r >= rows.n_vectors) continue;
        const size_t at = rows.index(first + r);
        const float inverse = s.sum[r] > 0.0f ? 1.0f / s.sum[r] : 0.0f;
        for (int d = tid; d < D; d += kThreads) {
            float sum = s.out[d];
            PILLION_UNROLL
            for (int g = 1; g < kGroups; g++) sum += s.out[g * D + d];
            if (a.n_split == 1) a.out[at * D + d] = sum * inverse;
            else a.part[(at * a.n_split + split) * D + d] = sum;
        }
        if (tid == 0 && a.n_split > 1)
            a.meta[(at * a.n_split + split) * 2] = s.max[r],
                                              a.meta[(at * a.n_split + split) * 2 + 1] = s.sum[r];
    }
}

// Three blocks per multiprocessor. Without the bound the compiler aims for 128 registers and spills
// at R = 8.
template <int D, int R, KvType KV>
__global__ void __launch_bounds__(kThreads, 3) decode_kernel(AttnCall a) {
    constexpr int kMine = (R + kWarps - 1) / kWarps;  // vectors of a warp in step 2
    PILLION_DYNAMIC_SHARED(float, base);
    const DecodeShared<D, R> s(base);
    const int split = int(blockIdx.x), number = int(blockIdx.z);
    const AttnRows rows = rows_of_block<R>(a, int(blockIdx.y), number);
    const int first = first_of_block<R>(rows, number);
    if (first >= rows.n_vectors) return;
    const PositionRange range =
        part_of(rows.seen_by_any(first, R), a.split, rows.first_split(a.split) + split);

    load_queries<D, R>(a, rows, first, s);
    float m[kMine], l[kMine], o[R][8];
    PILLION_UNROLL
    for (int i = 0; i < kMine; i++) m[i] = -INFINITY, l[i] = 0.0f;
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        PILLION_UNROLL
        for (int i = 0; i < 8; i++) o[r][i] = 0.0f;
    }
    for (int tile = range.begin / kKeys * kKeys; tile < range.end; tile += kKeys) {
        __syncthreads();  // queries are loaded, the last tile's weights are read
        score_tile<D, R, KV>(a, rows, tile, range, s);
        __syncthreads();
        update_softmax<D, R>(m, l, s);
        __syncthreads();
        add_values<D, R, KV>(a, rows, tile, range, s, o);
    }
    write_outputs<D, R>(a, m, l, o, s);
}

// Merges a vector's splits in order, only those that it sees: the others would add zeros.
__global__ void __launch_bounds__(kThreads) combine_kernel(AttnCall a) {
    const int row = int(blockIdx.x) / a.n_head;
    if (row >= a.rows.count()) return;
    const AttnRows rows(a, 0, a.rows.find(row, 1, 1, 0));
    const PositionRange seen = rows.seen_by_row(row - rows.begin);
    const int from = rows.first_split(a.split), begin = seen.begin / a.split - from;
    const int end = seen.end > seen.begin ? (seen.end - 1) / a.split - from + 1 : begin;
    const size_t at = blockIdx.x;
    const float* part = a.part + at * a.n_split * a.d;
    const float* meta = a.meta + at * a.n_split * 2;
    float m = -INFINITY;
    for (int s = begin; s < end; s++) m = fmaxf(m, meta[2 * s]);
    float l = 0.0f;
    for (int s = begin; s < end; s++) l = fmaf(rescale(meta[2 * s], m), meta[2 * s + 1], l);
    const float inverse = l > 0.0f ? 1.0f / l : 0.0f;
    for (int i = int(threadIdx.x); i < a.d; i += kThreads) {
        float sum =
            begin < end ? rescale(meta[2 * begin], m) * part[size_t(begin) * a.d + i] : 0.0f;
        for (int s = begin + 1; s < end; s++)
            sum = fmaf(rescale(meta[2 * s], m), part[size_t(s) * a.d + i], sum);
        a.out[at * a.d + i] = sum * inverse;
    }
}

// Calls f with the instance for (d, rows, kv); false if it does not exist.
template <int D, KvType KV, class F>
bool with_rows(int rows, const F& f) {
    switch (rows) {
        case 1: return f(decode_kernel<D, 1, KV>);
        case 2: return f(decode_kernel<D, 2, KV>);
        case 4: return f(decode_kernel<D, 4, KV>);
        case 8: return f(decode_kernel<D, 8, KV>);
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

size_t attn_decode_shared(int d, int rows) {
    // Queries, scores, group sums; factor, maximum, sum and span of each vector.
    return sizeof(float) *
           (size_t(rows) * size_t(d + kKeys + 5) + size_t(decode_groups(d)) * size_t(d));
}

void attn_decode(const AttnPlan& plan, KvType kv, const AttnCall& c, stream_t stream) {
    const dim3 grid(c.n_split, c.n_head_kv, attn_blocks(plan, c.rows, c.n_head / c.n_head_kv));
    const bool known = with_instance(c.d, plan.rows, kv, [&](auto kernel) {
        launch("attn_decode", kernel, grid, dim3(kThreads), plan.shared_bytes, stream, c);
        return true;
    });
    if (!known)
        stream->fail(Status::internal, "attn_decode", "a plan that attn_plan does not make");
}

bool attn_decode_probe(const AttnPlan& plan, KvType kv, int d) {
    return with_instance(d, plan.rows, kv, [&](auto kernel) {
        return can_launch(kernel, kThreads, plan.shared_bytes);
    });
}

void attn_combine(const AttnCall& c, stream_t stream) {
    PILLION_LAUNCH(combine_kernel, dim3(c.rows.bound * c.n_head), dim3(kThreads), 0, stream, c);
}

}  // namespace pillion::cuda
