// Attention over a layer's cache. The arithmetic is the CPU backend's (cpu/body/attention.inl,
// cpu/ops/attention.cpp):
//
//   a split is 256 positions from a multiple of 256 on: scores s = fma(q[d], k[d], s) over d in
//   order, times scale, soft cap; what the query must not look at is -inf; m = max, w = exp(s - m),
//   l = sum of w; o = fma(w, v, o) over the visible positions in order four splits are joined into
//   a partition, partitions into the result, always in this order
//
// so that a row's bits depend neither on the rows beside it nor on how the work is cut. A unit of
// work is a KV head and up to 16 query vectors of one segment (row * group + head in group);
// positions are lanes for the scores, dimensions are lanes for the values. A split lies in one page
// and no ring wraps inside it, since pages are multiples of 256.
//
// Accumulators hold 64 dimensions in two vectors: f16 values arrive as even and odd dimensions,
// q8_0 values in order.
#include "backends/htp/dsp/ops/kv_head.h"
#include "backends/htp/dsp/ops/segments.h"
#include "backends/htp/dsp/workers.h"

enum {
    QUERIES = HTP_ATTEND_QUERIES,
    QUERIES_LOG2 = 4,
    SPLIT = KV_SPLIT,
    PARTITION = HTP_ATTEND_PARTITION,
    TOGETHER = 4 /* query vectors held in registers */,
    KEY_BLOCKS = 2 /* blocks of 32 positions scored at once */,
    VALUE_VECTORS = 4 /* of 32 dimensions, summed at once */
};

struct state {  // of each query vector: maximum, sum of weights, accumulator
    float m[QUERIES], l[QUERIES];
    float* o;  // [QUERIES][padded]
};

struct tile {
    struct op_run* r;
    int32_t table;      // of the sequence
    struct kv_head kv;  // in the first page
    const AttendParams* p;
    int n;
    uint32_t padded;  // head_dim rounded up to 64
    const float* q[QUERIES];
    float* out[QUERIES];
    int32_t first[QUERIES], last[QUERIES];  // visible positions, inclusive; last < first: none
    int32_t lo, hi;                         // of all
    float* scores;                          // [QUERIES][SPLIT]
    struct state split, partition, total;
};

static int sees(const struct tile* t, int i, int32_t begin, int32_t end) {
    return t->first[i] < end && t->last[i] >= begin;
}

static void clear(const struct tile* t, struct state* s) {
    for (int i = 0; i < t->n; i++) s->m[i] = F32_NONE, s->l[i] = 0.0f;
    for (uint32_t d = 0; d < t->padded * (uint32_t)t->n; d += 32) hvx_store(s->o + d, Q6_V_vzero());
}

// ---- scores ----

#define EACH(i, n) HVX_UNROLL(4) for (int i = 0; i < n; i++)

