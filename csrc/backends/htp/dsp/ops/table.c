#include "backends/htp/dsp/ops/ops.h"
#include "backends/htp/dsp/workers.h"

const dsp_op dsp_ops[HTP_OP_COUNT] = {
    [HTP_OP_EMBED] = op_embed,
    [HTP_OP_PER_LAYER_EMBED] = op_per_layer_embed,
    [HTP_OP_ROPE_TABLE] = op_rope_table,
    [HTP_OP_SCALE] = op_scale,
    [HTP_OP_ADD] = op_add,
    [HTP_OP_NORM] = op_norm,
    [HTP_OP_NORM_ADD] = op_norm_add,
    [HTP_OP_MATMUL] = op_matmul,
    [HTP_OP_QKV_NORM_ROPE] = op_qkv_norm_rope,
    [HTP_OP_KV_STORE] = op_kv_store,
    [HTP_OP_ATTEND] = op_attend,
    [HTP_OP_GLU] = op_glu,
    [HTP_OP_MOE_ROUTE] = op_moe_route,
    [HTP_OP_MOE_MATMUL] = op_moe_matmul,
    [HTP_OP_MOE_SUM] = op_moe_sum,
    [HTP_OP_GATHER_ROWS] = op_gather_rows,
    [HTP_OP_SOFTCAP] = op_softcap,
    [HTP_OP_ARGMAX] = op_argmax,
    [HTP_OP_CONCAT] = op_concat,
    [HTP_OP_CENTROID_HEAD] = op_centroid_head,
};

struct rows_task {
    struct op_run* r;
    op_row each;
};
static void rows_part(void* args, unsigned part, unsigned parts) {
    const struct rows_task* t = args;
    const int32_t end = (int32_t)part_begin((uint32_t)t->r->n, part + 1, parts);
    for (int32_t row = (int32_t)part_begin((uint32_t)t->r->n, part, parts); row < end; row++)
        t->each(t->r, row);
}
void op_rows(struct op_run* r, op_row each) {
    struct rows_task t = {r, each};
    const unsigned n = (unsigned)r->n, threads = r->op->tiling.threads;
    workers_run(rows_part, &t, n < threads ? n : threads);
}

enum {
    COLUMNS = 1024
};  // of a piece: some hundred packets of the cheapest op, a multiple of what F32_ROW takes at once

struct pieces_task {
    struct op_run* r;
    op_piece each;
    uint32_t width, pieces;
};
static void pieces_part(void* args, unsigned part, unsigned parts) {
    const struct pieces_task* t = args;
    const uint32_t all = (uint32_t)t->r->n * t->pieces, end = part_begin(all, part + 1, parts);
    for (uint32_t i = part_begin(all, part, parts); i < end; i++) {
        const uint32_t begin = i % t->pieces * COLUMNS, left = t->width - begin;
        t->each(t->r, (int32_t)(i / t->pieces), begin, left < COLUMNS ? left : COLUMNS);
    }
}
void op_pieces(struct op_run* r, uint32_t width, op_piece each) {
    struct pieces_task t = {r, each, width, (width + COLUMNS - 1) / COLUMNS};
    const uint64_t all = (uint64_t)(uint32_t)r->n * t.pieces;
    workers_run(pieces_part, &t,
                all < r->op->tiling.threads ? (unsigned)all : r->op->tiling.threads);
}
