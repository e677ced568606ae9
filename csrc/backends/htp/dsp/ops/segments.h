// Which sequence and position a row has, what its query sees, and which page a position lies in.
#ifndef PILLION_DSP_SEGMENTS_H
#define PILLION_DSP_SEGMENTS_H

#include "backends/htp/dsp/ops/ops.h"

// Rows row .. row + n - 1 of an op, of one sequence and at neighbouring positions.
struct segment_rows { int32_t row, n, position, table; };

// What an op whose row 0 is `first_row` of the run has of a segment; n <= 0: nothing.
static inline struct segment_rows rows_of_segment(const PillionSegment* s, int32_t first_row) {
    const int32_t skip = s->row < first_row ? first_row - s->row : 0;
    return (struct segment_rows){s->row + skip - first_row, s->n_rows - skip, s->pos + skip,
                                 s->table};
}

// Of one row of the op.
static inline struct segment_rows row_of(const struct op_run* r, int32_t row) {
    int32_t low = 0;
    for (int32_t high = r->n_segments; high - low > 1;) {
        const int32_t middle = (low + high) / 2;
        if (r->segments[middle].row <= r->first_row + row) low = middle;
        else high = middle;
    }
    const PillionSegment* s = &r->segments[low];
    return (struct segment_rows){row, 1, s->pos + r->first_row + row - s->row, s->table};
}

// The first position that the query at position `at` looks at.
static inline int32_t first_seen(const AttendParams* p, int32_t at) {
    return p->window > 0 && at >= p->window ? at - p->window + 1 : 0;
}

// The last position that it looks at: its own, or `until` (operand 2 of attend) where that lies
// ahead. The host may write the word at any time.
static inline int32_t last_seen(const struct op_run* r, int32_t row, int32_t at) {
    const int32_t own = at - r->op->params.attend.past_only;
    if (!r->in[2]) return own;
    const int32_t until = __atomic_load_n((const int32_t*)in_row(r, 2, row), __ATOMIC_RELAXED);
    return until > own ? until : own;
}

// Entry of a sequence's row in the op's page table. One load: the host may write at any time.
static inline uint32_t page_of(const struct htp_op* op, const int32_t* table, int32_t sequence,
                               int32_t position) {
    const uint32_t entry = (uint32_t)position / op->in[0].rows % op->pages.entries;
    return (uint32_t)__atomic_load_n(
        table + (uint64_t)(uint32_t)sequence * op->pages.stride + entry, __ATOMIC_RELAXED);
}

// How many bytes behind the cache's first page that of a position begins. run_check.c has seen the
// entry; if it has become a wrong one since, the op gives up and the answer is 0.
static inline int page_offset(struct op_run* r, int32_t sequence, int32_t position,
                              uint64_t* offset) {
    *offset = 0;
    if (!r->table) return 1;
    const uint32_t page = page_of(r->op, r->table, sequence, position);
    if (page >= r->op->pages.n_pages) {
        op_fail(r, HTP_WHY_PAGE, 0, page, r->op->pages.n_pages);
        return 0;
    }
    *offset = htp_page_bytes(r->op) * page;
    return 1;
}

#endif