// Scores of `blocks` times 32 positions for n queries, both constant. A query's number is spread
// over a vector once for all blocks.
struct keys {
    const uint8_t* at;  // of the first block
    uint32_t block_bytes, dim;
    const float* const* q;
    float* scores;
};
HVX_INLINE void clear_scores(HVX_Vector s[TOGETHER][KEY_BLOCKS], int n, int blocks) {
    EACH(c, n) EACH(b, blocks) s[c][b] = f32_chain(Q6_V_vzero());
}
HVX_INLINE void score_dim(const struct keys* a, uint32_t d, const HVX_Vector* k,
                          HVX_Vector s[TOGETHER][KEY_BLOCKS], int n, int blocks) {
    EACH(c, n) EACH(b, blocks) s[c][b] = f32_chain_add(s[c][b], k[b], a->q[c][d]);
}
HVX_INLINE void store_scores(const struct keys* a, HVX_Vector s[TOGETHER][KEY_BLOCKS], int n,
                             int blocks) {
    EACH(c, n) EACH(b, blocks) hvx_store(a->scores + c * SPLIT + 32 * b, f32_chain_end(s[c][b]));
}
// 32 halves of dimension d, then of d + 1: shuffled, a lane holds both.
HVX_INLINE void score_two_dims(const struct keys* a, uint32_t d, HVX_Vector s[TOGETHER][KEY_BLOCKS],
                               int n, int blocks, int is_odd) {
    HVX_Vector even[KEY_BLOCKS], odd[KEY_BLOCKS];
    EACH(b, blocks) {
        const HVX_VectorPair k = f32_from_f16(
            Q6_Vh_vshuff_Vh(hvx_load_u(a->at + (uint32_t)b * a->block_bytes + 64 * d)));
        even[b] = Q6_V_lo_W(k), odd[b] = Q6_V_hi_W(k);
    }
    score_dim(a, d, even, s, n, blocks);
    if (!is_odd) score_dim(a, d + 1, odd, s, n, blocks);
}
HVX_INLINE void score_f16(const struct keys* a, int n, int blocks) {
    HVX_Vector s[TOGETHER][KEY_BLOCKS];
    clear_scores(s, n, blocks);
    for (uint32_t d = 0; d + 1 < a->dim; d += 2) score_two_dims(a, d, s, n, blocks, 0);
    if (a->dim % 2) score_two_dims(a, a->dim - 1, s, n, blocks, 1);
    store_scores(a, s, n, blocks);
}
// Four dimensions of 32 codes, those below `count`.
HVX_INLINE void score_four_dims(const struct keys* a, uint32_t first, uint32_t d, uint32_t count,
                                const HVX_Vector* scale, HVX_Vector s[TOGETHER][KEY_BLOCKS], int n,
                                int blocks) {
    HVX_Vector k[4][KEY_BLOCKS];
    EACH(b, blocks) {
        const uint8_t* at = a->at + (uint32_t)b * a->block_bytes + first / 32 * (64 + 1024);
        const HVX_VectorPair halves = Q6_Wh_vunpack_Vb(hvx_load_u(at + 64 + 32 * d));
        const HVX_VectorPair one = Q6_Ww_vunpack_Vh(Q6_V_lo_W(halves)),
                             two = Q6_Ww_vunpack_Vh(Q6_V_hi_W(halves));
        k[0][b] = Q6_V_lo_W(one), k[1][b] = Q6_V_hi_W(one), k[2][b] = Q6_V_lo_W(two),
        k[3][b] = Q6_V_hi_W(two);
        EACH(i, 4) k[i][b] = f32_mul(scale[b], f32_from_small_i32(k[i][b]));
    }
    EACH(i, 4)
    if (d + (uint32_t)i < count) score_dim(a, first + d + (uint32_t)i, k[i], s, n, blocks);
}
HVX_INLINE void score_q8_0(const struct keys* a, int n, int blocks) {
    HVX_Vector s[TOGETHER][KEY_BLOCKS];
    clear_scores(s, n, blocks);
    for (uint32_t first = 0; first < a->dim; first += 32) {
        const uint32_t left = a->dim - first, count = left < 32 ? left : 32;
        HVX_Vector scale[KEY_BLOCKS];
        EACH(b, blocks)
        scale[b] = Q6_V_lo_W(f32_from_f16(Q6_Vh_vshuff_Vh(
            hvx_load_u(a->at + (uint32_t)b * a->block_bytes + first / 32 * (64 + 1024)))));
        uint32_t d = 0;
        for (; d + 4 <= count; d += 4) score_four_dims(a, first, d, d + 4, scale, s, n, blocks);
        if (d < count) score_four_dims(a, first, d, count, scale, s, n, blocks);
    }
    store_scores(a, s, n, blocks);
}
#define SWITCH(call)             \
    switch (n) {                 \
        case 1: call(1); break;  \
        case 2: call(2); break;  \
        case 3: call(3); break;  \
        default: call(4); break; \
    }
#define PAIR_F16(count) score_f16(a, count, KEY_BLOCKS)
#define ONE_F16(count) score_f16(a, count, 1)
#define PAIR_Q8(count) score_q8_0(a, count, KEY_BLOCKS)
#define ONE_Q8(count) score_q8_0(a, count, 1)
#define SCORE_BLOCKS(name, pair, one)                                                     \
    static __attribute__((noinline)) void name(const struct keys* a, int n, int blocks) { \
        if (blocks == KEY_BLOCKS) SWITCH(pair)                                            \
        else SWITCH(one)                                                                  \
    }
SCORE_BLOCKS(score_blocks_f16, PAIR_F16, ONE_F16)
SCORE_BLOCKS(score_blocks_q8_0, PAIR_Q8, ONE_Q8)

