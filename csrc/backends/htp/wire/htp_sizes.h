// Sizes that host and DSP must agree on: packed weights, quantised activations, caches, scratch of
// an op. Plain C; every function is total: an unknown format has size 0, and products are 64 bits
// wide.
#ifndef PILLION_HTP_SIZES_H
#define PILLION_HTP_SIZES_H

#include "backends/htp/wire/htp_wire.h"

static inline uint64_t htp_round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

// --- packed weights: a panel is 32 rows, cut into groups of whole vectors (map in htp_pack.h) ---

static inline uint32_t htp_group_inputs(uint32_t dtype) {
    switch (dtype) {
        case HTP_F32: return 1;
        case HTP_F16:
        case HTP_BF16: return 2;
        case HTP_Q4_0:
        case HTP_Q4_1:
        case HTP_Q5_0:
        case HTP_Q5_1:
        case HTP_Q8_0:
        case HTP_IQ4_NL: return 64;
        case HTP_MXFP4_X:
        case HTP_NVFP4_X: return 64;
        case HTP_Q2_K:
        case HTP_Q3_K:
        case HTP_Q4_K:
        case HTP_Q5_K:
        case HTP_Q6_K:
        case HTP_IQ4_XS: return 256;
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X:
        case HTP_IQ2_X:
        case HTP_IQ1_X:
        case HTP_TQ2_0: return 256;
        default: return 0;
    }
}
static inline uint32_t htp_group_bytes(uint32_t dtype) {
    switch (dtype) {
        case HTP_F32:
        case HTP_F16:
        case HTP_BF16: return HTP_VECTOR;
        case HTP_Q4_0:
        case HTP_IQ4_NL:
        case HTP_MXFP4_X: return 9 * HTP_VECTOR;
        case HTP_Q4_1:
        case HTP_NVFP4_X: return 10 * HTP_VECTOR;
        case HTP_Q5_0: return 11 * HTP_VECTOR;
        case HTP_Q5_1: return 12 * HTP_VECTOR;
        case HTP_Q8_0:
        case HTP_TQ2_0: return 17 * HTP_VECTOR;
        case HTP_Q2_K: return 21 * HTP_VECTOR;
        case HTP_Q3_K: return 28 * HTP_VECTOR;
        case HTP_IQ2_X:
        case HTP_IQ1_X: return 27 * HTP_VECTOR;
        case HTP_IQ4_XS:
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: return 34 * HTP_VECTOR;
        case HTP_Q4_K: return 36 * HTP_VECTOR;
        case HTP_Q5_K: return 44 * HTP_VECTOR;
        case HTP_Q6_K: return 53 * HTP_VECTOR;
        default: return 0;
    }
}
// What the width of a matrix must be a multiple of: the file's block.
static inline uint32_t htp_block_inputs(uint32_t dtype) {
    switch (dtype) {
        case HTP_F32:
        case HTP_F16:
        case HTP_BF16: return 1;
        case HTP_Q4_0:
        case HTP_Q4_1:
        case HTP_Q5_0:
        case HTP_Q5_1:
        case HTP_Q8_0:
        case HTP_IQ4_NL: return 32;
        case HTP_MXFP4_X:
        case HTP_NVFP4_X: return 32;
        case HTP_Q2_K:
        case HTP_Q3_K:
        case HTP_Q4_K:
        case HTP_Q5_K:
        case HTP_Q6_K:
        case HTP_IQ4_XS: return 256;
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X:
        case HTP_IQ2_X:
        case HTP_IQ1_X:
        case HTP_TQ2_0: return 256;
        default: return 0;
    }
}
static inline uint32_t htp_block_bytes(uint32_t dtype) {
    switch (dtype) {
        case HTP_F32:
        case HTP_I32: return 4;
        case HTP_F16:
        case HTP_BF16: return 2;
        case HTP_Q4_0:
        case HTP_IQ4_NL:
        case HTP_MXFP4_X: return 18;
        case HTP_Q4_1:
        case HTP_NVFP4_X: return 20;
        case HTP_Q5_0: return 22;
        case HTP_Q5_1: return 24;
        case HTP_Q8_0: return 34;
        case HTP_TQ2_0: return 66;
        case HTP_Q2_K: return 84;
        case HTP_IQ2_X:
        case HTP_IQ1_X: return 106;
        case HTP_Q3_K: return 110;
        case HTP_IQ3_XXS_X:
        case HTP_IQ3_S_X: return 134;
        case HTP_IQ4_XS: return 136;
        case HTP_Q4_K: return 144;
        case HTP_Q5_K: return 176;
        case HTP_Q6_K: return 210;
        default: return 0;
    }
}
static inline int htp_is_float(uint32_t dtype) {
    return dtype == HTP_F32 || dtype == HTP_F16 || dtype == HTP_BF16;
}

