// Number formats of tensors. The enum's values are GGUF's type ids, so a file's number is checked
// and cast, never mapped.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion {

enum class DType : uint32_t {
    f32 = 0,
    f16 = 1,
    q4_0 = 2,
    q4_1 = 3,
    q5_0 = 6,
    q5_1 = 7,
    q8_0 = 8,
    q2_k = 10,
    q3_k = 11,
    q4_k = 12,
    q5_k = 13,
    q6_k = 14,
    iq2_xxs = 16,
    iq2_xs = 17,
    iq3_xxs = 18,
    iq1_s = 19,
    iq4_nl = 20,
    iq3_s = 21,
    iq2_s = 22,
    iq4_xs = 23,
    i8 = 24,
    i16 = 25,
    i32 = 26,
    i64 = 27,
    f64 = 28,
    iq1_m = 29,
    bf16 = 30,
    tq1_0 = 34,
    tq2_0 = 35,
    mxfp4 = 39,
    nvfp4 = 40,
    // What some of these become in memory (core/expand.h). In no file; the numbers fit in a byte.
    mxfp4_x = 200,
    nvfp4_x = 201,
    iq3_xxs_x = 202,
    iq3_s_x = 203,
    iq2_x = 204,
    iq1_x = 205,
};

struct DTypeInfo {
    DType dtype;
    const char* name;  // as in the field: "Q4_K"
    int block;         // values per block along the contiguous dimension
    int block_bytes;
    bool is_quantized;
};

// nullptr: a GGUF type id that pillion does not know, or a number that stands in no file.
const DTypeInfo* find_dtype(uint32_t gguf_type);
// Of a type that is not known: "unknown", neither float nor quantised, blocks without bytes.
const DTypeInfo& info(DType dtype);

// Bytes of `n` contiguous values; n must be a multiple of the block.
inline size_t row_bytes(DType dtype, int64_t n) {
    const DTypeInfo& i = info(dtype);
    return size_t(n / i.block) * size_t(i.block_bytes);
}

}  // namespace pillion
