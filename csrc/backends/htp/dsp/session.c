#include "backends/htp/dsp/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/htp/dsp/ops/kv_head.h"
#include "backends/htp/dsp/ops/segments.h"
#include "backends/htp/dsp/plan_check.h"
#include "backends/htp/dsp/run_check.h"
#include "backends/htp/dsp/vtcm.h"
#include "backends/htp/dsp/workers.h"

void session_begin(struct dsp_session* s) { memset(s, 0, sizeof *s); }

static void forget_plan(struct dsp_plan* p) {
    free(p->ops);
    free(p->written);
    free(p->paged);
    memset(p, 0, sizeof *p);
}

static void unmap(struct dsp_session* s, uint32_t index) {
    struct dsp_buffer* b = &s->buffer[index];
    for (int i = 0; i < HTP_PLANS_MAX; i++)
        if (s->plan[i].uses >> index & 1) forget_plan(&s->plan[i]);
    if (b->base) platform_unmap(b->base, b->bytes, b->fd);
    b->base = 0;
    b->bytes = 0;
}

void session_end(struct dsp_session* s) {
    for (uint32_t i = 0; i < HTP_BUFFERS_MAX; i++) unmap(s, i);
    for (int i = 0; i < HTP_PLANS_MAX; i++) forget_plan(&s->plan[i]);
}

static int32_t answer_map(struct dsp_session* s, const struct htp_map* m, struct dsp_why* why) {
    if (m->buffer >= HTP_BUFFERS_MAX)
        return dsp_refuse(why, HTP_WHY_BUFFER, m->buffer, HTP_BUFFERS_MAX);
    if (m->bytes <= HTP_SLACK) return dsp_refuse(why, HTP_WHY_BOUNDS, m->bytes, HTP_SLACK);
    unmap(s, m->buffer);
    uint8_t* base = platform_map(m);
    if (!base) return dsp_refuse(why, HTP_WHY_MAP, (uint32_t)errno, 0);
    s->buffer[m->buffer].base = base;
    s->buffer[m->buffer].bytes = m->bytes;
    s->buffer[m->buffer].fd = m->fd;
    return HTP_OK;
}

static int32_t answer_unmap(struct dsp_session* s, const struct htp_map* m, struct dsp_why* why) {
    if (m->buffer >= HTP_BUFFERS_MAX || !s->buffer[m->buffer].base)
        return dsp_refuse(why, HTP_WHY_BUFFER, m->buffer, HTP_BUFFERS_MAX);
    unmap(s, m->buffer);
    return HTP_OK;
}

static uint64_t buffers_of(const struct htp_op* op) {
    uint64_t uses = 0;
    for (int i = 0; i < HTP_IN; i++)
        if (op->in[i].layout != HTP_ABSENT) uses |= 1ull << op->in[i].buffer;
    for (int i = 0; i < HTP_OUT; i++)
        if (op->out[i].layout != HTP_ABSENT) uses |= 1ull << op->out[i].buffer;
    if (op->pages.entries) uses |= 1ull << op->pages.buffer;
    if (op->tiling.scratch_bytes) uses |= 1ull << op->tiling.scratch_buffer;
    return uses;
}

static uint8_t* operand(const struct dsp_session* s, const struct htp_tensor* t) {
    return t->layout == HTP_ABSENT ? 0 : s->buffer[t->buffer].base + t->offset;
}

// --- what a run writes ---

__attribute__((weak)) uint32_t platform_profile(void) { return platform_usecs(); }

__attribute__((weak)) void platform_flush(const uint8_t* at, uint64_t bytes) {
    (void)at;
    (void)bytes;
}
__attribute__((weak)) void platform_refresh(const void* word) { (void)word; }

