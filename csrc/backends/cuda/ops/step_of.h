// A step of one kernel.
#pragma once
#include "backends/cuda/cuda_steps.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {

inline const float* floats(const uint8_t* p) { return reinterpret_cast<const float*>(p); }
inline float* floats(uint8_t* p) { return reinterpret_cast<float*>(p); }
inline int32_t* ints(uint8_t* p) { return reinterpret_cast<int32_t*>(p); }

// A step of one kernel that wants the rows of its node.
template <class F>
Step step_of(const StepArgs& a, const char* kernel, const F& f) {
    Step step;
    step.kernel = kernel;
    const Rows kind = a.node.rows;
    const StepState* state = a.state;
    step.enqueue = [=](const Bounds& b, stream_t stream) {
        if (b.count(kind) > 0) f(run_rows(state, kind, b), stream);
    };
    return step;
}

inline int width_of(const StepArgs& a, Value v) { return int(a.graph.value(v).width); }

}  // namespace pillion::cuda
