// RMS norms and the rotation of head vectors.
#include <math.h>
#include <string.h>

#include "backends/htp/dsp/ops/ops.h"

static float inverse_of(float sum, uint32_t n, float eps) {
    return 1.0f / sqrtf(sum / (float)n + eps);
}

float rms_inverse(const float* x, uint32_t n, float eps) {
    HVX_Vector sum = Q6_V_vzero();
    uint32_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const HVX_Vector v = f32_load(x + i);
        sum = f32_dot_add(sum, v, v);
    }
    if (i < n) {
        const HVX_Vector v = f32_load_first(x + i, n - i);
        sum = f32_dot_add(sum, v, v);
    }
    return inverse_of(f32_sum(sum), n, eps);
}

// y = x * rms * w, w may be null, y may be x
static void rms_norm(const float* x, const float* w, float* y, uint32_t n, float eps) {
    const float inverse = rms_inverse(x, n, eps);
    if (w) F32_ROW(y, n, i, f32_mul(f32_scale(f32_load(x + i), inverse), f32_load(w + i)));
    else F32_ROW(y, n, i, f32_scale(f32_load(x + i), inverse));
}

static void norm_row(struct op_run* r, int32_t row) {
    const NormParams p = r->op->params.norm;
    float* y = out_row(r, 0, row);
    const uint32_t n = r->op->out[0].width;
    rms_norm(in_row(r, 0, row), (const float*)r->in[1], y, n, p.eps);
    if (p.scale == 1.0f) return;
    F32_ROW(y, n, i, f32_scale(f32_load(y + i), p.scale));
}
void op_norm(struct op_run* r) { op_rows(r, norm_row); }

static void norm_add_row(struct op_run* r, int32_t row) {
    const NormParams p = r->op->params.norm;
    const float *a = in_row(r, 0, row), *w = (const float*)r->in[1], *x = in_row(r, 2, row);
    float* y = out_row(r, 0, row);
    const uint32_t n = r->op->out[0].width;
    const float inverse = rms_inverse(a, n, p.eps);
    if (w)
        F32_ROW(y, n, i,
                f32_scale(f32_add(f32_load(x + i),
                                  f32_mul(f32_scale(f32_load(a + i), inverse), f32_load(w + i))),
                          p.scale));
    else
        F32_ROW(y, n, i,
                f32_scale(f32_add(f32_load(x + i), f32_scale(f32_load(a + i), inverse)), p.scale));
}
void op_norm_add(struct op_run* r) { op_rows(r, norm_add_row); }

// e = (rms(proj * proj_scale; norm) + e * table_scale) * out_scale for each layer's slice; e holds
// the table's row.
void per_layer_mix(const PerLayerEmbedParams* p, const float* proj, const float* w, float* e) {
    const uint32_t n = (uint32_t)p->width;
    for (int32_t l = 0; l < p->n_layers; l++, proj += n, e += n) {
        HVX_Vector sum = Q6_V_vzero();
        for (uint32_t i = 0; i < n; i += 32) {
            const HVX_Vector v = f32_scale(f32_load_first(proj + i, n - i), p->proj_scale);
            sum = f32_dot_add(sum, v, v);
        }
        const float inverse = inverse_of(f32_sum(sum), n, p->eps);
        for (uint32_t i = 0; i < n; i += 32) {
            HVX_Vector v = f32_scale(f32_scale(f32_load(proj + i), p->proj_scale), inverse);
            if (w) v = f32_mul(v, f32_load(w + i));
            f32_store_first(e + i,
                            f32_scale(f32_add(f32_scale(f32_load(e + i), p->table_scale), v),
                                      p->out_scale),
                            n - i);
        }
    }
}

// ---- heads ----

// a' = a cos - b sin, b' = b cos + a sin, the second product fused
static void rotate(float* x, const float* cos, const float* sin, uint32_t dims) {
    const uint32_t half = dims / 2;
    float *first = x, *second = x + half;
    for (uint32_t i = 0; i < half; i += 32) {
        const HVX_Vector a = f32_load(first + i), b = f32_load(second + i), c = f32_load(cos + i),
                         s = f32_load(sin + i);
        const HVX_Vector a1 = f32_mul_sub(f32_mul(a, c), b, s),
                         b1 = f32_mul_add(f32_mul(b, c), a, s);
        f32_store_first(first + i, a1, half - i);
        f32_store_first(second + i, b1, half - i);
    }
}
static void rotate_interleaved(float* x, const float* cos, const float* sin, uint32_t dims) {
    for (uint32_t i = 0; i < dims / 2; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = __builtin_fmaf(-b, sin[i], a * cos[i]);
        x[2 * i + 1] = __builtin_fmaf(a, sin[i], b * cos[i]);
    }
}

struct heads {
    const float *weight, *cos;
    int normalize;
};
static void do_heads(const QkvParams* p, struct heads h, float* x, int32_t n) {
    const uint32_t dim = (uint32_t)p->head_dim, dims = (uint32_t)p->rope_dims;
    for (int32_t i = 0; i < n; i++, x += dim) {
        if (h.normalize) rms_norm(x, h.weight, x, dim, p->eps);
        if (h.cos) (p->interleaved ? rotate_interleaved : rotate)(x, h.cos, h.cos + dims / 2, dims);
    }
}

static void qkv_row(struct op_run* r, int32_t row) {
    const QkvParams p = r->op->params.qkv;
    // The table may have the run's rows while q has only those whose output is wanted.
    const float* cos = in_row(r, 5, r->op->in[5].counts == Rows_run ? r->first_row + row : row);
    const float *q_norm = (const float*)r->in[3], *k_norm = (const float*)r->in[4];
    if (r->in[2]) {
        float* v = in_row(r, 2, row);
        if (p.v_from_k)
            memcpy(v, in_row(r, 1, row),
                   4ull * (uint32_t)p.n_kv_heads *
                       (uint32_t)p.head_dim);  // before k's norm and rotation
        if (p.norm_v) do_heads(&p, (struct heads){0, 0, 1}, v, p.n_kv_heads);
    }
    if (r->in[0])
        do_heads(&p, (struct heads){q_norm, cos, q_norm != 0}, in_row(r, 0, row), p.n_heads);
    if (r->in[1])
        do_heads(&p, (struct heads){k_norm, cos, k_norm != 0}, in_row(r, 1, row), p.n_kv_heads);
}
void op_qkv_norm_rope(struct op_run* r) { op_rows(r, qkv_row); }