// Scores of positions first..last (counted from the split's begin) become weights.
static void softmax_block(float* s, int32_t first, int32_t last, const AttendParams* p, float* top,
                          float* total) {
    const HVX_Vector none = f32_splat(F32_NONE);
    HVX_Vector m = none;
    for (int32_t i = first / 32 * 32; i <= last; i += 32) {
        HVX_Vector v = f32_scale(hvx_load(s + i), p->scale);
        if (p->softcap > 0.0f) v = f32_capped(v, p->softcap);
        v = hvx_keep_lanes(v, none, first - i, last - first + 1);
        m = f32_max(m, v);
        hvx_store(s + i, v);
    }
    *top = f32_largest(m);
    const HVX_Vector t = f32_splat(*top == F32_NONE ? 0.0f : *top);
    HVX_Vector l = Q6_V_vzero();
    for (int32_t i = first / 32 * 32; i <= last;
         i += 64) {  // an exp is one long chain: two at a time
        const HVX_Vector w0 = f32_exp(f32_sub(hvx_load(s + i), t)),
                         w1 = f32_exp(f32_sub(hvx_load(s + i + (i + 32 < SPLIT ? 32 : 0)), t));
        const HVX_Vector kept = hvx_keep_lanes(w0, Q6_V_vzero(), first - i, last - first + 1);
        l = f32_sum_add(l, kept);
        hvx_store(s + i, kept);
        if (i + 32 > last) break;
        const HVX_Vector next = hvx_keep_lanes(w1, Q6_V_vzero(), first - i - 32, last - first + 1);
        l = f32_sum_add(l, next);
        hvx_store(s + i + 32, next);
    }
    *total = f32_sum(l);
}

// ---- values ----

HVX_INLINE HVX_VectorPair values_f16(const uint8_t* row, uint32_t dim) {
    return f32_from_f16(hvx_load_u(row + 2 * dim));
}
HVX_INLINE HVX_VectorPair values_q8_0(const uint8_t* row, uint32_t dim, uint32_t padded) {
    const HVX_VectorPair words =
        Q6_Ww_vunpack_Vh(Q6_V_lo_W(Q6_Wh_vunpack_Vb(hvx_load_u(row + dim))));
    // The scales of 32 dimensions each, spread over a vector as halves: widened, each fills its
    // own. Past the padded end there is none, and nobody looks at what comes out.
    const uint16_t* scales = (const uint16_t*)(row + padded) + dim / 32;
    const HVX_VectorPair both =
        f32_from_f16(Q6_V_vsplat_R((int32_t)(scales[0] | (uint32_t)scales[1] << 16)));
    return Q6_W_vcombine_VV(f32_mul(f32_from_small_i32(Q6_V_hi_W(words)), Q6_V_hi_W(both)),
                            f32_mul(f32_from_small_i32(Q6_V_lo_W(words)), Q6_V_lo_W(both)));
}

struct values {  // of one split
    const struct kv_head* kv;
    const uint8_t* rows;          // of the split's first position
    const float* w;               // [TOGETHER][SPLIT]
    const int32_t *first, *last;  // [TOGETHER] counted from the split's begin
    float* o;                     // [TOGETHER][padded]
    uint32_t padded;
};