static inline uint64_t htp_groups(uint32_t dtype, uint32_t inputs) {
    const uint32_t per = htp_group_inputs(dtype);
    return per ? ((uint64_t)inputs + per - 1) / per : 0;
}
static inline uint64_t htp_panel_bytes(uint32_t dtype, uint32_t inputs) {
    return htp_groups(dtype, inputs) * htp_group_bytes(dtype);
}
static inline uint64_t htp_panels(uint64_t rows) { return (rows + HTP_PANEL - 1) / HTP_PANEL; }
// One matrix; a stack of experts is depth times this.
static inline uint64_t htp_packed_bytes(uint32_t dtype, uint32_t inputs, uint64_t rows) {
    return htp_panels(rows) * htp_panel_bytes(dtype, inputs);
}

// --- quantised activations: a block is 32 inputs and what belongs to them, so that one pointer
// walks along a row ---

struct htp_act_block {  // top = max |x| of the block; rules in dsp/ops/quantize.c
    int8_t q[32];
    float d;                // x = d * q
    float d_sum;            // d * sum(q)
    int32_t sum, sum_high;  // sum(q) over the block, and over its inputs 16..31
};
HTP_ASSERT(sizeof(struct htp_act_block) == 48, "sizes: activations");
static inline uint64_t htp_act_row_bytes(uint32_t inputs) {
    return htp_round_up((uint64_t)inputs / 32 * sizeof(struct htp_act_block), 128);
}

// --- caches: the CPU backend's layout to the byte (backends/cpu/kv_layout.h), so that a CPU
// drafter reads them in place ---
//   K f16    block of 32 slots: [head_dim][32] halves
//   K q8_0   block of 32 slots: per 32 dimensions: f16 scale[32 slots], then int8 code[32 dims][32
//            slots]
//   V f16    slot: [head_dim] halves
//   V q8_0   slot: int8 code[padded head_dim], then f16 scale[padded / 32]       padded: head_dim
//            rounded up to 32
// A KV head is its keys, then its values, each rounded up to 64 bytes; heads follow each other.
// Position p lies in slot p % capacity.

enum { HTP_KV_BLOCK = 32, HTP_KV_SPLIT = 256 /* capacities are multiples of it */ };

static inline uint64_t htp_kv_padded(uint32_t head_dim) {
    return ((uint64_t)head_dim + 31) / 32 * 32;
}
static inline uint64_t htp_kv_k_block_bytes(uint32_t dtype, uint32_t head_dim) {
    return dtype == HTP_F16 ? (uint64_t)head_dim * 64 : htp_kv_padded(head_dim) / 32 * (64 + 1024);
}
static inline uint64_t htp_kv_v_row_bytes(uint32_t dtype, uint32_t head_dim) {
    return dtype == HTP_F16 ? (uint64_t)head_dim * 2 : htp_kv_padded(head_dim) / 32 * 34;
}
static inline uint64_t htp_kv_k_bytes(uint32_t dtype, uint32_t head_dim, uint32_t capacity) {
    return htp_round_up(htp_kv_k_block_bytes(dtype, head_dim) * (capacity / 32), 64);
}
static inline uint64_t htp_kv_v_bytes(uint32_t dtype, uint32_t head_dim, uint32_t capacity) {
    return htp_round_up(htp_kv_v_row_bytes(dtype, head_dim) * capacity, 64);
}
static inline uint64_t htp_kv_bytes(uint32_t dtype, uint32_t head_dim, uint32_t capacity,
                                    uint32_t n_kv_heads) {
    return (htp_kv_k_bytes(dtype, head_dim, capacity) + htp_kv_v_bytes(dtype, head_dim, capacity)) *
           n_kv_heads;
}

