// Entry points of the worked kernels. Every function enqueues on `stream` and returns.
#pragma once

#include "backends/cuda/device/host.h"

namespace pillion::cuda {

// ---- RMS norm: y[r][i] = x[r][i] / sqrt(mean(x[r]^2) + eps) * w[i]; w may be null --------------
void rms_norm(const float * x, const float * w, float * y, int rows, int n, float eps, stream_t stream);

// ---- Q4_0 x Q8_1 -------------------------------------------------------------------------------
struct BlockQ4_0 {              // 32 weights: value = d * (nibble - 8)
    half    d;
    uint8_t qs[16];             // low nibbles: elements 0..15, high nibbles: elements 16..31
};
struct BlockQ8_1 {              // 32 activations: value = ds.x * q
    half2  ds;                  // scale, scale * sum(q)
    int8_t qs[32];
};
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ8_1) == 36, "block layout");

void quantize_q8_1(const float * x, BlockQ8_1 * y, int rows, int n, stream_t stream);
// y[c][r] = W[r] . x[c]; x has `cols` <= 8 rows of n / 32 blocks
void matvec_q4_0(const BlockQ4_0 * w, const BlockQ8_1 * x, float * y, int rows, int n, int cols, stream_t stream);
// 8-bit tensor-core product of one 16 x k by k x 8 tile, an example for mma_s8
void tile_product_s8(const int8_t * a, const int8_t * b, int * c, int k, stream_t stream);

// ---- flash attention ---------------------------------------------------------------------------
enum class KvType { f16, q8_0 };

// Device pointers and sizes of one attention call.
//   q    [n_tokens][n_head][d]              float
//   k, v [n_kv][n_head_kv][d]               half, or int8 with one half scale per 32 values
//   dst  [n_tokens][n_head][d]              float
//   kv_pos[n_kv]   position stored in a cache cell, -1: empty cell
//   q_pos[n_tokens]
// A cell is visible to a query when 0 <= kv_pos <= q_pos, and kv_pos > q_pos - window when window > 0.
struct AttnArgs {
    const float * q;
    const void  * k;
    const void  * v;
    const half  * k_scale;      // q8_0 only: [n_kv][n_head_kv][ceil(d / 32)]
    const half  * v_scale;
    const int   * kv_pos;
    const int   * q_pos;
    float       * dst;
    float       * part;         // [n_tokens * n_head][n_split][d], only for n_split > 1
    float2      * meta;         // [n_tokens * n_head][n_split]: row maximum, row sum
    int   n_tokens, n_head, n_head_kv, n_kv;
    int   n_split;
    int   window;
    float scale, softcap;       // softcap 0: none
};

struct AttnShape {
    int d, n_head, n_head_kv, n_tokens, n_kv;
    KvType kv;
};

enum class AttnKernel { none, decode, tile };

struct AttnPlan {
    AttnKernel   kernel = AttnKernel::none;
    int          rows   = 0;            // query rows (token, head of group) of one block
    int          n_split = 1;           // parts of the KV range computed by separate blocks
    size_t       shared_bytes = 0;
    size_t       scratch_floats = 0;    // part, then meta (two floats each)
    const char * reason = "";           // why there is no kernel
};

// The planner asks this before it chooses flash attention; kernel == none means: use the plain
// attention path. attn_run accepts every plan whose kernel is not none.
AttnPlan attn_plan(const AttnShape & shape, const DeviceLimits & limits);
inline bool attn_supports(const AttnShape & s, const DeviceLimits & l) { return attn_plan(s, l).kernel != AttnKernel::none; }

void attn_run(const AttnShape & shape, const AttnPlan & plan, AttnArgs args, float * scratch, stream_t stream);

// used by attn_run
size_t attn_decode_shared(int d, int rows);
size_t attn_tile_shared(int d, int rows);
void attn_decode(const AttnShape & shape, const AttnPlan & plan, const AttnArgs & args, stream_t stream);
void attn_tile(const AttnShape & shape, const AttnPlan & plan, const AttnArgs & args, stream_t stream);
void attn_combine(const AttnShape & shape, const AttnArgs & args, stream_t stream);

}  // namespace pillion::cuda
