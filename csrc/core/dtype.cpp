#include "core/dtype.h"

namespace pillion {
namespace {
constexpr DTypeInfo kTypes[] = {
    {DType::f32, "F32", 1, 4, false},
    {DType::f16, "F16", 1, 2, false},
    {DType::bf16, "BF16", 1, 2, false},
    {DType::q4_0, "Q4_0", 32, 18, true},
    {DType::q4_1, "Q4_1", 32, 20, true},
    {DType::q5_0, "Q5_0", 32, 22, true},
    {DType::q5_1, "Q5_1", 32, 24, true},
    {DType::q8_0, "Q8_0", 32, 34, true},
    {DType::q2_k, "Q2_K", 256, 84, true},
    {DType::q3_k, "Q3_K", 256, 110, true},
    {DType::q4_k, "Q4_K", 256, 144, true},
    {DType::q5_k, "Q5_K", 256, 176, true},
    {DType::q6_k, "Q6_K", 256, 210, true},
    {DType::iq4_nl, "IQ4_NL", 32, 18, true},
    {DType::iq4_xs, "IQ4_XS", 256, 136, true},
    {DType::i8, "I8", 1, 1, false},
    {DType::i16, "I16", 1, 2, false},
    {DType::i32, "I32", 1, 4, false},
    {DType::i64, "I64", 1, 8, false},
    {DType::f64, "F64", 1, 8, false},
    {DType::iq1_s, "IQ1_S", 256, 50, true},
    {DType::iq1_m, "IQ1_M", 256, 56, true},
    {DType::iq2_xxs, "IQ2_XXS", 256, 66, true},
    {DType::iq2_xs, "IQ2_XS", 256, 74, true},
    {DType::iq2_s, "IQ2_S", 256, 82, true},
    {DType::iq3_xxs, "IQ3_XXS", 256, 98, true},
    {DType::iq3_s, "IQ3_S", 256, 110, true},
    {DType::tq1_0, "TQ1_0", 256, 54, true},
    {DType::tq2_0, "TQ2_0", 256, 66, true},
    {DType::mxfp4, "MXFP4", 32, 17, true},
    {DType::nvfp4, "NVFP4", 64, 36, true},
    {DType::mxfp4_x, "MXFP4_X", 32, 18, true},
    {DType::nvfp4_x, "NVFP4_X", 32, 20, true},
    {DType::iq3_xxs_x, "IQ3_XXS_X", 256, 134, true},
    {DType::iq3_s_x, "IQ3_S_X", 256, 134, true},
    {DType::iq2_x, "IQ2_X", 256, 106, true},
    {DType::iq1_x, "IQ1_X", 256, 106, true},
};
// No bytes: nothing that goes by it reads any.
constexpr DTypeInfo kUnknown = {DType(UINT32_MAX), "unknown", 1, 0, false};
constexpr uint32_t kFirstOfNoFile = 200;

const DTypeInfo* find(uint32_t type) {
    for (const DTypeInfo& t : kTypes)
        if (uint32_t(t.dtype) == type) return &t;
    return nullptr;
}
}  // namespace

const DTypeInfo* find_dtype(uint32_t gguf_type) {
    return gguf_type < kFirstOfNoFile ? find(gguf_type) : nullptr;
}

const DTypeInfo& info(DType dtype) {
    const DTypeInfo* found = find(uint32_t(dtype));
    return found ? *found : kUnknown;
}

}  // namespace pillion
