// One key and one value row of each head into their slot.
//
//   f16     to nearest even; magnitudes above 65504 become 65504 (also infinities), NaN stays NaN
//   q8_0    per 32: top = max|x|, scale = f16(top / 127) as above, code = round to even(max(-127,
//           min(127, x * (127 / top)))), 0 for NaN
#include <string.h>

#include "backends/htp/dsp/ops/kv_head.h"
#include "backends/htp/dsp/ops/segments.h"
#include "core/contract/blocks.h"

static uint16_t half_of(float x) {
    x = x > 65504.0f ? 65504.0f : x;
    return f32_to_f16(x < -65504.0f ? -65504.0f : x);
}

// codes [32]; returns the scale
static uint16_t quantize_32(const float* x, uint32_t n, int8_t* codes) {
    int32_t top_bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t bits = (int32_t)(bits_of(x[i]) & 0x7fffffff);
        top_bits = bits > top_bits ? bits : top_bits;
    }
    const float top = float_of((uint32_t)top_bits), inverse = top > 0.0f ? 127.0f / top : 0.0f;
    for (uint32_t i = 0; i < 32; i++) {
        float c = i < n ? x[i] * inverse : 0.0f;
        c = c > 127.0f ? 127.0f : c < -127.0f ? -127.0f : c;
        codes[i] = c == c ? (int8_t)(int32_t)(bits_of(c + F32_MAGIC) - bits_of(F32_MAGIC)) : 0;
    }
    return half_of(top / 127.0f);
}

static void store_f16(const struct kv_head* kv, uint32_t slot, const float* k, const float* v) {
    uint8_t* key = kv->k + (uint64_t)kv->k_block_bytes * (slot / 32) + 2 * (slot % 32);
    uint8_t* value = kv->v + (uint64_t)kv->v_row_bytes * slot;
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        const uint16_t a = half_of(k[d]), b = half_of(v[d]);
        memcpy(key + 64 * d, &a, 2);
        memcpy(value + 2 * d, &b, 2);
    }
}

static void store_q8_0(const struct kv_head* kv, uint32_t slot, const float* k, const float* v) {
    uint8_t* key = kv->k + (uint64_t)kv->k_block_bytes * (slot / 32);
    uint8_t* value = kv->v + (uint64_t)kv->v_row_bytes * slot;
    const uint32_t blocks = (kv->head_dim + 31) / 32, at = slot % 32;
    for (uint32_t b = 0; b < blocks; b++, key += 64 + 1024) {
        const uint32_t left = kv->head_dim - 32 * b, n = left < 32 ? left : 32;
        int8_t codes[32];
        uint16_t scale = quantize_32(k + 32 * b, n, codes);
        memcpy(key + 2 * at, &scale, 2);
        for (uint32_t i = 0; i < 32; i++) key[64 + 32 * i + at] = (uint8_t)codes[i];
        scale = quantize_32(v + 32 * b, n, codes);
        memcpy(value + 32 * b, codes, 32);
        memcpy(value + 32 * blocks + 2 * b, &scale, 2);
    }
}

static void store_row(struct op_run* r, int32_t row) {
    const struct htp_tensor* t = &r->op->in[0];
    const struct segment_rows at = row_of(r, row);
    const uint32_t slot = (uint32_t)at.position % t->rows;
    uint64_t page;
    if (!page_offset(r, at.table, at.position, &page)) return;
    const float *k = in_row(r, 1, row), *v = in_row(r, 2, row);
    for (uint32_t h = 0; h < t->depth; h++, k += t->width, v += t->width) {
        const struct kv_head kv = kv_head_of(t, r->in[0] + page, h);
        if (kv.dtype == DType_f16) store_f16(&kv, slot, k, v);
        else store_q8_0(&kv, slot, k, v);
    }
}
// With more rows than a sequence has slots two rows of a run may meet in one; on one thread the
// later one stays, as everywhere.
void op_kv_store(struct op_run* r) {
    if ((uint32_t)r->n <= htp_span(r->op)) return op_rows(r, store_row);
    for (int32_t row = 0; row < r->n; row++) store_row(r, row);
}
