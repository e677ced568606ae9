// Sums and maxima over a block. The number of threads alone decides the order: lanes of a warp as a
// tree, then the warps one after the other. Every thread gets the result. `shared` holds one number
// per warp; two calls in a row may share it.
#pragma once
#include "backends/cuda/device/device.h"

namespace pillion::cuda {

template <int Threads>
static __device__ __forceinline__ float block_sum(float v, smem<float> shared) {
    v = warp_sum(v);
    __syncthreads();  // earlier reads of `shared` are done
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = shared[0];
    PILLION_UNROLL
    for (int i = 1; i < Threads / 32; i++) sum += shared[i];
    return sum;
}

template <int Threads>
static __device__ __forceinline__ float block_max(float v, smem<float> shared) {
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    float most = shared[0];
    PILLION_UNROLL
    for (int i = 1; i < Threads / 32; i++) most = fmaxf(most, shared[i]);
    return most;
}

// The best of the candidates (score, key): the highest score, the lowest key among equals. A key
// below 0 is not a candidate.
struct Best {
    float score;
    int key, at;  // `at` belongs to the winner

    __device__ __forceinline__ bool loses_to(const Best& o) const {
        return o.key >= 0 && (key < 0 || o.score > score || (o.score == score && o.key < key));
    }
};
static __device__ __forceinline__ Best warp_best(Best b) {
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1) {
        const Best other = {__shfl_xor_sync(PILLION_FULL_MASK, b.score, o, 32),
                            __shfl_xor_sync(PILLION_FULL_MASK, b.key, o, 32),
                            __shfl_xor_sync(PILLION_FULL_MASK, b.at, o, 32)};
        if (b.loses_to(other)) b = other;
    }
    return b;
}
template <int Threads>
static __device__ __forceinline__ Best block_best(Best b, smem<Best> shared) {
    b = warp_best(b);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = b;
    __syncthreads();
    b = shared[0];
    for (int i = 1; i < Threads / 32; i++)
        if (b.loses_to(shared[i])) b = shared[i];
    return b;
}

}  // namespace pillion::cuda
