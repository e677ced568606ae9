#include "core/dtype.h"

namespace pillion {
namespace {
constexpr bool PLAIN = false, SCALED = true, EXPANDED = true;
constexpr DTypeInfo kTypes[] = {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) \
    {DType::name, #label, inputs, bytes, kind},
#include "core/contract/formats.def"
#undef PILLION_FORMAT
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
