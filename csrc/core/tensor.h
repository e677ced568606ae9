// Plain views that own nothing: a tensor in a Buffer, and the key/value store of one layer.
#pragma once
#include "core/buffer.h"
#include "core/contract/kv_lanes.h"
#include "core/dtype.h"

namespace pillion {

enum class Layout : uint8_t {
    rows,    // as in the file: row after row, width contiguous
    packed,  // the backend's own layout; only that backend reads it
};

struct Tensor {  // [depth, rows, width]
    DType dtype = DType::f32;
    Layout layout = Layout::rows;
    int64_t width = 0;
    int64_t rows = 0;
    int64_t depth = 1;
    Buffer* buffer = nullptr;
    size_t offset = 0;

    explicit operator bool() const { return buffer != nullptr; }
    uint8_t* host() const { return buffer->host() + offset; }
};

struct KvSpec {
    KvType type = KvType::f16;
    int32_t n_kv_heads = 0;
    int32_t head_dim = 0;
    // slots, a multiple of kKvCapacityUnit; position p lives in slot p % capacity
    int32_t capacity = 0;
};
// Backends read the cache in aligned pieces of up to this many positions.
constexpr int32_t kKvCapacityUnit = KV_SPLIT;

// A part of a store where the bytes of each block of KV_BLOCK slots lie together: the keys of a
// head, the values, their scales. Block b is at `offset` of the store + b * block_bytes. Layouts of
// one name have the same strips, in one order.
struct KvStrip { size_t offset, block_bytes; };

struct KvStore {
    KvSpec spec;
    Buffer* buffer = nullptr;
    size_t offset = 0;
};

}  // namespace pillion
