// What a kernel may rely on: every record of a plan is looked at once, when it is prepared. An op
// passes if its operands are there, have the right format and layout, fit each other, lie inside
// their buffers and have memory for the rows of a run, and if its scratch and VTCM are large
// enough. Nothing here trusts the host's arithmetic; products are 64 bits wide.
#include "backends/htp/dsp/plan_check.h"

#include "backends/htp/dsp/ops/ops.h"
#include "backends/htp/dsp/vtcm.h"

enum {
    SPAN_MAX = 1 << 30,
    HEAD_DIM_MAX = 1024,
    HEADS_MAX = 1024,
    EXPERTS_MAX = 4096,
    LAYERS_MAX = 1024
};

struct check {
    const struct dsp_buffer* buffers;
    const struct htp_op* op;
    uint32_t rows_max, out_rows_max;
    struct dsp_why* why;
    uint64_t bytes[HTP_IN + HTP_OUT];  // of each operand
};

static int no(struct check* c, int32_t why, int32_t operand, uint64_t value, uint64_t limit) {
    c->why->why = why;
    c->why->operand = operand;
    c->why->value = value > 0xFFFFFFFFu ? 0xFFFFFFFFu : (uint32_t)value;
    c->why->limit = limit > 0xFFFFFFFFu ? 0xFFFFFFFFu : (uint32_t)limit;
    return -1;
}

static int is_zero(const void* bytes, uint64_t n) {
    const uint8_t* p = bytes;
    for (uint64_t i = 0; i < n; i++)
        if (p[i]) return 0;
    return 1;
}

// ---- an operand ----

static int inside(struct check* c, int32_t k, const struct htp_tensor* t, uint64_t bytes,
                  uint32_t align) {
    c->bytes[k] = bytes;
    if (buffer_bytes(c->buffers, t->buffer, t->offset, bytes, align, c->why)) return 0;
    c->why->operand = k;
    return -1;
}

static int check_rows(struct check* c, int32_t k, const struct htp_tensor* t, uint32_t align) {
    const uint32_t block = t->dtype == DType_i32 ? 1 : htp_block_inputs(t->dtype);
    if (t->layout != HTP_ROWS) return no(c, HTP_WHY_LAYOUT, k, t->layout, HTP_ROWS);
    if (t->depth != 1) return no(c, HTP_WHY_SHAPE, k, t->depth, 1);
    if (t->width % block) return no(c, HTP_WHY_SHAPE, k, t->width, block);
    if (t->stride % align) return no(c, HTP_WHY_ALIGNMENT, k, t->stride, align);
    const uint64_t row = (uint64_t)t->width / block * htp_block_bytes(t->dtype);
    if (t->rows > 1 && t->stride < row) return no(c, HTP_WHY_SHAPE, k, t->stride, row);
    return inside(c, k, t, (uint64_t)(t->rows - 1) * t->stride + row, align);
}

// Rows of a run: `counts` says which, and the memory holds them all.
static int check_counts(struct check* c, int32_t k, const struct htp_tensor* t, uint32_t counts) {
    if (t->counts != counts) return no(c, HTP_WHY_SHAPE, k, t->counts, counts);
    const uint32_t need = counts == Rows_run   ? c->rows_max
                          : counts == Rows_out ? c->out_rows_max
                                               : 1;
    return t->rows < need ? no(c, HTP_WHY_SHAPE, k, t->rows, need) : 0;
}

