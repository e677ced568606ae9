#include "backends/htp/dsp/ops/ops.h"
#include "backends/htp/dsp/workers.h"

const dsp_op dsp_ops[Op_count] = {
#define HTP_KERNEL(name) [Op_##name] = op_##name,
#include "backends/htp/wire/htp_kernels.def"
#undef HTP_KERNEL
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
};  // of a chunk: some hundred packets of the cheapest op, a multiple of what F32_ROW takes at once

struct chunks_task {
    struct op_run* r;
    op_chunk each;
    uint32_t width, chunks;
};
static void chunks_part(void* args, unsigned part, unsigned parts) {
    const struct chunks_task* t = args;
    const uint32_t all = (uint32_t)t->r->n * t->chunks, end = part_begin(all, part + 1, parts);
    for (uint32_t i = part_begin(all, part, parts); i < end; i++) {
        const uint32_t begin = i % t->chunks * COLUMNS, left = t->width - begin;
        t->each(t->r, (int32_t)(i / t->chunks), begin, left < COLUMNS ? left : COLUMNS);
    }
}
void op_chunks(struct op_run* r, uint32_t width, op_chunk each) {
    struct chunks_task t = {r, each, width, (width + COLUMNS - 1) / COLUMNS};
    const uint64_t all = (uint64_t)(uint32_t)r->n * t.chunks;
    workers_run(chunks_part, &t,
                all < r->op->tiling.threads ? (unsigned)all : r->op->tiling.threads);
}
