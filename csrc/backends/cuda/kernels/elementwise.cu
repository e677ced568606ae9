// Ops that handle every value by itself, and ops that only move rows. One thread per value: grid
// (rows, columns / 256).
#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/ops.h"

namespace pillion::cuda {
namespace {

constexpr int kThreads = 256;

// Calls f(row, column) for each value of the rows of a run.
template <class F>
__global__ void __launch_bounds__(kThreads) each_kernel(F f, int width, RunRows rows) {
    const int row = int(blockIdx.x), column = int(blockIdx.y) * kThreads + int(threadIdx.x);
    if (row < rows.count() && column < width) f(row, column);
}

template <class F>
void each(const char* name, const F& f, int width, RunRows rows, stream_t stream) {
    launch(name, each_kernel<F>, dim3(rows.bound, (width + kThreads - 1) / kThreads),
           dim3(kThreads), 0, stream, f, width, rows);
}

struct Scale {
    const float* x;
    float s;
    float* y;
    int width;
    __device__ void operator()(int row, int i) const {
        y[size_t(row) * width + i] = x[size_t(row) * width + i] * s;
    }
};

struct Add {
    const float *a, *b;
    float* y;
    int width;
    __device__ void operator()(int row, int i) const {
        const size_t at = size_t(row) * width + i;
        y[at] = a[at] + b[at];
    }
};

struct Softcap {
    float* x;
    float cap;
    int width;
    __device__ void operator()(int row, int i) const {
        float& v = x[size_t(row) * width + i];
        v = cap * tanhf(v / cap);
    }
};

struct Concat {
    const float *a, *b;
    float* y;
    int width_a, width_b;
    __device__ void operator()(int row, int i) const {
        y[size_t(row) * (width_a + width_b) + i] =
            i < width_a ? a[size_t(row) * width_a + i] : b[size_t(row) * width_b + i - width_a];
    }
};

// The last rows of the run, as 32-bit words of any type.
struct Gather {
    const uint32_t* x;
    uint32_t* y;
    int width;
    RunRows rows;
    __device__ void operator()(int row, int i) const {
        y[size_t(row) * width + i] = x[size_t(rows.first() + row) * width + i];
    }
};

struct Copy {
    const uint32_t* x;
    uint32_t* y;
    int width;
    __device__ void operator()(int row, int i) const {
        y[size_t(row) * width + i] = x[size_t(row) * width + i];
    }
};

__device__ __forceinline__ float silu(float x) {
    x = -128.0f > x ? -128.0f : x;
    return x / (1.0f + expf(-x));
}
// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
__device__ __forceinline__ float gelu_tanh(float x) {
    x = -64.0f > x ? -64.0f : x;
    return x / (1.0f + expf(-x * fmaf(x * x, 0.0713548139f, 1.59576917f)));
}

struct Glu {
    const float *gate, *up;
    int64_t gate_stride, up_stride;
    int part;                // values of a group
    int gate_step, up_step;  // between groups
    bool is_silu;
    float* y;
    int width;
    __device__ void operator()(int row, int i) const {
        const int group = i / part, at = i % part;
        const float g = gate[row * gate_stride + group * gate_step + at],
                    u = up[row * up_stride + group * up_step + at];
        y[size_t(row) * width + i] = (is_silu ? silu(g) : gelu_tanh(g)) * u;
    }
};

}  // namespace

void scale(const float* x, float s, float* y, int width, RunRows rows, stream_t stream) {
    each("scale", Scale{x, s, y, width}, width, rows, stream);
}

void add(const float* a, const float* b, float* y, int width, RunRows rows, stream_t stream) {
    each("add", Add{a, b, y, width}, width, rows, stream);
}

void softcap(float* x, float cap, int width, RunRows rows, stream_t stream) {
    each("softcap", Softcap{x, cap, width}, width, rows, stream);
}

void concat(const float* a, int width_a, const float* b, int width_b, float* y, RunRows rows,
            stream_t stream) {
    each("concat", Concat{a, b, y, width_a, width_b}, width_a + width_b, rows, stream);
}

void glu(const GluParams& p, const float* gate, const float* up, int width_up, float* y, int width,
         RunRows rows, stream_t stream) {
    const bool is_silu = p.activation == Activation::silu;
    if (p.groups > 0) {
        const int part = width / p.groups;
        each("glu",
             Glu{gate, gate + part, 2 * int64_t(width), 2 * int64_t(width), part, 2 * part,
                 2 * part, is_silu, y, width},
             width, rows, stream);
    } else {
        each("glu", Glu{gate, up + p.up_offset, width, width_up, width, 0, 0, is_silu, y, width},
             width, rows, stream);
    }
}

void gather_rows(const float* x, float* y, int width, RunRows rows, stream_t stream) {
    each("gather_rows",
         Gather{reinterpret_cast<const uint32_t*>(x), reinterpret_cast<uint32_t*>(y), width, rows},
         width, rows, stream);
}

void copy_rows(const float* x, float* y, int width, RunRows rows, stream_t stream) {
    each("copy_rows",
         Copy{reinterpret_cast<const uint32_t*>(x), reinterpret_cast<uint32_t*>(y), width}, width,
         rows, stream);
}

}  // namespace pillion::cuda
