// The kernels of one instruction set and their arguments: every function that a plan may call. A
// table starts as a copy of the next plainer one and replaces the kernels that it has. `generic`
// (plain scalar C++, the reference) has every kernel.
//
// The arithmetic is part of the contract. Each kernel is a fixed sequence of single IEEE-754 f32
// operations, fused where "fma" is written. All tables therefore give the same bits, and a row's
// result depends only on the row. Sums over a vector run in kVirtualLanes accumulators: element i
// goes to accumulator i % 16, in order, and the accumulators are folded 8+8, 4+4, 2+2, 1+1;
// elements past the end count as +0. exp, tanh and the activations are the fixed sequences of
// body/math.inl. NaNs propagate (except through argmax); their sign and payload are not part of the
// contract.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cpu/activations.h"
#include "backends/cpu/formats.h"
#include "backends/cpu/kv_head.h"
#include "core/contract/op_params.h"

namespace pillion::cpu {

// Most columns of a register kernel: a token and eight drafts.
constexpr int kMatvecMax = 9;
// Most columns of one call of the matmul kernel.
constexpr int kMatmulMax = 128;
constexpr int kVirtualLanes = 16;
// Most query vectors of one call of attend_split.
constexpr int kAttendQueriesMax = 16;
// Most positions of one call of attend_local.
constexpr int kLocalWindowMax = 64;

// Panels [begin, end) of a packed matrix times some columns.
//   out[c][row] = sum over inputs of weight[row][input] * column c,
//   for row in [begin * 32, min(end * 32, rows))
struct PanelArgs {
    const uint8_t* weights;  // first panel of the matrix
    size_t panel_bytes;
    int begin, end;
    // of the matrix; the kernel writes nothing past it
    int rows;
    int inputs;
    const ActBlock* act;    // quantized formats: [inputs / 32][act_columns], the first `columns`
    const float* const* x;  // float formats (f32, f16, bf16): x[c][input]
    int columns, act_columns;
    float* const* out;  // out[c][row]
    // bytes ahead of the reading point. 0: the hardware prefetches alone. Below 0: into the second
    // cache, and only if arithmetic is slower than memory. Pass the table's value.
    int prefetch;
};
using PanelKernel = void (*)(const PanelArgs&);

// One head of one row over the n positions up to the row, of which the last is the row's own.
//   q' = q * q_scale
//   s_p = softcap * tanh((q' . (k_p + r_(n - 1 - p))) / softcap), the product in kVirtualLanes
//   m = max s_p, w_p = exp(s_p - m), l = sum w_p, each over p in order
//   out = (the fma chain of w_p * v_p over p in order, from +0) * (1 / l)
struct AttendLocalArgs {
    const float *q, *q_scale;  // [head_dim]
    // of the first position; the next one's is so many floats further on
    const float *k, *v;
    int64_t k_stride, v_stride;
    // of distance 0; the next one's is `relative_stride` floats further on
    const float* relative;
    int64_t relative_stride;
    int n;  // 1 .. kLocalWindowMax
    int head_dim;
    float softcap;
    float* out;  // [head_dim]; none of the others
};

// One row of a 3 x 3 convolution of stride 2, with its layer norm and ReLU. For the bands
// b < bands and the channels c < out:
//   z_c = the fma chain of x[a][2b + m][i] * weight[a][m][i][c] over a, m, i in order, from +0
//   mean = sum z / out, var = sum (z - mean)^2 / out by fma, both in kVirtualLanes
//   y[b][c] = max(0, ((z_c - mean) * (1 / sqrt(var + eps))) * norm_c)
struct ConvArgs {
    const float* x[3];    // rows [2 * bands + 1][in] at least, with the zeros around
    const float* weight;  // [3][3][in][out]
    const float* norm;    // [out]
    int in, out, bands;
    float eps;
    float* y;  // [bands][out]
};

// One KV head and up to kAttendQueriesMax query vectors over the positions [begin, end) of one
// split. For each query and first <= p <= last (and begin <= p < end):
//   s_p = (q . k_p) * scale, or softcap * tanh(that / softcap) when softcap > 0
//   m = max s_p,  l = sum exp(s_p - m),  o = sum exp(s_p - m) * v_p
// Without a visible position: m = -inf, l = 0, o = 0.
// q . k is one fma chain over the dimensions in order (per position). o is one fma chain over the
// positions in order (per dimension). l is summed in kVirtualLanes by (p - begin). A position
// outside [first, last] enters no sum of the query, whatever lies in its slot.
struct AttendArgs {
    KvHead kv;
    const float* const* q;  // [n_q][head_dim], rotated
    // [n_q] first and last visible position, inclusive; first > last: nothing is visible
    const int32_t* first;
    const int32_t* last;
    int n_q;
    int32_t begin, end;  // begin % KV_SPLIT == 0, end - begin <= KV_SPLIT
    float scale, softcap;
    float* m;         // [n_q]
    float* l;         // [n_q]
    float* const* o;  // [n_q][head_dim]
};

// 32 query vectors of one head over n positions, with int8 products (body/attend_all.inl):
//   o[d][query] = sum over p of softmax(q . k_p * scale) * v_p[d]
// keys and the queries' codes come from quantize_row, values from quantize.
struct AttendAllArgs {
    // codes + 128 of the queries, as a panel of 8-bit codes: [dims / 4][kPanel][4]
    const uint8_t* q;
    const float* q_scale;  // [kPanel] a query's own scale times that of the scores times log2(e)
    int dims;              // head_dim, rounded up to a multiple of 32; what is added is zero
    const ActBlock* keys;  // [n][dims / 32]; the blocks of a key have one scale
    int n;
    const ActBlock* values;  // [n / 32, rounded up][head_dim]: 32 positions of a dimension each
    int head_dim;
    float* o;  // [head_dim][kPanel]
};

// Norm and rotation of one head vector, in place.
struct HeadArgs {
    float* x;             // [head_dim]
    const float* weight;  // [head_dim] or null
    // [rope_dims / 2]; null: no rotation
    const float* cos;
    const float* sin;
    int head_dim, rope_dims;
    bool normalize;  // RMS norm before the rotation
    // pairs (2i, 2i+1); else (i, i + rope_dims / 2): a = fma(-b, sin, a * cos), b = fma(a, sin, b *
    // cos)
    bool interleaved;
    float eps;
};

// Tiles of at most `most` columns are multiplied in groups of at most `columns`; 0: never.
struct MatvecGroup { int columns, most; };

struct KernelTable {
    const char* name;
    int lanes;
    int matvec_most;  // most columns for `matvec`; `matmul` takes more
    int prefetch;