// A term, of position p, of 32 * vectors dimensions from `dim` on for n outputs (both constant).
// check: some of the queries may not see it.
HVX_INLINE void value_position(const struct values* a, uint32_t dim, int32_t p, int check, int f16,
                               int n, int vectors, HVX_Vector o[TOGETHER][VALUE_VECTORS]) {
    const uint8_t* row = a->rows + (uint64_t)a->kv->v_row_bytes * (uint32_t)p;
    HVX_Vector v[VALUE_VECTORS];
    HVX_UNROLL(2)
    for (int i = 0; i < vectors; i += 2) {
        const uint32_t at = dim + 32 * (uint32_t)i;
        const HVX_VectorPair two =
            f16 ? values_f16(row, at)
                : values_q8_0(row, at, (uint32_t)kv_padded_dim(a->kv->head_dim));
        v[i] = Q6_V_lo_W(two), v[i + 1] = Q6_V_hi_W(two);
    }
    EACH(c, n) {
        if (check && (p < a->first[c] || p > a->last[c])) continue;
        const float w = a->w[c * SPLIT + p];
        EACH(i, vectors) o[c][i] = f32_chain_add(o[c][i], v[i], w);
    }
}
HVX_INLINE void value_positions(const struct values* a, uint32_t dim, int32_t begin, int32_t end,
                                int check, int f16, int n, int vectors,
                                HVX_Vector o[TOGETHER][VALUE_VECTORS]) {
    for (int32_t p = begin; p < end; p++) value_position(a, dim, p, check, f16, n, vectors, o);
}
// bounds: positions seen by some, by all, by some.
HVX_INLINE void value_dims(const struct values* a, uint32_t dim, const int32_t bounds[4], int f16,
                           int n, int vectors) {
    HVX_Vector o[TOGETHER][VALUE_VECTORS];
    float* at = a->o + dim;
    EACH(c, n)
    EACH(i, vectors) o[c][i] = f32_chain(hvx_load(at + (uint32_t)c * a->padded + 32 * i));
    value_positions(a, dim, bounds[0], bounds[1], 1, f16, n, vectors, o);
    value_positions(a, dim, bounds[1], bounds[2], 0, f16, n, vectors, o);
    value_positions(a, dim, bounds[2], bounds[3], 1, f16, n, vectors, o);
    EACH(c, n)
    EACH(i, vectors) hvx_store(at + (uint32_t)c * a->padded + 32 * i, f32_chain_end(o[c][i]));
}
HVX_INLINE void value_tile(const struct values* a, int f16, int n) {
    int32_t lo = SPLIT, hi = -1, shared_lo = 0, shared_hi = SPLIT - 1;  // seen by any, by all
    for (int c = 0; c < n; c++) {
        if (a->last[c] < a->first[c]) {
            shared_hi = -1;
            continue;
        }
        lo = a->first[c] < lo ? a->first[c] : lo;
        hi = a->last[c] > hi ? a->last[c] : hi;
        shared_lo = a->first[c] > shared_lo ? a->first[c] : shared_lo;
        shared_hi = a->last[c] < shared_hi ? a->last[c] : shared_hi;
    }
    if (shared_hi < shared_lo) shared_lo = hi + 1, shared_hi = hi;
    const int32_t bounds[4] = {lo, shared_lo, shared_hi + 1, hi + 1};
    uint32_t dim = 0;
    for (; dim + 32 * VALUE_VECTORS <= a->padded; dim += 32 * VALUE_VECTORS)
        value_dims(a, dim, bounds, f16, n, VALUE_VECTORS);
    if (dim < a->padded) value_dims(a, dim, bounds, f16, n, 2);
}
#define F16(count) value_tile(a, 1, count)
#define Q8(count) value_tile(a, 0, count)
static __attribute__((noinline)) void add_values_f16(const struct values* a, int n) { SWITCH(F16) }
static __attribute__((noinline)) void add_values_q8_0(const struct values* a, int n) { SWITCH(Q8) }
#undef F16
#undef Q8

// ---- split ----

static void run_split(struct tile* t, int32_t begin) {
    const uint32_t slot = (uint32_t)begin % t->kv.capacity;
    int32_t first[QUERIES], last[QUERIES], lo = SPLIT, hi = -1;
    uint64_t page;
    clear(t, &t->split);
    if (!page_offset(t->r, t->table, begin, &page)) return;
    const uint8_t* keys = t->kv.k + page + (uint64_t)t->kv.k_block_bytes * (slot / 32);
    for (int c = 0; c < t->n; c++) {
        first[c] = t->first[c] > begin ? t->first[c] - begin : 0;
        last[c] = t->last[c] - begin < SPLIT - 1 ? t->last[c] - begin : SPLIT - 1;
        if (first[c] > last[c]) first[c] = SPLIT, last[c] = -1;
        lo = first[c] < lo ? first[c] : lo;
        hi = last[c] > hi ? last[c] : hi;
    }
    for (int c = 0; c < t->n; c += TOGETHER) {
        const int n = t->n - c < TOGETHER ? t->n - c : TOGETHER;
        for (int32_t b = lo / 32; b <= hi / 32 && hi >= 0;) {
            const int blocks = b < hi / 32 ? KEY_BLOCKS : 1;
            const struct keys k = {keys + (uint64_t)t->kv.k_block_bytes * (uint32_t)b,
                                   t->kv.k_block_bytes, t->kv.head_dim, t->q + c,
                                   t->scores + c * SPLIT + 32 * b};
            b += blocks;
            if (c == 0 && b <= hi / 32)
                hvx_fetch_ahead(keys + (uint64_t)t->kv.k_block_bytes * (uint32_t)b,
                                KEY_BLOCKS * t->kv.k_block_bytes);
            (t->kv.dtype == DType_f16 ? score_blocks_f16 : score_blocks_q8_0)(&k, n, blocks);
        }
    }
    const uint8_t* values = t->kv.v + page + (uint64_t)t->kv.v_row_bytes * slot;
    if (hi >= 0)
        hvx_fetch_ahead(values + (uint64_t)t->kv.v_row_bytes * (uint32_t)lo,
                        t->kv.v_row_bytes * (uint32_t)(hi - lo + 1));
    for (int c = 0; c < t->n; c++)
        if (last[c] >= 0)
            softmax_block(t->scores + c * SPLIT, first[c], last[c], t->p, &t->split.m[c],
                          &t->split.l[c]);
    for (int c = 0; c < t->n; c += TOGETHER) {
        const int n = t->n - c < TOGETHER ? t->n - c : TOGETHER;
        const struct values a = {&t->kv,    values,   t->scores + c * SPLIT,
                                 first + c, last + c, t->split.o + (uint32_t)c * t->padded,
                                 t->padded};
        (t->kv.dtype == DType_f16 ? add_values_f16 : add_values_q8_0)(&a, n);
    }
}

