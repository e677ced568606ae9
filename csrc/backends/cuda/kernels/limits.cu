#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/limits.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* data, size_t n, uint32_t* sums) {
    uint32_t sum = 0;
    for (size_t i = size_t(blockIdx.x) * kThreads + threadIdx.x; i < n;
         i += size_t(gridDim.x) * kThreads) {
        const uint4 v = data[i];
        sum += v.x ^ v.y ^ v.z ^ v.w;
    }
    PILLION_UNROLL
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(PILLION_FULL_MASK, sum, o, 32);
    if (threadIdx.x % 32 == 0) sums[blockIdx.x * (kThreads / 32) + threadIdx.x / 32] = sum;
}

}  // namespace

Result<void> check_code(int index, const DeviceInfo& device) {
    const Result<std::unique_ptr<Stream>> stream = Stream::create(index);  // makes it current
    if (!stream) return stream.failure();
    probe_code(read_kernel, stream->get());
    const Result<void> found = (*stream)->wait();
    if (found || found.failure().code() != Status::unsupported_op) return found;
    return Failure(Status::no_backend,
                   "this module has no code for %s (compute capability %d.%d): build it with "
                   "-C cmake.define.CMAKE_CUDA_ARCHITECTURES=%d%d (%s)",
                   device.name, device.major, device.minor, device.major, device.minor,
                   found.failure().sentence());
}

void read_all(const uint8_t* bytes, size_t n, uint32_t* sums, int sm_count, stream_t stream) {
    PILLION_LAUNCH(read_kernel, dim3(sm_count * kReadBlocksPerSm), dim3(kThreads), 0, stream,
                   reinterpret_cast<const uint4*>(bytes), n / 16, sums);
}

}  // namespace pillion::cuda