    PanelKernel matvec[kFormats][kMatvecMax + 1];  // [format][columns], 1-based
    PanelKernel matmul[kFormats];                  // 1 .. kMatmulMax columns
    // More columns than `matvec_most` go to `matvec` too, panel by panel in groups, where that is
    // faster than `matmul`.
    MatvecGroup matvec_group[kFormats];
    // Quantizes one column of floats into blocks act[b * stride], b < inputs / 32.
    void (*quantize)(const float* x, int inputs, ActBlock* act, ptrdiff_t stride);
    // As quantize, with one scale for the whole column; act[0] has the zero8 of all. act: [inputs /
    // 32].
    void (*quantize_row)(const float* x, int inputs, ActBlock* act);
    void (*attend_all)(const AttendAllArgs&);
    // Runs the dot products of the matmuls at full speed, without reading memory: `rounds` times a
    // fixed number. Returns the multiply-adds. Null: the table does not measure this.
    int64_t (*dot_peak)(int64_t rounds);

    // y = x * (1 / sqrt(mean(x^2) + eps)) * w      w may be null; y may be x
    void (*rms_norm)(const float* x, const float* w, float* y, int n, float eps);
    // y = (x + rms_norm(a; w)) * scale             y may be x or a
    void (*rms_norm_add)(const float* a, const float* w, const float* x, float scale, float* y,
                         int n, float eps);
    // y = (x - mean) * (1 / sqrt(variance + eps)) * w + b     w, b: b may be null; y may be x.
    // mean = sum / n; variance = sum((x - mean)^2) / n
    void (*layer_norm)(const float* x, const float* w, const float* b, float* y, int n, float eps);
    void (*head_norm_rope)(const HeadArgs&);
    void (*add)(const float* a, const float* b, float* y, int n);
    void (*scale)(const float* x, float s, float* y, int n);
    void (*multiply_add)(const float* x, float s, float* y, int n);  // y = fma(x, s, y)
    // y = max(low, min(high, x + bias)); bias may be null; y may be x
    void (*bound)(const float* x, const float* bias, float low, float high, float* y, int n);
    // y = act(gate) * up, or act(gate) where up is null
    void (*glu)(const float* gate, const float* up, float* y, int n, Activation activation);
    void (*softcap)(float* x, int n, float cap);  // x = cap * tanh(x / cap)
    int (*argmax)(const float* x, int n);         // lowest index on ties; NaN never wins
    float (*dot)(const float* a, const float* b, int n);
    // max and sum of exp(x - max); lse = max + log(sum)
    void (*softmax_stats)(const float* x, int n, float* max, float* sum);
    // In place: x = exp(x * scale - max), max of x * scale, and the sum of these. n >= 1.
    void (*softmax_weights)(float* x, int n, float scale, float* max, float* sum);
    // y = ((rows[0] + rows[1] + ...) * factor - bias) * scale     bias, scale may be null
    void (*pool)(const float* const* rows, int n_rows, float factor, const float* bias,
                 const float* scale, float* y, int n);

    // y = the fma chain of w[t][i] * x[t][i] over t = 0 .. taps - 1, from +0. w: [taps][n]
    void (*weigh_rows)(const float* const* x, const float* w, int taps, float* y, int n);
    void (*conv_row)(const ConvArgs&);
    void (*attend_local)(const AttendLocalArgs&);

    // Writes one KV row of one head into its slot.
    void (*kv_store)(const KvHead& kv, int32_t slot, const float* k, const float* v);
    void (*attend_split)(const AttendArgs&);
    // Merges the partial result (ms, ls, os) of a later split into the state (m, l, o):
    //   M = max(m, ms); a = exp(m - M); b = exp(ms - M); l = l*a + ls*b; o = fma(os, b, o*a)
    //   (-inf - -inf counts as weight 0)
    void (*attend_merge)(float* m, float* l, float* o, float ms, float ls, const float* os,
                         int head_dim);
};

const KernelTable* generic_table();
const KernelTable* x86_avx2_table();
const KernelTable* x86_avx_vnni_table();
const KernelTable* x86_avx512_table();
const KernelTable* arm_dotprod_table();
const KernelTable* arm_i8mm_table();

}  // namespace pillion::cpu