static int check_packed(struct check* c, int32_t k, const struct htp_tensor* t) {
    if (t->layout != HTP_PACKED) return no(c, HTP_WHY_LAYOUT, k, t->layout, HTP_PACKED);
    if (!htp_group_bytes(t->dtype)) return no(c, HTP_WHY_DTYPE, k, t->dtype, 0);
    if (t->width % htp_block_inputs(t->dtype))
        return no(c, HTP_WHY_SHAPE, k, t->width, htp_block_inputs(t->dtype));
    const uint64_t panel = htp_panel_bytes(t->dtype, t->width);
    if (t->stride != panel) return no(c, HTP_WHY_SHAPE, k, t->stride, panel);
    if (panel * htp_panels(t->rows) > 1ull << 32)
        return no(c, HTP_WHY_BOUNDS, k, panel * htp_panels(t->rows), 1ull << 32);
    return inside(c, k, t, panel * htp_panels(t->rows) * t->depth, HTP_VECTOR);
}

// The page table of the op's cache. One page needs none.
static int check_table(struct check* c, int32_t k) {
    const struct htp_pages* p = &c->op->pages;
    const uint64_t slots = c->op->in[0].rows;
    if (!p->entries) return is_zero(p, sizeof *p) ? 0 : no(c, HTP_WHY_TABLE, k, p->n_pages, 0);
    if (!p->n_pages) return no(c, HTP_WHY_PAGE, k, 0, 1);
    if (slots * p->entries > SPAN_MAX) return no(c, HTP_WHY_TABLE, k, p->entries, SPAN_MAX / slots);
    if (p->stride < p->entries || p->stride > 1u << 28)
        return no(c, HTP_WHY_TABLE, k, p->stride, p->entries);
    if (!p->sequences || p->sequences > 1u << 28)
        return no(c, HTP_WHY_TABLE, k, p->sequences, 1u << 28);
    if (buffer_bytes(c->buffers, p->buffer, p->offset, htp_table_bytes(p), 4, c->why)) return 0;
    c->why->operand = k;
    return -1;
}

static int check_cache(struct check* c, int32_t k, const struct htp_tensor* t) {
    if (t->layout != HTP_KV) return no(c, HTP_WHY_LAYOUT, k, t->layout, HTP_KV);
    if (t->dtype != DType_f16 && t->dtype != DType_q8_0)
        return no(c, HTP_WHY_DTYPE, k, t->dtype, DType_f16);
    if (t->width > HEAD_DIM_MAX) return no(c, HTP_WHY_SHAPE, k, t->width, HEAD_DIM_MAX);
    if (t->depth > HEADS_MAX) return no(c, HTP_WHY_SHAPE, k, t->depth, HEADS_MAX);
    if (t->rows % KV_SPLIT) return no(c, HTP_WHY_SHAPE, k, t->rows, KV_SPLIT);
    const uint64_t page = htp_page_bytes(c->op), n = c->op->pages.n_pages;
    if (n > 1 && page > (1ull << 32) / n) return no(c, HTP_WHY_BOUNDS, k, ~0u, ~0u);
    return inside(c, k, t, page * (n ? n : 1), 64) || check_table(c, k) ? -1 : 0;
}