// M = max(m, ms); a = exp(m - M); b = exp(ms - M); l = l a + ls b; o = fma(os, b, o a)
static void merge(const struct tile* t, struct state* into, const struct state* from, int i) {
    const float m = into->m[i], ms = from->m[i], top = m > ms ? m : ms;
    const float old = m == F32_NONE ? 0.0f : f32_exp1(m - top),
                now = ms == F32_NONE ? 0.0f : f32_exp1(ms - top);
    into->m[i] = top;
    into->l[i] = into->l[i] * old + from->l[i] * now;
    float* o = into->o + (uint32_t)i * t->padded;
    const float* os = from->o + (uint32_t)i * t->padded;
    for (uint32_t d = 0; d < t->padded; d += 32)
        hvx_store(o + d, f32_scale_add(f32_scale(hvx_load(o + d), old), hvx_load(os + d), now));
}

// The splits of one partition, joined in t->partition.
static void run_partition(struct tile* t, int32_t partition) {
    clear(t, &t->partition);
    for (int32_t begin = partition * PARTITION; begin < (partition + 1) * PARTITION;
         begin += SPLIT) {
        if (begin + SPLIT <= t->lo || begin > t->hi) continue;
        run_split(t, begin);
        for (int i = 0; i < t->n; i++)
            if (sees(t, i, begin, begin + SPLIT)) merge(t, &t->partition, &t->split, i);
    }
}

static void write_out(const struct tile* t, int i) {
    const float by = t->total.l[i] > 0.0f ? 1.0f / t->total.l[i] : 0.0f;
    const float* o = t->total.o + (uint32_t)i * t->padded;
    for (uint32_t d = 0; d < t->kv.head_dim; d += 64) {
        HVX_VectorPair v =
            Q6_W_vcombine_VV(f32_scale(hvx_load(o + d + 32), by), f32_scale(hvx_load(o + d), by));
        if (t->kv.dtype == DType_f16) v = Q6_W_vshuff_VVR(Q6_V_hi_W(v), Q6_V_lo_W(v), -4);
        const uint32_t left = t->kv.head_dim - d;
        f32_store_first(t->out[i] + d, Q6_V_lo_W(v), left);
        if (left > 32) f32_store_first(t->out[i] + d + 32, Q6_V_hi_W(v), left - 32);
    }
}

static void run_tile(struct tile* t) {
    clear(t, &t->total);
    for (int32_t partition = t->lo / PARTITION; partition <= t->hi / PARTITION; partition++) {
        run_partition(t, partition);
        for (int i = 0; i < t->n; i++)
            if (sees(t, i, partition * PARTITION, (partition + 1) * PARTITION))
                merge(t, &t->total, &t->partition, i);
    }
    for (int i = 0; i < t->n; i++) write_out(t, i);
}

// ---- cuts ----

struct attend {
    struct op_run* r;
    int group;         // query heads of a KV head
    int tile_log2;     // of the most vectors of a unit
    int64_t work;      // partitions that all units walk together
    uint8_t* records;  // of partitions: segment by segment [kv head][vector][partition]
};

// How a segment's rows are cut into units.
struct cut {
    int32_t segment;
    struct segment_rows rows;
    int32_t lo, hi;        // positions that they see, all together
    int vectors, n_tiles;  // of a KV head
    int32_t first_partition, n_partitions;
    int is_split;  // a unit is one partition; else it walks all
    int units;
    uint64_t first_record, records;
};

