// What a run may rely on beside its plan. The host's state and tables are looked at once, before
// the first op: a run with a wrong page is refused and has written nothing.
#include "backends/htp/dsp/run_check.h"

#include <stdlib.h>
#include <string.h>

#include "backends/htp/dsp/ops/segments.h"

enum { POSITIONS_MAX = 1 << 30 };

// Layers of a kind have one table and look at the same positions: one of them is checked.
static int reaches_the_same(const struct htp_op* a, const struct htp_op* b) {
    return a->code == b->code && a->rows == b->rows && a->in[0].rows == b->in[0].rows &&
           !memcmp(&a->pages, &b->pages, sizeof a->pages) &&
           (a->code != Op_attend || (a->params.attend.window == b->params.attend.window &&
                                     a->params.attend.past_only == b->params.attend.past_only));
}

int collect_paged(struct dsp_plan* p) {
    enum { LOOK_BACK = 8 };  // more than a model has kinds of layers
    p->paged = malloc((p->n_ops + 1) * sizeof *p->paged);
    if (!p->paged) return -1;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct htp_op* op = &p->ops[i];
        int is_known = !op->pages.entries;
        for (uint32_t k = p->n_paged; k-- > 0 && k + LOOK_BACK >= p->n_paged && !is_known;)
            is_known = reaches_the_same(op, &p->ops[p->paged[k]]);
        if (!is_known) p->paged[p->n_paged++] = i;
    }
    return 0;
}

const int32_t* table_of(const struct dsp_buffer* buffers, const struct htp_op* op) {
    if (!op->pages.entries) return 0;
    return (const int32_t*)(buffers[op->pages.buffer].base + op->pages.offset);
}

static int check_segments(const PillionStepState* state, struct dsp_why* why) {
    if (state->n_segments < 1 || state->n_segments > PILLION_SEGMENTS_MAX)
        return dsp_refuse(why, HTP_WHY_SEGMENT, (uint32_t)state->n_segments, PILLION_SEGMENTS_MAX);
    int32_t covered = 0;
    for (int32_t i = 0; i < state->n_segments; i++) {
        const PillionSegment* s = &state->segments[i];
        if (s->row != covered)
            return dsp_refuse(why, HTP_WHY_SEGMENT, (uint32_t)s->row, (uint32_t)covered);
        if (s->n_rows < 1 || s->n_rows > state->rows - covered)
            return dsp_refuse(why, HTP_WHY_SEGMENT, (uint32_t)s->n_rows,
                              (uint32_t)(state->rows - covered));
        if (s->pos < 0 || s->pos > POSITIONS_MAX)
            return dsp_refuse(why, HTP_WHY_STATE, (uint32_t)s->pos, POSITIONS_MAX);
        covered += s->n_rows;
    }
    return covered == state->rows
               ? 0
               : dsp_refuse(why, HTP_WHY_SEGMENT, (uint32_t)covered, (uint32_t)state->rows);
}

// The pages of a segment's rows and, for attention, of what they see.
static int check_pages(const struct htp_op* op, const int32_t* table, const PillionSegment* s,
                       int32_t first_row, struct dsp_why* why) {
    const struct segment_rows rows = rows_of_segment(s, first_row);
    if (rows.n <= 0) return 0;
    if (rows.table < 0 || (uint32_t)rows.table >= op->pages.sequences)
        return dsp_refuse(why, HTP_WHY_TABLE, (uint32_t)rows.table, op->pages.sequences);
    const AttendParams* p = op->code == Op_attend ? &op->params.attend : 0;
    const int32_t slots = (int32_t)op->in[0].rows,
                  first = (p ? first_seen(p, rows.position) : rows.position) / slots,
                  hi = rows.position + rows.n - 1 - (p ? p->past_only : 0);
    if (hi < 0) return 0;
    const int32_t all = hi / slots - first + 1, entries = (int32_t)op->pages.entries;
    for (int32_t i = 0; i < (all < entries ? all : entries); i++) {
        const uint32_t page = page_of(op, table, rows.table, (first + i) * slots);
        if (page >= op->pages.n_pages)
            return dsp_refuse(why, HTP_WHY_PAGE, page, op->pages.n_pages);
    }
    return 0;
}

static int check_tables(const struct dsp_buffer* buffers, const struct dsp_plan* p,
                        const PillionStepState* state, struct dsp_why* why) {
    for (uint32_t i = 0; i < p->n_paged; i++) {
        const struct htp_op* op = &p->ops[p->paged[i]];
        const int32_t first_row = op->rows == Rows_out ? state->rows - state->out_rows : 0;
        for (int32_t k = 0; k < state->n_segments; k++)
            if (check_pages(op, table_of(buffers, op), &state->segments[k], first_row, why)) {
                why->op = (int32_t)p->paged[i];
                why->operand = 0;
                return -1;
            }
    }
    return 0;
}

int run_check(const struct dsp_buffer* buffers, const struct dsp_plan* p,
              const PillionStepState* state, struct dsp_why* why) {
    if (state->rows < 1 || (uint32_t)state->rows > p->rows_max)
        return dsp_refuse(why, HTP_WHY_STATE, (uint32_t)state->rows, p->rows_max);
    if (state->out_rows < 0 || (uint32_t)state->out_rows > p->out_rows_max ||
        state->out_rows > state->rows)
        return dsp_refuse(why, HTP_WHY_STATE, (uint32_t)state->out_rows, p->out_rows_max);
    return check_segments(state, why) || check_tables(buffers, p, state, why) ? -1 : 0;
}
