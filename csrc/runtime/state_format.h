// The layout of a saved state, version 1 (docs/saved_state.md). Little-endian, without padding:
//
//   StateHeader
//   StateStore   [n_stores]    the layers that own a cache
//   StateImage   [n_images]    0: the cache as it was; then copies of the sliding layers' rings
//   i32          [n_tokens]    the text
//   i32          [n_accepted]  what the sampler was told
//   StateMedium  [n_media]     what the ids below 0 in the text are rows of
//   rows                       by image, store (copies: sliding ones only), strip (core/tensor.h),
//                              block of KV_BLOCK positions
//
// The rows of an image are those of positions [first, end) of sliding layers and [0, end) of full
// ones, in whole blocks. What a last block has behind `end` is not defined.
#pragma once
#include <stdint.h>

namespace pillion {

constexpr char kStateMagic[8] = {'P', 'I', 'L', 'L', 'S', 'T', 'A', 'T'};
constexpr uint32_t kStateVersion = 1;
constexpr uint32_t kStateByteOrder = 0x01020304;
constexpr uint64_t kStateAcceptedMost = uint64_t(1) << 24;

struct StateHeader {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint32_t header_bytes;
    uint32_t header_crc;  // CRC-32 of the header with this field 0
    uint32_t front_crc;   // of what is between header and rows, so that it can be trusted first
    uint32_t rows_crc;
    uint64_t file_bytes;
    char architecture[32];  // filled up with zeros
    uint64_t fingerprint;   // model/fingerprint.h
    int32_t n_layers, n_embd, n_vocab, window;
    uint32_t n_stores, n_images;
    uint64_t n_tokens, prompt_end;
    uint64_t n_accepted, drawn, seed;  // of the sampler; 0 without one
    uint32_t has_sampler;
    uint32_t block_slots;
    uint32_t kv_type;  // KvType_*
    uint32_t n_media;
    uint32_t reserved[24];  // zeros
};
static_assert(sizeof(StateHeader) == 256, "no padding");

struct StateStore {
    int32_t layer, n_kv_heads, head_dim, is_sliding;
    char layout[16];       // Backend::kv_layout(), filled up with zeros
    uint64_t block_bytes;  // of all strips
    uint64_t reserved;     // zero
};
static_assert(sizeof(StateStore) == 48, "no padding");

// Row i has id first - i in the text.
struct StateMedium {
    int32_t first, n_rows;
    uint32_t is_block;
    uint32_t reserved;  // zero
    uint8_t digest[32];
};
static_assert(sizeof(StateMedium) == 48, "no padding");

struct StateImage { uint64_t first, end; };
static_assert(sizeof(StateImage) == 16, "no padding");

}  // namespace pillion