// A segment is split if one of its units would take more than a thread's share of the op, and if
// there is room for its records. With one segment: if there are fewer units than threads.
static void split_cut(const struct attend* a, struct cut* c) {
    const struct op_run* r = a->r;
    c->records = 0;
    c->is_split = c->n_partitions > 1 && (int64_t)r->op->tiling.threads * c->n_partitions > a->work;
    if (!c->is_split) return;
    const uint64_t records = (uint64_t)(uint32_t)(c->vectors * r->op->params.attend.n_kv_heads) *
                             (uint32_t)c->n_partitions;
    if (c->first_record + records > htp_attend_records(r->op, r->rows_max)) c->is_split = 0;
    else c->records = records;
}

// The next segment that has rows of this op.
static int next_cut(const struct attend* a, struct cut* c) {
    const struct op_run* r = a->r;
    const AttendParams* p = &r->op->params.attend;
    do {
        if (++c->segment >= r->n_segments) return 0;
        c->rows = rows_of_segment(&r->segments[c->segment], r->first_row);
    } while (c->rows.n <= 0);
    c->lo = first_seen(p, c->rows.position);
    c->hi = c->rows.position + c->rows.n - 1 - p->past_only;
    for (int32_t i = 0; r->in[2] && i < c->rows.n; i++) {
        const int32_t last = last_seen(r, c->rows.row + i, c->rows.position + i);
        c->hi = last > c->hi ? last : c->hi;
    }
    c->vectors = c->rows.n * a->group;
    c->n_tiles = (c->vectors + (1 << a->tile_log2) - 1) >> a->tile_log2;
    c->first_partition = c->lo / PARTITION;
    c->n_partitions = c->hi < c->lo ? 1 : c->hi / PARTITION - c->first_partition + 1;
    c->first_record += c->records;
    split_cut(a, c);
    c->units = p->n_kv_heads * c->n_tiles * (c->is_split ? c->n_partitions : 1);
    return 1;
}
static int first_cut(const struct attend* a, struct cut* c) {
    c->segment = -1;
    c->first_record = c->records = 0;
    return next_cut(a, c);
}
#define EACH_CUT(a, c) for (int more = first_cut(a, c); more; more = next_cut(a, c))

static void begin_tile(const struct attend* a, struct tile* t, unsigned part) {
    const AttendParams* p = &a->r->op->params.attend;
    float* scratch =
        (float*)(a->r->scratch + part * htp_attend_thread_bytes((uint32_t)p->head_dim));
    t->r = a->r;
    t->p = p;
    t->padded = (uint32_t)htp_round_up((uint32_t)p->head_dim, 64);
    t->scores = scratch;
    t->split.o = scratch + QUERIES * SPLIT;
    t->partition.o = t->split.o + QUERIES * t->padded;
    t->total.o = t->partition.o + QUERIES * t->padded;
}

// Query vectors [begin, begin + n) of a KV head.
static void take_vectors(const struct attend* a, const struct cut* c, struct tile* t, int kv,
                         int begin, int n) {
    const AttendParams* p = t->p;
    const int group = a->group;
    t->kv = kv_head_of(&t->r->op->in[0], t->r->in[0], (uint32_t)kv);
    t->table = c->rows.table;
    t->n = n;
    t->lo = INT32_MAX, t->hi = -1;
    for (int i = 0; i < n; i++) {
        const int v = begin + i, row = v / group, head = kv * group + v % group,
                  at = c->rows.position + row;
        t->q[i] = in_row(t->r, 1, c->rows.row + row) + (uint32_t)head * (uint32_t)p->head_dim;
        t->out[i] = out_row(t->r, 0, c->rows.row + row) + (uint32_t)head * (uint32_t)p->head_dim;
        t->first[i] = first_seen(p, at);
        t->last[i] = last_seen(t->r, c->rows.row + row, at);
        if (t->last[i] > c->hi) t->last[i] = c->hi;  // the word has changed since
        t->lo = t->first[i] < t->lo ? t->first[i] : t->lo;
        t->hi = t->last[i] > t->hi ? t->last[i] : t->hi;
    }
}

static float* record_of(const struct attend* a, const struct cut* c, const struct tile* t, int kv,
                        int vector, int32_t partition) {
    const uint64_t index =
        c->first_record +
        (uint64_t)(uint32_t)(kv * c->vectors + vector) * (uint32_t)c->n_partitions +
        (uint32_t)(partition - c->first_partition);
    return (float*)(a->records + index * htp_attend_record_bytes((uint32_t)t->p->head_dim));
}