static int is_cancelled(const uint32_t* cancel) {
    if (!cancel) return 0;
    platform_refresh(cancel);
    return __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

static int range_order(const void* a, const void* b) {
    const struct dsp_range *x = a, *y = b;
    if (x->buffer != y->buffer) return x->buffer < y->buffer ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static void add_range(struct dsp_plan* p, const struct htp_tensor* t) {
    if (t->layout != HTP_ROWS) return;
    p->written[p->n_written++] =
        (struct dsp_range){t->buffer, t->offset,
                           t->offset + (uint64_t)(t->rows - 1) * t->stride + 4ull * t->width};
}

// 0, or -1: no memory. Activations share scratch, so few ranges are left of many outputs.
static int collect_written(struct dsp_plan* p) {
    p->written = malloc((HTP_IN + 0ull + HTP_OUT) * (p->n_ops + 1) * sizeof *p->written);
    if (!p->written) return -1;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct htp_op* op = &p->ops[i];
        const OperandInfo* in = op_info(op->code)->in;
        for (int k = 0; k < HTP_IN; k++)
            if (in[k].in_place) add_range(p, &op->in[k]);
        for (int k = 0; k < HTP_OUT; k++) add_range(p, &op->out[k]);
    }
    qsort(p->written, p->n_written, sizeof *p->written, range_order);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_written; i++) {
        struct dsp_range* last = n ? &p->written[n - 1] : 0;
        const struct dsp_range r = p->written[i];
        if (last && last->buffer == r.buffer && r.first <= last->end + HTP_VECTOR)
            last->end = r.end > last->end ? r.end : last->end;
        else p->written[n++] = r;
    }
    p->n_written = n;
    return 0;
}

// The slots of a segment's rows: blocks of keys, rows of values.
static void flush_cache(const struct htp_op* op, uint8_t* base, const int32_t* table,
                        const PillionSegment* s) {
    const struct htp_tensor* t = &op->in[0];
    const uint64_t page_bytes = htp_page_bytes(op);
    for (int32_t at = s->pos; at < s->pos + s->n_rows;) {
        // up to the end of a block of 32, so within a page and never round a ring
        const uint32_t slot = (uint32_t)at % t->rows, left = (uint32_t)(s->pos + s->n_rows - at),
                       room = 32 - slot % 32, n = left < room ? left : room;
        const uint32_t page = table ? page_of(op, table, s->table, at) : 0;
        for (uint32_t h = 0; h < t->depth && (!table || page < op->pages.n_pages); h++) {
            const struct kv_head kv = kv_head_of(t, base + page_bytes * page, h);
            platform_flush(kv.k + (uint64_t)kv.k_block_bytes * (slot / 32), kv.k_block_bytes);
            platform_flush(kv.v + (uint64_t)kv.v_row_bytes * slot, (uint64_t)kv.v_row_bytes * n);
        }
        at += (int32_t)n;
    }
}

static void flush_written(const struct dsp_session* s, const struct dsp_plan* p,
                          const PillionStepState* run, const PillionStepState* state) {
    for (uint32_t i = 0; i < p->n_written; i++)
        platform_flush(s->buffer[p->written[i].buffer].base + p->written[i].first,
                       p->written[i].end - p->written[i].first);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct htp_op* op = &p->ops[i];
        if (op->code != Op_kv_store) continue;
        for (int32_t k = 0; k < run->n_segments; k++)
            flush_cache(op, operand(s, &op->in[0]), table_of(s->buffer, op), &run->segments[k]);
    }
    platform_flush((const uint8_t*)state, sizeof *state);
}

