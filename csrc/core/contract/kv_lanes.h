// The cache layout "lanes32", in plain C: how the CPU and the Hexagon backend keep the keys and
// values of one KV head, to the byte, so that a CPU drafter reads a cache of the DSP in place.
//
// Keys are lane-packed like weights: the lanes of a vector register are neighbouring positions, so
// that q . k needs no horizontal sum. Values are plain rows: an output dimension is a lane there.
// Slots come in blocks of 32; position p lies in slot p % capacity.
//
//   K f16    block of 32 slots: [head_dim][32] halves
//   K q8_0   block of 32 slots: per 32 dimensions: f16 scale[32 slots], then int8 code[32 dims][32
//            slots]
//   V f16    slot: [head_dim] halves
//   V q8_0   slot: int8 code[padded head_dim], then f16 scale[padded / 32]       padded: head_dim
//            rounded up to 32
//
// A KV head is its keys, then its values, each rounded up to 64 bytes; heads follow each other.
//
// f16: to nearest even, magnitudes above 65504 become 65504 (cpu/body/kv_store.inl has the exact
// rules, NaN included). q8_0: scale = f16(max|x| / 127), code = round-to-nearest-even(x / max|x| *
// 127) as in quantize(), value = f32(scale) * code.
#pragma once
#include <stdint.h>

// KvType::q8_0 in C++ is KvType_q8_0 in C.
#define PILLION_KV_TYPES(X) X(f16) X(q8_0)
enum {
#define PILLION_KV_TYPE(name) KvType_##name,
    PILLION_KV_TYPES(PILLION_KV_TYPE)
#undef PILLION_KV_TYPE
};

enum {
    KV_BLOCK = 32,   // slots of a lane-packed key block
    KV_SPLIT = 256,  // positions of an attention split; capacities are multiples of it, so a split
                     // never wraps
};

#ifdef __cplusplus
namespace pillion {
enum class KvType : uint8_t {
#define PILLION_KV_TYPE(name) name,
    PILLION_KV_TYPES(PILLION_KV_TYPE)
#undef PILLION_KV_TYPE
};
#else
typedef uint8_t KvType;
#endif

static inline uint64_t kv_padded_dim(uint32_t head_dim) {
    return ((uint64_t)head_dim + 31) / 32 * 32;
}
static inline uint64_t kv_k_block_bytes(KvType type, uint32_t head_dim) {
    return (int)type == KvType_f16 ? (uint64_t)head_dim * KV_BLOCK * 2
                                   : kv_padded_dim(head_dim) / 32 * (2 * KV_BLOCK + 32 * KV_BLOCK);
}
static inline uint64_t kv_v_row_bytes(KvType type, uint32_t head_dim) {
    return (int)type == KvType_f16 ? (uint64_t)head_dim * 2 : kv_padded_dim(head_dim) / 32 * 34;
}
static inline uint64_t kv_k_bytes(KvType type, uint32_t head_dim, uint32_t capacity) {
    return (kv_k_block_bytes(type, head_dim) * (capacity / KV_BLOCK) + 63) / 64 * 64;
}
static inline uint64_t kv_v_bytes(KvType type, uint32_t head_dim, uint32_t capacity) {
    return (kv_v_row_bytes(type, head_dim) * capacity + 63) / 64 * 64;
}
static inline uint64_t kv_head_bytes(KvType type, uint32_t head_dim, uint32_t capacity) {
    return kv_k_bytes(type, head_dim, capacity) + kv_v_bytes(type, head_dim, capacity);
}

#ifdef __cplusplus
}  // namespace pillion
#endif
