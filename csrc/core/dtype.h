// Number formats of tensors: those of contract/formats.def, whose numbers are GGUF's type ids.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion {

enum class DType : uint32_t {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) name = number,
#include "core/contract/formats.def"
#undef PILLION_FORMAT
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
// Of a type that is not known: "unknown", neither float nor quantized, blocks without bytes.
const DTypeInfo& info(DType dtype);

// Bytes of `n` contiguous values; n must be a multiple of the block.
inline size_t row_bytes(DType dtype, int64_t n) {
    const DTypeInfo& i = info(dtype);
    return size_t(n / i.block) * size_t(i.block_bytes);
}

}  // namespace pillion
