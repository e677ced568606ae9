// How the CPU backend keeps keys and values of one KV head. Shared by the store and attend kernels
// and the cache's size function.
//
// Keys are lane-packed like weights: the lanes of a vector register are neighbouring positions, so
// that q . k needs no horizontal sum. Values are plain rows: an output dimension is a lane there.
// Slots come in blocks of 32.
//
//   K f16    block of 32 slots: [head_dim][32] halves
//   K q8_0   block of 32 slots: per 32 dimensions: f16 scale[32 slots], then int8 code[32 dims][32
//            slots]
//   V f16    slot: [head_dim] halves
//   V q8_0   slot: int8 code[padded head_dim], then f16 scale[padded / 32]       padded: head_dim
//            rounded up to 32
//
// f16: to nearest even, magnitudes above 65504 become 65504 (body/kv_store.inl has the exact rules,
// NaN included). q8_0: scale = f16(max|x| / 127), code = round-to-nearest-even(x / max|x| * 127) as
// in quantize(), value = f32(scale) * code.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion::cpu {

constexpr int kKvBlock = 32;  // slots per lane-packed key block
constexpr int kKvSplit =
    256;  // positions per attention split; capacities are multiples of it, so a split never wraps

enum class KvFormat : int { f16, q8_0 };

struct KvHead {
    uint8_t* k;  // 64-byte aligned
    uint8_t* v;
    int32_t capacity;  // slots; position p lives in slot p % capacity
    int32_t head_dim;
    KvFormat format;
};

inline size_t kv_padded_dim(int head_dim) { return (size_t(head_dim) + 31) / 32 * 32; }
inline size_t kv_k_block_bytes(KvFormat f, int head_dim) {
    return f == KvFormat::f16 ? size_t(head_dim) * kKvBlock * 2
                              : kv_padded_dim(head_dim) / 32 * (2 * kKvBlock + 32 * kKvBlock);
}
inline size_t kv_v_row_bytes(KvFormat f, int head_dim) {
    return f == KvFormat::f16 ? size_t(head_dim) * 2
                              : kv_padded_dim(head_dim) + kv_padded_dim(head_dim) / 32 * 2;
}
// Bytes of one KV head, keys then values, each rounded up to 64.
inline size_t kv_k_bytes(KvFormat f, int head_dim, int64_t capacity) {
    return (kv_k_block_bytes(f, head_dim) * size_t(capacity / kKvBlock) + 63) / 64 * 64;
}
inline size_t kv_v_bytes(KvFormat f, int head_dim, int64_t capacity) {
    return (kv_v_row_bytes(f, head_dim) * size_t(capacity) + 63) / 64 * 64;
}

}  // namespace pillion::cpu