// The copy is what is checked: the host may write its own at any time.
static int32_t answer_prepare(struct dsp_session* s, const struct htp_prepare* m,
                              struct dsp_why* why) {
    if (m->plan >= HTP_PLANS_MAX) return dsp_refuse(why, HTP_WHY_PLAN, m->plan, HTP_PLANS_MAX);
    const uint8_t* at = buffer_bytes(s->buffer, m->at.buffer, m->at.offset, sizeof(struct htp_plan),
                                     HTP_VECTOR, why);
    if (!at) return HTP_REFUSED;
    struct htp_plan head;
    memcpy(&head, at, sizeof head);
    if (head.magic != HTP_PLAN_MAGIC || head.version != HTP_WIRE_VERSION)
        return dsp_refuse(why, HTP_WHY_VERSION, head.version, HTP_WIRE_VERSION);
    if (head.op_bytes != sizeof(struct htp_op))
        return dsp_refuse(why, HTP_WHY_VERSION, head.op_bytes, sizeof(struct htp_op));
    if (head.n_ops > HTP_OPS_MAX) return dsp_refuse(why, HTP_WHY_PLAN, head.n_ops, HTP_OPS_MAX);
    if (head.rows_max < 1 || head.rows_max > HTP_ROWS_MAX)
        return dsp_refuse(why, HTP_WHY_SHAPE, head.rows_max, HTP_ROWS_MAX);
    if (head.out_rows_max > head.rows_max)
        return dsp_refuse(why, HTP_WHY_SHAPE, head.out_rows_max, head.rows_max);
    const uint64_t bytes = (uint64_t)head.n_ops * sizeof(struct htp_op);
    at = buffer_bytes(s->buffer, m->at.buffer, (uint64_t)m->at.offset + sizeof head, bytes,
                      HTP_VECTOR, why);
    if (!at) return HTP_REFUSED;
    struct dsp_plan made = {
        malloc(bytes ? bytes : 1), head.n_ops, head.rows_max, head.out_rows_max, 0, 0, 0, 0, 0};
    if (!made.ops) return dsp_refuse(why, HTP_WHY_MEMORY, (uint32_t)bytes, 0);
    memcpy(made.ops, at, bytes);
    for (uint32_t i = 0; i < made.n_ops; i++) {
        if (plan_check_op(s->buffer, &made.ops[i], made.rows_max, made.out_rows_max, why)) {
            why->op = (int32_t)i;
            forget_plan(&made);
            return HTP_REFUSED;
        }
        made.uses |= buffers_of(&made.ops[i]);
    }
    if (collect_written(&made) || collect_paged(&made)) {
        forget_plan(&made);
        return dsp_refuse(why, HTP_WHY_MEMORY, head.n_ops, 0);
    }
    forget_plan(&s->plan[m->plan]);
    s->plan[m->plan] = made;
    return HTP_OK;
}

static int32_t answer_release(struct dsp_session* s, const struct htp_prepare* m,
                              struct dsp_why* why) {
    if (m->plan >= HTP_PLANS_MAX || !s->plan[m->plan].ops)
        return dsp_refuse(why, HTP_WHY_PLAN, m->plan, HTP_PLANS_MAX);
    forget_plan(&s->plan[m->plan]);
    return HTP_OK;
}

static int32_t run_plan(struct dsp_session* s, const struct dsp_plan* p,
                        const PillionStepState* state, const uint32_t* cancel, uint32_t* profile,
                        struct dsp_why* why) {
    if (run_check(s->buffer, p, state, why)) return HTP_REFUSED;
    struct op_run r = {.rows = state->rows,
                       .out_rows = state->out_rows,
                       .n_segments = state->n_segments,
                       .segments = state->segments,
                       .why = why};
    platform_run_begins();
    for (uint32_t i = 0; i < p->n_ops; i++) {
        why->op = (int32_t)i;
        if (is_cancelled(cancel)) return HTP_CANCELLED;
        const int32_t injected = platform_before_op(i);
        if (injected) return injected;
        const struct htp_op* op = &p->ops[i];
        r.op = op;
        r.n = op->rows == Rows_out ? r.out_rows : r.rows;
        r.first_row = op->rows == Rows_out ? r.rows - r.out_rows : 0;
        r.table = table_of(s->buffer, op);
        for (int k = 0; k < HTP_IN; k++) r.in[k] = operand(s, &op->in[k]);
        for (int k = 0; k < HTP_OUT; k++) r.out[k] = operand(s, &op->out[k]);
        r.scratch = op->tiling.scratch_bytes
                        ? s->buffer[op->tiling.scratch_buffer].base + op->tiling.scratch_offset
                        : 0;
        r.rows_max = p->rows_max;
        r.vtcm = vtcm_base();
        const uint32_t begin = profile ? platform_profile() : 0;
        if (r.n > 0) dsp_ops[op->code](&r);
        if (profile) profile[i] = platform_profile() - begin;
        if (why->why) return HTP_FAILED;
    }
    why->op = -1;
    return HTP_OK;
}

