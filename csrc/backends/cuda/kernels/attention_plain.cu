// Attention for every even head size: scores, softmax and product in their plainest form, one block
// per query vector and split. Slow; it runs head sizes that the other kernels lack.
#include "backends/cuda/device/reduce.h"
#include "backends/cuda/kernels/attention_common.h"

namespace pillion::cuda {
namespace {

// Also the positions of a tile: a thread scores one.
constexpr int kThreads = 128;
// Output columns of a thread: head sizes up to 1024.
constexpr int kColumns = 8;

template <KvType KV>
__global__ void __launch_bounds__(kThreads) plain_kernel(AttnCall a) {
    PILLION_DYNAMIC_SHARED(float, base);
    PILLION_SHARED(float, shared, kThreads / 32);
    const smem<float> q = base, weight = base + a.d;
    const int tid = int(threadIdx.x), split = int(blockIdx.x), number = int(blockIdx.z);
    const AttnRows rows = rows_of_block<1>(a, int(blockIdx.y), number);
    const int vector = first_of_block<1>(rows, number);
    if (vector >= rows.n_vectors) return;
    const size_t at = rows.index(vector);
    const PositionRange range =
        part_of(rows.seen(vector), a.split, rows.first_split(a.split) + split);
    for (int i = tid; i < a.d; i += kThreads) q[i] = a.q[at * a.d + i];

    float m = -INFINITY, l = 0.0f, o[kColumns] = {};
    for (int tile = range.begin / kThreads * kThreads; tile < range.end; tile += kThreads) {
        __syncthreads();  // q is loaded, the last tile's weights are read
        const int p = tile + tid;
        float s = -INFINITY;
        const KvTile place(a, rows, tile);
        if (range.has(p)) {
            const KvRow<KV> k(a.k + place.page, a.k_scale + place.page,
                              size_t(place.slot + tid) * a.n_head_kv + rows.kv_head, a.d);
            float sum = 0.0f;
            for (int i = 0; i < a.d; i++) sum = fmaf(q[i], k.at(i), sum);
            s = soft_cap(sum * a.scale, a.softcap);
        }
        const float top = fmaxf(m, block_max<kThreads>(s, shared));
        const float w = s == -INFINITY ? 0.0f : __expf(s - top), factor = rescale(m, top);
        weight[tid] = w;
        l = fmaf(l, factor, block_sum<kThreads>(w, shared));
        m = top;
        PILLION_UNROLL
        for (int c = 0; c < kColumns; c++) o[c] *= factor;
        for (int kk = max(range.begin - tile, 0); kk < min(range.end - tile, kThreads); kk++) {
            const float x = weight[kk];
            if (x == 0.0f) continue;
            const KvRow<KV> v(a.v + place.page, a.v_scale + place.page,
                              size_t(place.slot + kk) * a.n_head_kv + rows.kv_head, a.d);
            PILLION_UNROLL
            for (int c = 0; c < kColumns; c++)
                if (tid + c * kThreads < a.d) o[c] = fmaf(x, v.at(tid + c * kThreads), o[c]);
        }
    }
    const float inverse = l > 0.0f ? 1.0f / l : 0.0f;
    PILLION_UNROLL
    for (int c = 0; c < kColumns; c++) {
        const int i = tid + c * kThreads;
        if (i >= a.d) continue;
        if (a.n_split == 1) a.out[at * a.d + i] = o[c] * inverse;
        else a.part[(at * a.n_split + split) * a.d + i] = o[c];
    }
    if (tid == 0 && a.n_split > 1)
        a.meta[(at * a.n_split + split) * 2] = m, a.meta[(at * a.n_split + split) * 2 + 1] = l;
}

}  // namespace

size_t attn_plain_shared(int d) { return sizeof(float) * (size_t(d) + kThreads); }

void attn_plain(const AttnPlan& plan, KvType kv, const AttnCall& c, stream_t stream) {
    const dim3 grid(c.n_split, c.n_head_kv, attn_blocks(plan, c.rows, c.n_head / c.n_head_kv));
    if (kv == KvType::q8_0)
        PILLION_LAUNCH(plain_kernel<KvType::q8_0>, grid, dim3(kThreads), plan.shared_bytes, stream,
                       c);
    else
        PILLION_LAUNCH(plain_kernel<KvType::f16>, grid, dim3(kThreads), plan.shared_bytes, stream,
                       c);
}

}  // namespace pillion::cuda