static void take_tile(const struct attend* a, const struct cut* c, struct tile* t, int kv,
                      int begin) {
    const int left = c->vectors - begin, tile = 1 << a->tile_log2;
    take_vectors(a, c, t, kv, begin, left < tile ? left : tile);
}

static void run_split_unit(const struct attend* a, const struct cut* c, struct tile* t, int unit) {
    const int32_t partition = c->first_partition + unit % c->n_partitions;
    const int kv = unit / c->n_partitions / c->n_tiles,
              begin = unit / c->n_partitions % c->n_tiles << a->tile_log2;
    take_tile(a, c, t, kv, begin);
    run_partition(t, partition);
    for (int i = 0; i < t->n; i++) {
        float* record = record_of(a, c, t, kv, begin + i, partition);
        record[0] = t->partition.m[i], record[1] = t->partition.l[i];
        for (uint32_t d = 0; d < t->padded; d += 32)
            hvx_store(record + 32 + d, hvx_load(t->partition.o + (uint32_t)i * t->padded + d));
    }
}

static void unit_part(void* args, unsigned part, unsigned parts) {
    const struct attend* a = args;
    struct tile t;
    struct cut c;
    begin_tile(a, &t, part);
    int u = (int)part;
    EACH_CUT(a, &c) {
        for (; u < c.units; u += (int)parts) {
            if (c.is_split) {
                run_split_unit(a, &c, &t, u);
            } else {
                take_tile(a, &c, &t, u / c.n_tiles, u % c.n_tiles << a->tile_log2);
                run_tile(&t);
            }
        }
        u -= c.units;
    }
}

static void join_vector(const struct attend* a, const struct cut* c, struct tile* t, int u) {
    const int kv = u / c->vectors, vector = u % c->vectors;
    take_vectors(a, c, t, kv, vector, 1);
    clear(t, &t->total);
    for (int32_t partition = t->lo / PARTITION; partition <= t->hi / PARTITION; partition++) {
        float* record = record_of(a, c, t, kv, vector, partition);
        const struct state from = {{record[0]}, {record[1]}, record + 32};
        if (sees(t, 0, partition * PARTITION, (partition + 1) * PARTITION))
            merge(t, &t->total, &from, 0);
    }
    write_out(t, 0);
}

static void join_part(void* args, unsigned part, unsigned parts) {
    const struct attend* a = args;
    struct tile t;
    struct cut c;
    begin_tile(a, &t, part);
    int u = (int)part;
    EACH_CUT(a, &c) {
        if (!c.is_split) continue;
        const int vectors = t.p->n_kv_heads * c.vectors;
        for (; u < vectors; u += (int)parts) join_vector(a, &c, &t, u);
        u -= vectors;
    }
}

// Units of work: a KV head and up to 16 vectors of a segment. Where one would keep a thread busy
// beyond the others each partition becomes a unit, and its results are joined afterwards, in the
// same order. With fewer units than threads the tiles get smaller, and keys and values are read by
// several threads from the shared cache.
void op_attend(struct op_run* r) {
    const AttendParams* p = &r->op->params.attend;
    const int threads = (int)r->op->tiling.threads;
    struct cut c;
    struct attend a = {r, p->n_heads / p->n_kv_heads, QUERIES_LOG2, 0, 0};
    a.records = r->scratch + (uint32_t)threads * htp_attend_thread_bytes((uint32_t)p->head_dim);
    EACH_CUT(&a, &c) {
        // Positions that have left the cache cannot be asked for.
        if (c.hi - c.lo + 1 > (int32_t)htp_span(r->op))
            return op_fail(r, HTP_WHY_STATE, 0, (uint32_t)(c.hi - c.lo + 1),
                           (uint32_t)htp_span(r->op));
        a.work += (int64_t)p->n_kv_heads * c.n_tiles * c.n_partitions;
    }
    int any_split = 0;
    for (;; a.tile_log2--) {
        int units = 0;
        EACH_CUT(&a, &c) units += c.units, any_split |= c.is_split;
        if (units >= threads || a.tile_log2 == 0) break;
    }
    workers_run(unit_part, &a, (unsigned)threads);
    if (any_split) workers_run(join_part, &a, (unsigned)threads);
}
