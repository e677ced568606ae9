#include "core/dtype.h"

namespace pillion {
namespace {
constexpr DTypeInfo kTypes[] = {
    {DType::f32, "F32", 1, 4, false},        {DType::f16, "F16", 1, 2, false},
    {DType::bf16, "BF16", 1, 2, false},      {DType::q4_0, "Q4_0", 32, 18, true},
    {DType::q4_1, "Q4_1", 32, 20, true},     {DType::q5_0, "Q5_0", 32, 22, true},
    {DType::q5_1, "Q5_1", 32, 24, true},     {DType::q8_0, "Q8_0", 32, 34, true},
    {DType::q2_k, "Q2_K", 256, 84, true},    {DType::q3_k, "Q3_K", 256, 110, true},
    {DType::q4_k, "Q4_K", 256, 144, true},   {DType::q5_k, "Q5_K", 256, 176, true},
    {DType::q6_k, "Q6_K", 256, 210, true},   {DType::iq4_nl, "IQ4_NL", 32, 18, true},
    {DType::iq4_xs, "IQ4_XS", 256, 136, true}, {DType::i8, "I8", 1, 1, false},
    {DType::i16, "I16", 1, 2, false},        {DType::i32, "I32", 1, 4, false},
    {DType::i64, "I64", 1, 8, false},        {DType::f64, "F64", 1, 8, false},
};
// No bytes: nothing that goes by it reads any.
constexpr DTypeInfo kUnknown = {DType(UINT32_MAX), "unknown", 1, 0, false};
}  // namespace

const DTypeInfo* find_dtype(uint32_t gguf_type) {
    for (const DTypeInfo& t : kTypes)
        if (uint32_t(t.dtype) == gguf_type) return &t;
    return nullptr;
}

const DTypeInfo& info(DType dtype) {
    const DTypeInfo* found = find_dtype(uint32_t(dtype));
    return found ? *found : kUnknown;
}

}  // namespace pillion
