// The end of a round on the device: how many drafts the target agreed with, and the hidden row the next round starts from. One block; the
// first warp compares, a lane a draft.
#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 256;
static_assert(PILLION_STEP_TOKENS_MAX <= 32, "a lane a draft");

__global__ void __launch_bounds__(kThreads) accept_kernel(AcceptArgs a) {
    PILLION_SHARED(int, agreed, 1);
    const int i = int(threadIdx.x), n = min(max(a.state->draft_count, 0), PILLION_STEP_TOKENS_MAX - 1);
    int32_t pick = 0;
    if (i < 32) {
        pick = i <= n ? a.picks[i] : 0;
        const bool agrees = i < n && a.drafts[i] == pick;
        const unsigned mask = __ballot_sync(PILLION_FULL_MASK, agrees);
        // Ones from bit 0 on: the carry of + 1 stops at the first draft that is wrong.
        if (i == 0) agreed[0] = __popc(mask & ~(mask + 1));
    }
    __syncthreads();    // also: all drafts are read, which may lie where the tokens go
    const int m = agreed[0];
    if (i <= m) a.state->tokens[i] = pick;
    if (i == 0) a.state->accepted = m, a.state->hidden_row = m;
    for (int j = i; j < a.width; j += kThreads) a.row[j] = a.hidden[size_t(m) * size_t(a.width) + size_t(j)];
}

}  // namespace

void accept(const AcceptArgs& args, stream_t stream) { PILLION_LAUNCH(accept_kernel, dim3(1), dim3(kThreads), 0, stream, args); }

}  // namespace pillion::cuda
