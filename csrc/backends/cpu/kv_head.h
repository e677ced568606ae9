// One KV head of a page of a cache, for the store and attend kernels. Layout:
// core/contract/kv_lanes.h.
#pragma once
#include <stddef.h>

#include "core/contract/kv_lanes.h"

namespace pillion::cpu {

struct KvHead {
    uint8_t* k;  // 64-byte aligned
    uint8_t* v;
    int32_t capacity;  // slots of the page; position p lives in slot p % capacity
    int32_t head_dim;
    KvType type;
};

}  // namespace pillion::cpu
