// The formats of formats.def as numbers, in plain C. C has DType_q4_k for what is DType::q4_k in
// C++ (core/dtype.h).
#pragma once
#include <stdint.h>

enum {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) DType_##name = number,
#include "core/contract/formats.def"
#undef PILLION_FORMAT
};

// Values of a block, and its bytes; 0: no format has this number.
static inline uint32_t format_inputs(uint32_t dtype) {
    switch (dtype) {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) \
    case number: return inputs;
#include "core/contract/formats.def"
#undef PILLION_FORMAT
        default: return 0;
    }
}
static inline uint32_t format_bytes(uint32_t dtype) {
    switch (dtype) {
#define PILLION_FORMAT(name, label, number, inputs, bytes, kind, block) \
    case number: return bytes;
#include "core/contract/formats.def"
#undef PILLION_FORMAT
        default: return 0;
    }
}
