// Sizes that host and DSP must agree on: packed weights, quantized activations, caches, scratch of
// an op. Plain C; every function is total: an unknown format has size 0, and products are 64 bits
// wide.
#ifndef PILLION_HTP_SIZES_H
#define PILLION_HTP_SIZES_H

#include "backends/htp/wire/htp_wire.h"
#include "core/contract/kv_lanes.h"

#ifdef __cplusplus
using pillion::kv_head_bytes;
using pillion::KvType;
#endif

static inline uint64_t htp_round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

// --- packed weights: a panel is 32 rows, cut into groups of whole vectors (map in htp_pack.h) ---

static inline int htp_is_float(uint32_t dtype) {
    return dtype == DType_f32 || dtype == DType_f16 || dtype == DType_bf16;
}
// Vectors of scales before a group's codes, and vectors of codes for 32 inputs; 0: no such format.
static inline uint32_t htp_head_vectors(uint32_t dtype) {
    switch (dtype) {
#define HTP_FORMAT(name, head, codes) \
    case DType_##name: return head;
#include "backends/htp/wire/htp_formats.def"
#undef HTP_FORMAT
        default: return 0;
    }
}
static inline uint32_t htp_code_vectors(uint32_t dtype) {
    switch (dtype) {
#define HTP_FORMAT(name, head, codes) \
    case DType_##name: return codes;
#include "backends/htp/wire/htp_formats.def"
#undef HTP_FORMAT
        default: return 0;
    }
}
// Two blocks of 32 inputs or one of 256; of floats what fills the 32-bit lanes of a vector.
static inline uint32_t htp_group_inputs(uint32_t dtype) {
    if (htp_is_float(dtype)) return 4 / format_bytes(dtype);
    if (!htp_head_vectors(dtype)) return 0;
    return format_inputs(dtype) == 32 ? 64 : 256;
}
static inline uint32_t htp_group_bytes(uint32_t dtype) {
    if (htp_is_float(dtype)) return HTP_VECTOR;
    return (htp_head_vectors(dtype) + htp_group_inputs(dtype) / 32 * htp_code_vectors(dtype)) *
           HTP_VECTOR;
}
// What the width of a matrix must be a multiple of: the file's block. 0: the DSP takes no weights
// of this format.
static inline uint32_t htp_block_inputs(uint32_t dtype) {
    return htp_group_inputs(dtype) ? format_inputs(dtype) : 0;
}
static inline uint32_t htp_block_bytes(uint32_t dtype) {
    return htp_group_inputs(dtype) || dtype == DType_i32 ? format_bytes(dtype) : 0;
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

// --- quantized activations: a block is 32 inputs and what belongs to them, so that one pointer
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

// --- caches: core/contract/kv_lanes.h ---

// A cache operand's dtype is f16 or q8_0.
static inline KvType htp_kv_type(uint32_t dtype) {
    return (KvType)(dtype == DType_q8_0 ? KvType_q8_0 : KvType_f16);
}
static inline uint64_t htp_kv_bytes(uint32_t dtype, uint32_t head_dim, uint32_t capacity,
                                    uint32_t n_kv_heads) {
    return kv_head_bytes(htp_kv_type(dtype), head_dim, capacity) * n_kv_heads;
}

// Bytes of one page of an op's cache, and positions of a sequence that it holds at a time.
static inline uint64_t htp_page_bytes(const struct htp_op* op) {
    const struct htp_tensor* t = &op->in[0];
    return htp_kv_bytes(t->dtype, t->width, t->rows, t->depth);
}
static inline uint64_t htp_span(const struct htp_op* op) {
    return (uint64_t)op->in[0].rows * (op->pages.entries ? op->pages.entries : 1);
}
static inline uint64_t htp_table_bytes(const struct htp_pages* p) {
    return p->entries ? 4 * ((uint64_t)(p->sequences - 1) * p->stride + p->entries) : 0;
}

// --- scratch of an op (htp_tiling.scratch_bytes), from its operands, params and tiling.threads and
// rows_at_once ---

enum { HTP_ATTEND_QUERIES = 16 };  // query vectors that share one pass over a cache

// Of one thread: scores [16][256] and three accumulators [16][head_dim rounded up to 64], f32.
static inline uint64_t htp_attend_thread_bytes(uint32_t head_dim) {
    return HTP_ATTEND_QUERIES * 4ull * (KV_SPLIT + 3 * htp_round_up(head_dim, 64));
}
// A sequence whose units would take longer than a thread's share of the op, which needs fewer KV
// heads than threads: partitions of 1024 positions go to different threads, and what each made of a
// query vector waits here to be joined in order: maximum and sum in one vector, then the
// accumulator. As many records as a run needs, up to 8 MB of them; a run that needs more does
// without.
enum { HTP_ATTEND_PARTITION = 4 * KV_SPLIT, HTP_ATTEND_PARTIAL_MAX = 8 << 20 };
static inline uint64_t htp_attend_record_bytes(uint32_t head_dim) {
    return HTP_VECTOR + 4 * htp_round_up(head_dim, 64);
}
static inline uint64_t htp_attend_records(const struct htp_op* op, uint32_t rows_max) {
    const AttendParams p = op->params.attend;
    if ((uint32_t)p.n_kv_heads >= op->tiling.threads) return 0;
    const uint64_t all = (uint64_t)rows_max * (uint32_t)p.n_heads,
                   few = (uint64_t)op->tiling.threads * HTP_ATTEND_QUERIES;
    const uint64_t records = (all < few ? all : few) * (htp_span(op) / HTP_ATTEND_PARTITION + 2);
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
        case Op_matmul:
            return htp_is_float(in[0].dtype)
                       ? 0
                       : op->tiling.rows_at_once * htp_act_row_bytes(in[0].width);
        case Op_attend:
            return op->tiling.threads *
                       htp_attend_thread_bytes((uint32_t)op->params.attend.head_dim) +
                   htp_attend_records(op, rows_max) *
                       htp_attend_record_bytes((uint32_t)op->params.attend.head_dim);
        case Op_moe_matmul: {
            const MoeParams p = op->params.moe;
            const uint64_t inputs = (uint64_t)rows_max * (uint32_t)p.per_row;
            return htp_moe_list_bytes((uint32_t)p.n_experts,
                                      (uint64_t)rows_max * (uint32_t)p.n_used) +
                   (htp_is_float(in[0].dtype) ? 0 : inputs * htp_act_row_bytes(in[0].width));
        }
        case Op_centroid_head: {  // chosen clusters, then activations
            const uint64_t chosen =
                htp_round_up((uint64_t)rows_max * (uint32_t)op->params.centroid_head.n_active * 4,
                             128);
            return chosen +
                   (htp_is_float(in[2].dtype) ? 0 : rows_max * htp_act_row_bytes(in[2].width));
        }
        default: return 0;
    }
}

// Bytes of one fetched chunk (htp_tiling.fetch_bytes) and of the VTCM an op takes.
static inline uint64_t htp_fetch_bytes(uint32_t dtype, uint32_t fetch_groups) {
    return (uint64_t)fetch_groups * htp_group_bytes(dtype);
}
static inline uint64_t htp_vtcm_bytes(const struct htp_tiling* t) {
    return t->fetch_groups ? 2ull * t->threads * t->fetch_bytes : 0;
}

#endif
