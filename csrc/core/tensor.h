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
    int32_t capacity = 0;  // slots in all, a multiple of kKvCapacityUnit
    // Slots of a page, a multiple of kKvCapacityUnit that divides capacity; 0: all of them. A page
    // is laid out as a cache of that capacity; page n lies n * kv_page_bytes behind the first.
    int32_t page = 0;

    int32_t page_slots() const { return page > 0 ? page : capacity; }
    int32_t n_pages() const { return page > 0 ? capacity / page : 1; }
    KvSpec one_page() const { return {type, n_kv_heads, head_dim, page_slots(), 0}; }
};
// Backends read the cache in aligned pieces of up to this many positions.
constexpr int32_t kKvCapacityUnit = KV_SPLIT;

// A part of a store of one page where the bytes of each block of KV_BLOCK slots lie together: the
// keys of a head, the values, their scales. Block b is at `offset` of the store + b * block_bytes.
// Layouts of one name have the same strips, in one order.
struct KvStrip { size_t offset, block_bytes; };

// Which page of a store a sequence's positions lie in: i32 [sequences][stride], of which a store
// reads `entries` from `offset` bytes on. Runs read the table as it is when they begin.
struct KvTable {
    Buffer* buffer = nullptr;  // of kind `state`; null: the store is one page, of one sequence
    size_t offset = 0;
    int32_t stride = 0, entries = 0;
};

// Position p of the sequence with table row t lies in page table[t][p / page % entries], slot
// p % page. Without a table it lies in slot p % capacity.
struct KvStore {
    KvSpec spec;
    Buffer* buffer = nullptr;
    size_t offset = 0;
    KvTable table;

    // Positions that a sequence's table names at a time.
    int32_t span() const {
        return table.buffer ? spec.page_slots() * table.entries : spec.capacity;
    }
};

}  // namespace pillion
