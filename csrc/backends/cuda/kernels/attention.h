// Attention over the cache: chooses the kernel for a shape, and launches it. Plain C++.
//
// Query vectors that share a KV head are numbered row * gqa + head in group, so a block of vectors
// is full for every ratio of heads; a block's vectors belong to one segment of the run. Masks are
// arithmetic: a row sees one contiguous span of its sequence's positions. Kernels step through
// positions in tiles whose ends are multiples of the tile. Parts of the range ("splits") end at
// multiples of their size. The order of a row's sums therefore depends only on its own position.
//
// As long as the kernel stays the same, a row's bits do not depend on the rows beside it. Runs of
// up to kDecodeTokens rows use `decode` (or `plain`), which has one order for every number of
// vectors per block; longer runs use `tile`, and so do all runs of an op whose rows see ahead.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cuda/device/runtime.h"
#include "backends/cuda/kernels/run_rows.h"
#include "backends/cuda/kv_layout.h"
#include "core/tensor.h"

namespace pillion::cuda {

// A token, its drafts, and some room.
constexpr int kDecodeTokens = 16;
// In positions; below it a block's start costs more than its work.
constexpr int kSplitMin = 128;
constexpr int kSplitsMax = 64;

enum class AttnKernel { none, decode, tile, plain };

struct AttnShape {
    int d, n_head, n_head_kv;
    int n_tokens;     // most rows of a run
    int n_positions;  // the last row stands below this position
    int window;       // 0: no window
    int span;         // positions that a sequence's part of the cache holds: KvStore::span()
    KvType kv;
    bool plain = false;       // use the plain kernel for every shape
    int n_segments = 1;       // most of a run
    int n_longest = 0;        // most rows of a segment; 0: n_tokens
    bool sees_ahead = false;  // some rows see later ones (AttnArgs::until)

    int longest() const { return n_longest > 0 ? n_longest : n_tokens; }
};

struct AttnPlan {
    AttnKernel kernel = AttnKernel::none;
    int rows = 0;     // query vectors of one block
    int split = 0;    // positions of one split; 0: one block walks all of them
    int n_split = 1;  // most splits that a run touches
    size_t shared_bytes = 0;
    size_t scratch_floats = 0;
    const char* reason = "";  // why no kernel fits
};

// One function answers both "is there a kernel" and "which", so the two answers always agree.
AttnPlan attn_plan(const AttnShape& shape, const DeviceLimits& limits);

// Device pointers and numbers of one call.
struct AttnArgs {
    const float* q;        // [rows, n_head, d]
    float* out;            // the same
    const uint8_t* store;  // kv_layout.h
    float* scratch;        // AttnPlan::scratch_floats
    KvSpec spec;
    KvPages pages;
    int n_head;
    int window, past_only;  // core/op.h: AttendParams
    float scale, softcap;   // softcap 0: no cap
    const int32_t* until;   // [rows], see Graph::attend; null: none
};
void attn_run(const AttnPlan& plan, const AttnArgs& args, RunRows rows, stream_t stream);

// True if the device runs every instance that attn_plan may choose for this head size and cache
// type. Called once per kind of layer when a plan is compiled, outside of captures.
bool attn_probe(const AttnPlan& plan, const AttnShape& shape);

// --- shared by attn_run and attn_plan ---
size_t attn_decode_shared(int d, int rows);
size_t attn_tile_shared(int d, int rows);
size_t attn_plain_shared(int d);

// How many blocks of `size` vectors the segments of a run need at most. Segment i's begin at
// (vectors before it) / size + i, so each has room for its last, partly filled block.
inline int64_t attn_blocks(int64_t vectors, int size, int segments) {
    return segments > 1 ? vectors / size + segments : (vectors + size - 1) / size;
}
inline unsigned attn_blocks(const AttnPlan& plan, const RunRows& rows, int gqa) {
    return unsigned(attn_blocks(int64_t(rows.bound) * gqa, plan.rows, rows.segments));
}

// The kernels' arguments: the parts of AttnArgs.
struct AttnCall {
    const float* q;
    float* out;
    const uint8_t *k, *v, *k_scale, *v_scale;  // of the first page
    KvPages pages;
    // [vectors, n_split, d]; vectors are numbered row * n_head + head
    float* part;
    float* meta;  // [vectors, n_split, 2]: maximum and sum
    RunRows rows;
    int d, n_head, n_head_kv;
    int split, n_split;
    int window, past_only;
    float scale, softcap;
    const int32_t* until;  // by row of the run; null: none
};
void attn_decode(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_tile(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_plain(const AttnPlan& plan, KvType kv, const AttnCall& call, stream_t stream);
void attn_combine(const AttnCall& call, stream_t stream);
bool attn_decode_probe(const AttnPlan& plan, KvType kv, int d);
bool attn_tile_probe(const AttnPlan& plan, KvType kv, int d);

}  // namespace pillion::cuda