static int check_operand(struct check* c, int32_t k, const struct htp_tensor* t,
                         const OperandInfo* info) {
    const uint8_t kind = info->kind;
    if (t->layout == HTP_ABSENT)
        return kind == Operand_none || info->is_optional ? 0 : no(c, HTP_WHY_OPERAND, k, 0, 1);
    if (kind == Operand_none) return no(c, HTP_WHY_OPERAND, k, 1, 0);
    if (t->width < 1 || t->width > 1u << 28 || t->rows < 1 || t->rows > 1u << 28 || t->depth < 1)
        return no(c, HTP_WHY_SHAPE, k, t->width < 1 || t->width > 1u << 28 ? t->width : t->rows,
                  1u << 28);
    switch (kind) {
        case Operand_table:
            if (t->layout == HTP_PACKED)
                return t->depth == 1 ? check_packed(c, k, t) : no(c, HTP_WHY_SHAPE, k, t->depth, 1);
            return htp_block_inputs(t->dtype) ? check_rows(c, k, t, 1)
                                              : no(c, HTP_WHY_DTYPE, k, t->dtype, 0);
        case Operand_matrix:
            return t->depth == 1 ? check_packed(c, k, t) : no(c, HTP_WHY_SHAPE, k, t->depth, 1);
        case Operand_stack: return check_packed(c, k, t);
        case Operand_cache: return check_cache(c, k, t);
        default: break;
    }
    const uint32_t dtype = kind == Operand_token || kind == Operand_ids ||
                                   kind == Operand_score_ids || kind == Operand_order
                               ? DType_i32
                               : DType_f32;
    if (t->dtype != dtype) return no(c, HTP_WHY_DTYPE, k, t->dtype, dtype);
    if (kind == Operand_token && t->width != 1) return no(c, HTP_WHY_SHAPE, k, t->width, 1);
    if (check_rows(c, k, t, 4)) return -1;
    switch (kind) {
        case Operand_vector:
        case Operand_order: return check_counts(c, k, t, Rows_fixed);
        case Operand_run_row: return check_counts(c, k, t, Rows_run);
        case Operand_any_row:
            return check_counts(c, k, t, t->counts == Rows_run ? Rows_run : c->op->rows);
        case Operand_score_ids:
            return check_counts(c, k, t, t->counts == Rows_fixed ? Rows_fixed : c->op->rows);
        default: return check_counts(c, k, t, c->op->rows);
    }
}

// ---- shapes of an op ----

static int width_is(struct check* c, int32_t k, uint64_t width) {
    const struct htp_tensor* t = k < HTP_IN ? &c->op->in[k] : &c->op->out[k - HTP_IN];
    if (t->layout == HTP_ABSENT || t->width == width) return 0;
    return no(c, HTP_WHY_SHAPE, k, t->width, width);
}
// A positive parameter.
static int within(struct check* c, int32_t word, int64_t value, int64_t low, int64_t high) {
    return value < low || value > high
               ? no(c, HTP_WHY_PARAMS, word, (uint64_t)(uint32_t)value, (uint64_t)high)
               : 0;
}
enum { OUT0 = HTP_IN, OUT1 = HTP_IN + 1 };

static int check_qkv(struct check* c) {
    const QkvParams p = c->op->params.qkv;
    const struct htp_tensor* in = c->op->in;
    if (within(c, 0, p.n_heads, 0, HEADS_MAX) || within(c, 1, p.n_kv_heads, 0, HEADS_MAX) ||
        within(c, 2, p.head_dim, 1, HEAD_DIM_MAX) || within(c, 3, p.rope_dims, 0, p.head_dim))
        return -1;
    if (p.rope_dims % 2) return no(c, HTP_WHY_PARAMS, 3, (uint32_t)p.rope_dims, 2);
    if (p.v_from_k && in[2].layout != HTP_ABSENT && in[1].layout == HTP_ABSENT)
        return no(c, HTP_WHY_OPERAND, 1, 0, 1);
    const uint32_t dim = (uint32_t)p.head_dim;
    if (width_is(c, 0, (uint64_t)dim * (uint32_t)p.n_heads) ||
        width_is(c, 1, (uint64_t)dim * (uint32_t)p.n_kv_heads) ||
        width_is(c, 2, (uint64_t)dim * (uint32_t)p.n_kv_heads) || width_is(c, 3, dim) ||
        width_is(c, 4, dim))
        return -1;
    return in[5].width < (uint32_t)p.rope_dims
               ? no(c, HTP_WHY_SHAPE, 5, in[5].width, (uint32_t)p.rope_dims)
               : 0;
}

