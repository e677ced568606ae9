// Rows of f32 to the blocks of a format; core/expand.h reads them back. The plain formats round as
// the reference does (bit-equal to the gguf package); the K formats, and the plain ones when there
// are weights, search the scale that loses least.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"

namespace pillion {

bool can_encode(DType dtype);  // f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k

// n: a multiple of the format's block. weights: [n], how much an error in each input counts, or
// null.
void encode_row(DType dtype, const float* x, const float* weights, int64_t n, uint8_t* out);

}  // namespace pillion