static int32_t answer_run(struct dsp_session* s, const struct htp_run* m, struct dsp_why* why) {
    if (m->plan >= HTP_PLANS_MAX || !s->plan[m->plan].ops)
        return dsp_refuse(why, HTP_WHY_PLAN, m->plan, HTP_PLANS_MAX);
    const struct dsp_plan* p = &s->plan[m->plan];
    PillionStepState* state =
        (PillionStepState*)buffer_bytes(s->buffer, m->state.buffer, m->state.offset, sizeof *state,
                                        8, why);
    if (!state) return HTP_REFUSED;
    uint32_t *cancel = 0, *profile = 0;
    if (m->cancel.buffer != HTP_NOWHERE &&
        !(cancel =
              (uint32_t*)buffer_bytes(s->buffer, m->cancel.buffer, m->cancel.offset, 4, 4, why)))
        return HTP_REFUSED;
    if (m->profile.buffer != HTP_NOWHERE &&
        !(profile = (uint32_t*)buffer_bytes(s->buffer, m->profile.buffer, m->profile.offset,
                                            4ull * p->n_ops, 4, why)))
        return HTP_REFUSED;
    const PillionStepState now = *state;  // the host's copy may change at any time
    const int32_t status = run_plan(s, p, &now, cancel, profile, why);
    state->status = status;
    if (status != HTP_REFUSED)
        flush_written(s, p, &now, state);  // a refused run has written nothing
    return status;
}

int session_answer(struct dsp_session* s, struct htp_message* m) {
    const uint32_t begin = platform_usecs();
    struct dsp_why why = {HTP_WHY_NONE, -1, -1, 0, 0};
    int32_t status = HTP_OK;
    if (m->version != HTP_WIRE_VERSION) {
        status = dsp_refuse(&why, HTP_WHY_VERSION, m->version, HTP_WIRE_VERSION);
    } else {
        switch (m->kind) {
            case HTP_MSG_NONE:
            case HTP_MSG_STOP: break;
            case HTP_MSG_MAP: status = answer_map(s, &m->u.map, &why); break;
            case HTP_MSG_UNMAP: status = answer_unmap(s, &m->u.map, &why); break;
            case HTP_MSG_PREPARE: status = answer_prepare(s, &m->u.prepare, &why); break;
            case HTP_MSG_RUN: status = answer_run(s, &m->u.run, &why); break;
            case HTP_MSG_RELEASE: status = answer_release(s, &m->u.prepare, &why); break;
            case HTP_MSG_INFO:
                m->u.info = (struct htp_info){.arch = __HVX_ARCH__,
                                              .threads = workers_count(),
                                              .vtcm_bytes = vtcm_bytes(),
                                              .lanes = HTP_F32_LANES};
                break;
            default: status = dsp_refuse(&why, HTP_WHY_MESSAGE, m->kind, HTP_MSG_STOP);
        }
    }
    m->answer = (struct htp_answer){.status = status,
                                    .why = why.why,
                                    .op = why.op,
                                    .operand = why.operand,
                                    .value = why.value,
                                    .limit = why.limit,
                                    .usecs = platform_usecs() - begin};
    return m->version == HTP_WIRE_VERSION && m->kind == HTP_MSG_STOP;
}