static int check_attend(struct check* c) {
    const AttendParams p = c->op->params.attend;
    const struct htp_tensor* cache = &c->op->in[0];
    if (within(c, 0, p.n_heads, 1, HEADS_MAX) || within(c, 1, p.n_kv_heads, 1, p.n_heads) ||
        within(c, 2, p.head_dim, 1, HEAD_DIM_MAX) || within(c, 3, p.window, 0, 1 << 30) ||
        within(c, 6, p.past_only, 0, 1))
        return -1;
    if (p.n_heads % p.n_kv_heads)
        return no(c, HTP_WHY_PARAMS, 1, (uint32_t)p.n_kv_heads, (uint32_t)p.n_heads);
    if (cache->depth != (uint32_t)p.n_kv_heads)
        return no(c, HTP_WHY_SHAPE, 0, cache->depth, (uint32_t)p.n_kv_heads);
    const uint64_t width = (uint64_t)p.n_heads * (uint32_t)p.head_dim;
    return width_is(c, 0, (uint32_t)p.head_dim) || width_is(c, 1, width) || width_is(c, OUT0, width)
               ? -1
               : 0;
}

static int check_glu(struct check* c) {
    const GluParams p = c->op->params.glu;
    const struct htp_tensor *in = c->op->in, *out = c->op->out;
    if (within(c, 0, p.activation, Activation_gelu_tanh, Activation_silu) ||
        within(c, 1, p.up_offset, 0, 1 << 28) || within(c, 2, p.groups, 0, 1 << 16))
        return -1;
    if (p.groups == 0) {
        if (in[1].layout == HTP_ABSENT) return no(c, HTP_WHY_OPERAND, 1, 0, 1);
        const uint64_t need = (uint64_t)(uint32_t)p.up_offset + out[0].width;
        return width_is(c, 0, out[0].width) ? -1
               : in[1].width < need         ? no(c, HTP_WHY_SHAPE, 1, in[1].width, need)
                                            : 0;
    }
    if (in[1].layout != HTP_ABSENT) return no(c, HTP_WHY_OPERAND, 1, 1, 0);
    if (out[0].width % (uint32_t)p.groups)
        return no(c, HTP_WHY_PARAMS, 2, (uint32_t)p.groups, out[0].width);
    return width_is(c, 0, 2ull * out[0].width);
}

static int check_moe(struct check* c) {
    const MoeParams p = c->op->params.moe;
    const struct htp_tensor *in = c->op->in, *out = c->op->out;
    if (within(c, 0, p.n_experts, 1, EXPERTS_MAX) ||
        within(c, 1, p.n_used, 1,
               p.n_experts < HTP_EXPERTS_USED_MAX ? p.n_experts : HTP_EXPERTS_USED_MAX))
        return -1;
    const uint32_t experts = (uint32_t)p.n_experts, used = (uint32_t)p.n_used;
    switch (c->op->code) {
        case Op_moe_route:
            return width_is(c, 0, experts) || width_is(c, 1, experts) || width_is(c, OUT0, used) ||
                           width_is(c, OUT1, used)
                       ? -1
                       : 0;
        case Op_moe_sum:
            return width_is(c, 0, (uint64_t)out[0].width * used) || width_is(c, 1, used) ? -1 : 0;
        default: break;
    }
    if (p.per_row != 1 && p.per_row != p.n_used)
        return no(c, HTP_WHY_PARAMS, 2, (uint32_t)p.per_row, used);
    if (in[0].depth != experts) return no(c, HTP_WHY_SHAPE, 0, in[0].depth, experts);
    return width_is(c, 1, (uint64_t)in[0].width * (uint32_t)p.per_row) || width_is(c, 2, used) ||
                   width_is(c, OUT0, (uint64_t)in[0].rows * used)
               ? -1
               : 0;
}

static int check_centroids(struct check* c) {
    const CentroidHeadParams p = c->op->params.centroid_head;
    const struct htp_tensor* table = &c->op->in[2];
    if (within(c, 0, p.n_centroids, 1, 1 << 24) || within(c, 1, p.n_active, 1, p.n_centroids))
        return -1;
    if (table->rows % (uint32_t)p.n_centroids)
        return no(c, HTP_WHY_SHAPE, 2, table->rows, (uint32_t)p.n_centroids);
    const uint64_t width = (uint64_t)(table->rows / (uint32_t)p.n_centroids) * (uint32_t)p.n_active;
    return width_is(c, 0, (uint32_t)p.n_centroids) || width_is(c, 1, table->width) ||
                   width_is(c, 3, table->rows) || width_is(c, OUT0, width) ||
                   width_is(c, OUT1, width)
               ? -1
               : 0;
}

