// cuBLAS for long products of F16 and BF16 weights, where the machine has it: opened at run time,
// so that the module needs it nowhere. What it computes is what tile_float computes, in another
// order of sums, so it is never asked for the rows of a verification.
#pragma once
#include "backends/cuda/device/runtime.h"
#include "core/dtype.h"

namespace pillion::cuda {

// Below this many rows a product is bound by its weights, which our own kernel reads once, too.
constexpr int kBlasRows = 64;

struct BlasProduct {
    DType dtype;          // f16 or bf16, of weight and x
    int64_t rows, width;  // of the weight [rows, stride]
    int64_t stride;       // values between rows of weight and x; beyond width they are zero
    const void* weight;
    const void* x;  // [n, stride]
    int n;
    float* out;  // [n, rows]; with `add` the product is added to it
    bool add;
};

// Enqueues it. False: this machine has no cuBLAS, nothing was done. A failing call becomes the
// stream's error.
bool blas_product(const BlasProduct& product, Stream& stream);

}  // namespace pillion::cuda
