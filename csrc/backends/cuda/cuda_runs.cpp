#include "backends/cuda/cuda_runs.h"

#include <string.h>

#include <algorithm>

#include "backends/cuda/kernels/attention.h"
#include "core/error_boundary.h"

namespace pillion::cuda {
namespace {

constexpr size_t kReplaysMax = 64;

int power_of_two(int n, int least = 1) {
    while (least < n) least *= 2;
    return least;
}

// The next of the row counts that runs of several sequences are captured for.
int rounded_rows(int n) {
    for (const int rows : {0, 1, 2, 3, 4, 6, 9, 12})
        if (n <= rows) return rows;
    return kDecodeTokens;
}

int rounded_segments(int n) {
    int segments = 1;
    while (segments < n) segments *= 4;
    return segments;
}

}  // namespace

CudaPlan::CudaPlan(CudaQueue& queue, const Graph& graph)
    : queue_(queue), limits_(graph), tables_(graph),
      segments_max_(std::min(graph.rows_max(), int(PILLION_SEGMENTS_MAX))), replays_(kReplaysMax) {}

CudaPlan::~CudaPlan() {
    if (pending_) (void)wait();  // launches may still read what goes away now
}

Result<void> CudaPlan::run(const StepState& state) {
    if (const Result<void> fits = limits_.check(state); !fits) return fits;
    if (pending_)
        if (const Result<void> waited = wait(); !waited) return waited;
    cancelled_ = queue_.cancel.load();
    if (cancelled_) return ok();  // wait() says so
    const Result<Stream*> stream = queue_.stream();
    if (!stream) return stream.failure();
    memcpy(host_state_->host(), &state, sizeof state);
    if (const Result<void> packed = tables_.pack(state, records(host_state_->host())); !packed)
        return packed;
    pending_ = true;
    return to_result([&] {  // a new replay takes memory
        enqueue_run(**stream, bounds_of(state));
        return ok();
    });
}

Result<void> CudaPlan::wait() {
    if (cancelled_) return Failure(Status::cancelled, "cancelled");
    pending_ = false;
    const Result<Stream*> stream = queue_.stream();
    if (!stream) return stream.failure();
    return (*stream)->wait();
}

std::vector<StepInfo> CudaPlan::steps() const {
    std::vector<StepInfo> all;
    for (const Step& s : steps_) all.push_back({s.op, s.layer, "cuda", s.kernel});
    return all;
}

// Lengths in powers of two, so that a captured run serves a while. A run of one sequence has its
// own rows exactly; among those of several, a captured run serves all that are a little smaller.
Bounds CudaPlan::bounds_of(const StepState& state) const {
    int positions = 0, longest = 0;
    for (int i = 0; i < state.n_segments; i++) {
        const Segment& s = state.segments[i];
        positions = std::max(positions, s.pos + s.n_rows);
        longest = std::max(longest, s.n_rows);
    }
    positions = power_of_two(positions, 256);
    if (state.n_segments == 1 || state.rows > kDecodeTokens)
        return {state.rows, state.out_rows, positions, state.n_segments, longest};
    const int rows = std::min(rounded_rows(state.rows), limits_.rows);
    return {rows, std::min({rounded_rows(state.out_rows), limits_.out_rows, rows}), positions,
            std::min(rounded_segments(state.n_segments), segments_max_),
            std::min(power_of_two(longest), rows)};
}

// A launcher's complaint must not leave a capture open.
void CudaPlan::enqueue(Stream& stream, const Bounds& bounds) const {
    stream.copy(device_state_->device(), host_state_->host(), state_bytes(bounds.segments));
    for (const Step& s : steps_) {
        if (stream.failed()) return;
        try {
            s.enqueue(bounds, &stream);
        } catch (const std::exception& e) {
            stream.fail(Status::internal, info(s.op).name, e.what());
        }
    }
}

void CudaPlan::enqueue_run(Stream& stream, const Bounds& bounds) {
    if (bounds.rows > kDecodeTokens) return enqueue(stream, bounds);
    const Replay* replay = replays_.find(bounds);
    if (!replay) {
        Replay::begin(stream);
        enqueue(stream, bounds);
        replay = replays_.add(bounds, Replay::end(stream));
    }
    if (replay) replay->launch(stream);
}

}  // namespace pillion::cuda