static int check_shapes(struct check* c) {
    const struct htp_tensor *in = c->op->in, *out = c->op->out;
    switch (c->op->code) {
        case Op_embed:
            return width_is(c, OUT0, in[0].width) || width_is(c, 2, in[0].width) ? -1 : 0;
        case Op_per_layer_embed: {
            const PerLayerEmbedParams p = c->op->params.per_layer_embed;
            if (within(c, 0, p.width, 1, 1 << 20) || within(c, 1, p.n_layers, 1, LAYERS_MAX))
                return -1;
            const uint64_t width = (uint64_t)p.width * (uint32_t)p.n_layers;
            return width_is(c, 0, width) || width_is(c, 2, width) ||
                           width_is(c, 3, (uint32_t)p.width) || width_is(c, OUT0, width)
                       ? -1
                       : 0;
        }
        case Op_rope_table: {
            const int32_t dims = c->op->params.rope_table.dims;
            if (in[0].layout == HTP_ABSENT) return no(c, HTP_WHY_OPERAND, 0, 0, 1);
            if (within(c, 0, dims, 2, HEAD_DIM_MAX)) return -1;
            if (dims % 2) return no(c, HTP_WHY_PARAMS, 0, (uint32_t)dims, 2);
            return width_is(c, 0, (uint32_t)dims / 2) || width_is(c, OUT0, (uint32_t)dims) ? -1 : 0;
        }
        case Op_scale:
        case Op_gather_rows: return width_is(c, 0, out[0].width);
        case Op_add:
        case Op_norm: return width_is(c, 0, out[0].width) || width_is(c, 1, out[0].width) ? -1 : 0;
        case Op_norm_add:
            return width_is(c, 0, out[0].width) || width_is(c, 1, out[0].width) ||
                           width_is(c, 2, out[0].width)
                       ? -1
                       : 0;
        case Op_matmul:
            return width_is(c, 1, in[0].width) || width_is(c, OUT0, in[0].rows) ? -1 : 0;
        case Op_qkv_norm_rope: return check_qkv(c);
        case Op_kv_store: {
            const uint64_t width = (uint64_t)in[0].width * in[0].depth;
            return width_is(c, 1, width) || width_is(c, 2, width) ? -1 : 0;
        }
        case Op_attend: return check_attend(c);
        case Op_glu: return check_glu(c);
        case Op_moe_route:
        case Op_moe_matmul:
        case Op_moe_sum: return check_moe(c);
        case Op_argmax: return width_is(c, 1, in[0].width) || width_is(c, OUT1, 1) ? -1 : 0;
        case Op_concat: return width_is(c, OUT0, (uint64_t)in[0].width + in[1].width);
        case Op_centroid_head: return check_centroids(c);
        default: return 0;
    }
}

// ---- tiling ----

enum { TILING = -1 };

// Lists in scratch are read back as indices: no operand may lie over them.
static int check_overlap(struct check* c) {
    const struct htp_tiling* t = &c->op->tiling;
    for (int k = 0; k < HTP_IN + HTP_OUT; k++) {
        const struct htp_tensor* x = k < HTP_IN ? &c->op->in[k] : &c->op->out[k - HTP_IN];
        if (x->layout == HTP_ABSENT || x->buffer != t->scratch_buffer) continue;
        if (x->offset < (uint64_t)t->scratch_offset + t->scratch_bytes &&
            t->scratch_offset < x->offset + c->bytes[k])
            return no(c, HTP_WHY_TILING, k, t->scratch_offset, x->offset);
    }
    const struct htp_pages* p = &c->op->pages;
    if (!p->entries || p->buffer != t->scratch_buffer) return 0;
    return p->offset < (uint64_t)t->scratch_offset + t->scratch_bytes &&
                   t->scratch_offset < p->offset + htp_table_bytes(p)
               ? no(c, HTP_WHY_TILING, 0, t->scratch_offset, p->offset)
               : 0;
}

