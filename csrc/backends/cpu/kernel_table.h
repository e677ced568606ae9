// The table of one instruction set and the arguments of its kernels: everything a plan may call. A
// table starts from the next plainer one and replaces what it has; `generic` (plain scalar C++, the
// reference) has every entry.
//
// Arithmetic is part of the contract: each kernel is defined as a fixed sequence of single IEEE-754
// f32 operations (fused where "fma" is written), so all tables give the same bits and a row's
// result depends on nothing but the row. Sums over a vector run in kVirtualLanes accumulators
// (element i goes to accumulator i % 16, in order), folded 8+8, 4+4, 2+2, 1+1; elements past the
// end count as +0. exp, tanh and the activations are the fixed sequences of body/math.inl. NaNs
// come through (argmax excepted); their sign and payload are no part of the contract.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cpu/activations.h"
#include "backends/cpu/formats.h"
#include "backends/cpu/kv_head.h"

namespace pillion::cpu {

constexpr int kMatvecMax = 9;    // columns the register kernels take: a token and eight drafts
constexpr int kMatmulMax = 128;  // columns one call of the matmul kernel takes
constexpr int kVirtualLanes = 16;
constexpr int kAttendQueriesMax = 16;  // query vectors one call of attend_split takes

// Panels [begin, end) of a packed matrix times a few or a tile of columns.
//   out[c][row] = sum over inputs of weight[row][input] * column c, for row in [begin * 32, min(end
//   * 32, rows))
struct PanelArgs {
    const uint8_t* weights;  // first panel of the matrix
    size_t panel_bytes;
    int begin, end;
    int rows;  // of the matrix; nothing is written past it
    int inputs;
    const ActBlock* act;    // quantised formats: [inputs / 32][columns]
    const float* const* x;  // float formats (f32, f16, bf16): x[c][input]
    int columns;
    float* const* out;  // out[c][row]
    int prefetch;  // bytes ahead of the reading point; 0: leave it to the hardware; below 0: into
                   // the second cache, and only where arithmetic is slower than memory. Pass the
                   // table's.
};
using PanelKernel = void (*)(const PanelArgs&);

enum class GluKind : int { gelu_tanh, silu };

// One KV head and up to kAttendQueriesMax query vectors over the positions [begin, end) of one
// split. For each query: s_p = (q . k_p) * scale, or softcap * tanh(that / softcap) when softcap >
// 0, for first <= p <= last (and begin <= p < end);
//   m = max s_p,  l = sum exp(s_p - m),  o = sum exp(s_p - m) * v_p;     nothing visible: m = -inf,
//                 l = 0, o = 0.
// q . k is one fma chain over the dimensions in order (per position); o is one fma chain over the
// positions in order (per dimension); l is summed in kVirtualLanes by (p - begin). What a query
// must not look at is not part of any of its sums, whatever lies there.
struct AttendArgs {
    KvHead kv;
    const float* const* q;  // [n_q][head_dim], rotated
    const int32_t* first;   // [n_q] first and last visible position, inclusive; first > last: none
    const int32_t* last;
    int n_q;
    int32_t begin, end;  // begin % KV_SPLIT == 0, end - begin <= KV_SPLIT
    float scale, softcap;
    float* m;         // [n_q]
    float* l;         // [n_q]
    float* const* o;  // [n_q][head_dim]
};

struct HeadArgs {         // norm and rotation of one head vector, in place
    float* x;             // [head_dim]
    const float* weight;  // [head_dim] or null
    const float* cos;     // [rope_dims / 2] or null: no rotation
    const float* sin;
    int head_dim, rope_dims;
    bool normalize;    // RMS norm before the rotation
    bool interleaved;  // pairs (2i, 2i+1); else (i, i + rope_dims / 2): a = fma(-b, sin, a * cos),
                       // b = fma(a, sin, b * cos)
    float eps;
};

struct KernelTable {
    const char* name;
    int lanes;
    int matvec_most;  // use `matvec` up to this many columns, `matmul` above
    int prefetch;

    PanelKernel matvec[kFormats][kMatvecMax + 1];  // [format][columns], 1-based
    PanelKernel matmul[kFormats];                  // 1 .. kMatmulMax columns
    // One column of floats -> blocks act[b * stride], b < inputs / 32.
    void (*quantize)(const float* x, int inputs, ActBlock* act, ptrdiff_t stride);
    // The dot products of the matmuls as fast as they go, nothing read from memory: `rounds` times
    // some; returns the multiply-adds. Null: not worth knowing.
    int64_t (*dot_peak)(int64_t rounds);

    // y = x * (1 / sqrt(mean(x^2) + eps)) * w      w may be null; y may be x
    void (*rms_norm)(const float* x, const float* w, float* y, int n, float eps);
    // y = (x + rms_norm(a; w)) * scale             y may be x or a
    void (*rms_norm_add)(const float* a, const float* w, const float* x, float scale, float* y,
                         int n, float eps);
    void (*head_norm_rope)(const HeadArgs&);
    void (*add)(const float* a, const float* b, float* y, int n);
    void (*scale)(const float* x, float s, float* y, int n);
    void (*multiply_add)(const float* x, float s, float* y, int n);  // y = fma(x, s, y)
    void (*glu)(const float* gate, const float* up, float* y, int n,
                GluKind kind);                    // y = act(gate) * up
    void (*softcap)(float* x, int n, float cap);  // x = cap * tanh(x / cap)
    int (*argmax)(const float* x, int n);         // lowest index on ties; NaN never wins
    float (*dot)(const float* a, const float* b, int n);
    // max and sum of exp(x - max); lse = max + log(sum)
    void (*softmax_stats)(const float* x, int n, float* max, float* sum);

    // One KV row of one head into its slot.
    void (*kv_store)(const KvHead& kv, int32_t slot, const float* k, const float* v);
    void (*attend_split)(const AttendArgs&);
    // Joins the partial (ms, ls, os) of a later split into the state (m, l, o):
    //   M = max(m, ms); a = exp(m - M); b = exp(ms - M); l = l*a + ls*b; o = fma(os, b, o*a)
    //   (-inf - -inf counts as weight 0)
    void (*attend_merge)(float* m, float* l, float* o, float ms, float ls, const float* os,
                         int head_dim);
};

const KernelTable* generic_table();
const KernelTable* x86_avx2_table();
const KernelTable* x86_avx512_table();
const KernelTable* arm_dotprod_table();
const KernelTable* arm_i8mm_table();

}  // namespace pillion::cpu