// --- scratch of an op (htp_tiling.scratch_bytes), from its operands, params and tiling.threads and
// rows_at_once ---

enum { HTP_ATTEND_QUERIES = 16 };  // query vectors that share one pass over a cache

// Of one thread: scores [16][256] and three accumulators [16][head_dim rounded up to 64], f32.
static inline uint64_t htp_attend_thread_bytes(uint32_t head_dim) {
    return HTP_ATTEND_QUERIES * 4ull * (HTP_KV_SPLIT + 3 * htp_round_up(head_dim, 64));
}
// Fewer KV heads than threads: pieces of 1024 positions ("supers") go to different threads, and
// what each made of a query vector waits here to be joined in order: maximum and sum in one vector,
// then the accumulator. As many records as a run needs, up to 8 MB of them; a run that needs more
// does without.
enum { HTP_SUPER = 4 * HTP_KV_SPLIT, HTP_ATTEND_PARTIAL_MAX = 8 << 20 };
static inline uint64_t htp_attend_record_bytes(uint32_t head_dim) {
    return HTP_VECTOR + 4 * htp_round_up(head_dim, 64);
}
static inline uint64_t htp_attend_records(const struct htp_op* op, uint32_t rows_max) {
    const struct htp_attend_params p = op->params.attend;
    if ((uint32_t)p.n_kv_heads >= op->tiling.threads) return 0;
    const uint64_t all = (uint64_t)rows_max * (uint32_t)p.n_heads,
                   few = (uint64_t)op->tiling.threads * HTP_ATTEND_QUERIES;
    const uint64_t records = (all < few ? all : few) * (op->in[0].rows / HTP_SUPER + 2);
    const uint64_t most = HTP_ATTEND_PARTIAL_MAX / htp_attend_record_bytes((uint32_t)p.head_dim);
    return records < most ? records : most;
}
// The pairs of a run sorted by expert: count, experts, begins, counters, pairs.
static inline uint64_t htp_moe_list_bytes(uint32_t n_experts, uint64_t n_pairs) {
    return htp_round_up((2 + 3ull * n_experts + n_pairs) * 4, 128);
}

static inline uint64_t htp_scratch_bytes(const struct htp_op* op, uint32_t rows_max) {
    const struct htp_tensor* in = op->in;
    switch (op->code) {
        case HTP_OP_MATMUL:
            return htp_is_float(in[0].dtype)
                       ? 0
                       : op->tiling.rows_at_once * htp_act_row_bytes(in[0].width);
        case HTP_OP_ATTEND:
            return op->tiling.threads *
                       htp_attend_thread_bytes((uint32_t)op->params.attend.head_dim) +
                   htp_attend_records(op, rows_max) *
                       htp_attend_record_bytes((uint32_t)op->params.attend.head_dim);
        case HTP_OP_MOE_MATMUL: {
            const struct htp_moe_params p = op->params.moe;
            const uint64_t inputs = (uint64_t)rows_max * (uint32_t)p.per_row;
            return htp_moe_list_bytes((uint32_t)p.n_experts,
                                      (uint64_t)rows_max * (uint32_t)p.n_used) +
                   (htp_is_float(in[0].dtype) ? 0 : inputs * htp_act_row_bytes(in[0].width));
        }
        case HTP_OP_CENTROID_HEAD: {  // chosen clusters, then activations
            const uint64_t chosen =
                htp_round_up((uint64_t)rows_max * (uint32_t)op->params.centroid.n_active * 4, 128);
            return chosen +
                   (htp_is_float(in[2].dtype) ? 0 : rows_max * htp_act_row_bytes(in[2].width));
        }
        default: return 0;
    }
}

// Bytes of one fetched piece (htp_tiling.fetch_bytes) and of the VTCM an op takes.
static inline uint64_t htp_fetch_bytes(uint32_t dtype, uint32_t fetch_groups) {
    return (uint64_t)fetch_groups * htp_group_bytes(dtype);
}
static inline uint64_t htp_vtcm_bytes(const struct htp_tiling* t) {
    return t->fetch_groups ? 2ull * t->threads * t->fetch_bytes : 0;
}

#endif