static int check_tiling(struct check* c) {
    const struct htp_tiling* t = &c->op->tiling;
    const int matmul = c->op->code == Op_matmul;
    if (t->threads < 1 || t->threads > HTP_THREADS_MAX)
        return no(c, HTP_WHY_TILING, TILING, t->threads, HTP_THREADS_MAX);
    if (t->rows_at_once > HTP_MATMUL_ROWS_MAX)
        return no(c, HTP_WHY_TILING, TILING, t->rows_at_once, HTP_MATMUL_ROWS_MAX);
    if (matmul && !t->rows_at_once && !htp_is_float(c->op->in[0].dtype))
        return no(c, HTP_WHY_TILING, TILING, 0, 1);
    const uint64_t scratch = htp_scratch_bytes(c->op, c->rows_max);
    if (t->scratch_bytes < scratch) return no(c, HTP_WHY_TILING, TILING, t->scratch_bytes, scratch);
    if (t->scratch_bytes && !buffer_bytes(c->buffers, t->scratch_buffer, t->scratch_offset,
                                          t->scratch_bytes, HTP_VECTOR, c->why))
        return -1;
    if (t->scratch_bytes && check_overlap(c)) return -1;
    if (!t->fetch_groups) return 0;
    if (!matmul && c->op->code != Op_moe_matmul)
        return no(c, HTP_WHY_TILING, TILING, t->fetch_groups, 0);
    const uint64_t chunk = htp_fetch_bytes(c->op->in[0].dtype, t->fetch_groups);
    if (t->fetch_bytes < chunk) return no(c, HTP_WHY_TILING, TILING, t->fetch_bytes, chunk);
    if (t->fetch_bytes % HTP_VECTOR || t->vtcm_offset % HTP_VECTOR)
        return no(c, HTP_WHY_ALIGNMENT, TILING, t->vtcm_offset, HTP_VECTOR);
    const uint64_t end = t->vtcm_offset + htp_vtcm_bytes(t);
    return end > vtcm_bytes() ? no(c, HTP_WHY_TILING, TILING, vtcm_bytes(), end) : 0;
}

int plan_check_op(const struct dsp_buffer* buffers, const struct htp_op* op, uint32_t rows_max,
                  uint32_t out_rows_max, struct dsp_why* why) {
    struct check c = {buffers, op, rows_max, out_rows_max, why, {0}};
    if (op->code >= Op_count || !dsp_ops[op->code])
        return no(&c, HTP_WHY_OP, -1, op->code, Op_count);
    if (op->rows != Rows_run && op->rows != Rows_out)
        return no(&c, HTP_WHY_SHAPE, -1, op->rows, Rows_out);
    if ((op->code == Op_rope_table && op->rows != Rows_run) ||
        (op->code == Op_gather_rows && op->rows != Rows_out))
        return no(&c, HTP_WHY_SHAPE, -1, op->rows, op->code == Op_rope_table ? Rows_run : Rows_out);
    if (op_info(op->code)->in[0].kind != Operand_cache && !is_zero(&op->pages, sizeof op->pages))
        return no(&c, HTP_WHY_OPERAND, 0, op->pages.n_pages, 0);
    for (int k = 0; k < HTP_IN; k++)
        if (check_operand(&c, k, &op->in[k], &op_info(op->code)->in[k])) return -1;
    for (int k = 0; k < HTP_OUT; k++)
        if (check_operand(&c, HTP_IN + k, &op->out[k], &op_info(op->code)->out[k])) return -1;
    return check_shapes(&c) || check_tiling(&c) ? -1 : 0;
}
