// Routing lists: sorts the (row, slot) pairs of a run by expert and cuts them into tiles, so that
// an expert's weights are read once for all rows that chose it. One block; a warp counts and places
// the pairs of every 32nd expert, in order, without atomics.
#include "backends/cuda/kernels/matmul_kernels.h"

namespace pillion::cuda {

constexpr int kThreads = 1024, kWarps = kThreads / 32;

// Calls f(pair, number of earlier pairs of this expert) for the pairs of `expert` and returns their
// number. All lanes of a warp call it together.
template <class Put>
static __device__ __forceinline__ int each_pair(const int32_t* ids, int n_pairs, int expert,
                                                Put put) {
    const int lane = int(threadIdx.x) % 32;
    int seen = 0;
    for (int base = 0; base < n_pairs; base += 32) {
        const int pair = base + lane;
        const bool mine = pair < n_pairs && ids[pair] == expert;
        const unsigned all = __ballot_sync(PILLION_FULL_MASK, mine);
        if (mine) put(pair, seen + __popc(all & ((1u << lane) - 1)));
        seen += __popc(all);
    }
    return seen;
}

static __global__ void __launch_bounds__(kThreads)
    moe_group_kernel(const int32_t* ids, int32_t* lists, int n_experts, int n_used, int tile,
                     int tiles_max, RowCount count) {
    PILLION_SHARED(int, begin, kExpertsMax + 1);
    const int warp = int(threadIdx.x) / 32, n_pairs = rows_now(count.count, count.max, 1) * n_used;
    for (int e = warp; e < n_experts; e += kWarps) {
        const int n = each_pair(ids, n_pairs, e, [](int, int) {});
        if (threadIdx.x % 32 == 0) begin[e] = n;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int at = 0, tiles = 0;
        for (int e = 0; e < n_experts; e++) {
            const int n = begin[e];
            begin[e] = at;
            for (int first = 0; first < n; first += tile) {
                int32_t* t = lists + 1 + MoeLists::kTileWords * tiles++;
                t[0] = e, t[1] = at + first, t[2] = min(tile, n - first);
            }
            at += n;
        }
        lists[0] = tiles;
    }
    __syncthreads();
    int32_t* pairs = lists + 1 + MoeLists::kTileWords * tiles_max;
    for (int e = warp; e < n_experts; e += kWarps) {
        const int at = begin[e];
        each_pair(ids, n_pairs, e, [&](int pair, int before) { pairs[at + before] = pair; });
    }
}

void moe_group(const MoeShape& shape, const int32_t* ids, void* lists, RowCount rows,
               stream_t stream) {
    PILLION_LAUNCH(moe_group_kernel, dim3(1), dim3(kThreads), 0, stream, ids,
                   static_cast<int32_t*>(lists), shape.n_experts, shape.n_used,
                   moe_tile(shape, rows.max), moe_tiles_max(shape, rows.max), rows);
}

}  // namespace pillion::cuda
