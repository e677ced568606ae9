// Attention over the cache: which kernel runs a shape, and its launch. Plain C++.
//
// Query vectors that share a KV head are numbered row * gqa + head in group, so a block of vectors
// is full for every ratio of heads. Masks are arithmetic: position p lives in slot p % capacity,
// and a row sees one stretch of positions. Kernels step through positions in tiles whose ends are
// multiples of the tile, and parts of the range ("splits") end at multiples of their size; so a
// row's sums run in an order that depends on its own position alone.
//
// Rows keep their bits however many run beside them as long as the kernel stays the same: runs of
// up to kDecodeTokens rows take `decode` (or `plain`), which has one order for every number of
// vectors per block; longer runs take `tile`.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/device/runtime.h"
#include "backends/cuda/kernels/run_rows.h"
#include "core/tensor.h"

namespace pillion::cuda {

constexpr int kDecodeTokens = 16;  // a token and its drafts, and room
constexpr int kSplitMin = 128;  // positions: below that a block's start weighs more than its work
constexpr int kSplitsMax = 64;

enum class AttnKernel { none, decode, tile, plain };

struct AttnShape {
    int d, n_head, n_head_kv;
    int n_tokens;     // at most so many rows
    int n_positions;  // and the last of them stands below this
    int window;       // 0: none
    int capacity;     // of the cache
    KvType kv;
    bool plain = false;  // not to be tiled, whatever the shape
};

struct AttnPlan {
    AttnKernel kernel = AttnKernel::none;
    int rows = 0;     // query vectors of one block
    int split = 0;    // positions of one; 0: one block walks all of them
    int n_split = 1;  // the most a run touches
    size_t shared_bytes = 0;
    size_t scratch_floats = 0;
    const char* reason = "";  // why there is no kernel
};

// One function answers both "is there a kernel" and "which", so the answers can't disagree.
AttnPlan attn_plan(const AttnShape& shape, const DeviceLimits& limits);

// Device pointers and numbers of one call.
struct AttnArgs {
    const float* q;        // [rows, n_head, d]
    float* out;            // the same
    const uint8_t* store;  // kv_layout.h
    float* scratch;        // AttnPlan::scratch_floats
    KvSpec spec;
    int n_head;
    int window, past_only;  // core/op.h: AttendParams
    float scale, softcap;   // softcap 0: none
};
void attn_run(const AttnPlan& plan, const AttnArgs& args, RunRows rows, stream_t stream);

// Whether the device runs every instance that attn_plan may choose for this head size and cache
// type; asked once per layer kind, when a plan is compiled, outside of captures.
bool attn_probe(const AttnPlan& plan, const AttnShape& shape);

// --- for attn_run and attn_plan ---
size_t attn_decode_shared(int d, int rows);
size_t attn_tile_shared(int d, int rows);
size_t attn_plain_shared(int d);

// What the kernels get: AttnArgs, taken apart.
struct AttnCall {
    const float* q;
    float* out;
    const void *k, *v;
    const void *k_scale, *v_scale;
    float* part;  // [vectors, n_split, d], vectors numbered row * n_head + head
    float* meta;  // [vectors, n_split, 2]: maximum and sum
    RunRows rows;
    int d, n_head, n_head_kv, capacity;
    int split, n_split;
    int window, past_only;
    float scale, softcap;
};
void attn_decode(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_tile(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_plain(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_combine(const AttnCall& call, stream_t stream);
bool attn_decode_probe(const AttnPlan& plan, KvType kv, int d);
bool attn_tile_probe(const AttnPlan& plan, KvType kv, int d);

}  // namespace pillion::cuda
