// Rows of an embedding table, in the file's layout or packed, and the per-layer embeddings made
// from them.
#include "backends/htp/dsp/ops/ops.h"
#include "backends/htp/wire/htp_pack.h"

void per_layer_mix(const PerLayerEmbedParams* p, const float* proj, const float* w, float* e);

// 0, or -1: the token is not in the table, and the run has failed.
static int take_row(struct op_run* r, int32_t token, float* out) {
    const struct htp_tensor* table = &r->op->in[0];
    if (token < 0 || (uint32_t)token >= table->rows)
        return op_fail(r, HTP_WHY_TOKEN, 1, (uint32_t)token, table->rows), -1;
    if (table->layout == HTP_PACKED)
        return htp_unpack_row(table->dtype, r->in[0], (uint32_t)token, table->width, out);
    return htp_dequantize_row(table->dtype, r->in[0] + (uint64_t)table->stride * (uint32_t)token,
                              table->width, out);
}

static int32_t token_of(const struct op_run* r, int32_t row) {
    return *(const int32_t*)in_row(r, 1, row);
}

static void embed_row(struct op_run* r, int32_t row) {
    float *y = out_row(r, 0, row), s = r->op->params.embed.scale;
    const uint32_t n = r->op->out[0].width;
    const int32_t token = token_of(r, row);
    if (token < 0 && r->in[2] && (uint32_t)-(token + 1) < r->rows_max) {
        const float* media = in_row(r, 2, -(token + 1));
        F32_ROW(y, n, i, f32_load(media + i));
        return;
    }
    if (take_row(r, token, y) || s == 1.0f) return;
    F32_ROW(y, n, i, f32_scale(f32_load(y + i), s));
}
void op_embed(struct op_run* r) { op_rows(r, embed_row); }

static void per_layer_row(struct op_run* r, int32_t row) {
    float* e = out_row(r, 0, row);
    const int32_t token = token_of(r, row);
    if (take_row(r, token > 0 ? token : 0, e)) return;
    per_layer_mix(&r->op->params.per_layer_embed, in_row(r, 2, row), (const float*)r->in[3], e);
}
void op_per_layer_embed(struct op_run* r) { op_rows(r, per_layer_row); }
