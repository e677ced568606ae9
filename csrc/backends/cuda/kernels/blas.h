// cuBLAS for long products of F16 and BF16 weights, if the machine has it. It is opened at run
// time, so the module never requires it. It computes the same as matmul_float.cu in another order
// of sums, and therefore never runs the rows of a verification.
#pragma once
#include "backends/cuda/device/runtime.h"
#include "core/dtype.h"

namespace pillion::cuda {

// Below this many rows the weights limit a product, and pillion's own kernel also reads them once.
constexpr int kBlasRows = 64;

struct BlasProduct {
    DType dtype;          // f16 or bf16, of weight and x
    int64_t rows, width;  // of the weight [rows, stride]
    int64_t stride;       // values between rows of weight and x; zero beyond width
    const void* weight;
    const void* x;  // [n, stride]
    int n;
    float* out;  // [n, rows]; with `add` the product is added to it
    bool add;
};

// Enqueues the product. False: this machine has no cuBLAS, and nothing was done. A failing call
// becomes the stream's error.
bool blas_product(const BlasProduct& product, Stream& stream);

}  // namespace pillion::cuda
