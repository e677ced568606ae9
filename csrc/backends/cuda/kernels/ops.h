// The ops of core/graph.h except matrix products and attention, as functions that enqueue on a
// stream. Values are f32 [rows, width], rows side by side; pointers are device memory. A row's bits
// depend only on the row: the width alone decides the order of reductions. The arithmetic equals
// the reference kernel's (backends/cpu/generic/ops.cpp) up to the order of sums and the last places
// of exp, tanh and the root.
#pragma once
#include "backends/cuda/device/runtime.h"
#include "backends/cuda/kernels/run_rows.h"
#include "backends/cuda/kv_layout.h"
#include "core/dtype.h"
#include "core/op.h"
#include "core/tensor.h"

namespace pillion::cuda {

// --- embed.cu ---

// Rows in the file's layout, in memory that kernels reach.
struct RowTable {
    const uint8_t* data;
    DType dtype;
    int64_t row_bytes;
    int32_t width, n_rows;
};
// out = scale * table[token]; a token outside the table is clamped to its ends
void embed_rows(const RowTable& table, const int32_t* tokens, float scale, float* out, RunRows rows,
                stream_t stream);
// In place on the table's rows: e[l] = (e[l] * table_scale + rms(proj[l] * proj_scale; norm, if
// given)) * out_scale
// out[row] = media[-1 - token] where the token is below 0. media: [rows.bound, width].
void media_rows(const float* media, const int32_t* tokens, int width, float* out, RunRows rows,
                stream_t stream);
void per_layer_embed(const PerLayerEmbedParams& p, float* e, const float* proj, const float* norm,
                     RunRows rows, stream_t stream);

// --- norm.cu ---

// y = rms(x; weight, if given) * scale; y may be x
void norm(const float* x, const float* weight, float* y, int width, float eps, float scale,
          RunRows rows, stream_t stream);
// y = (residual + rms(branch; weight, if given)) * scale; y may be either
void norm_add(const float* branch, const float* weight, const float* residual, float* y, int width,
              float eps, float scale, RunRows rows, stream_t stream);

// --- rope.cu ---

// out [rows, 2 * half]: cos of position * frequency[i], then sin. In double, because the angles
// reach a million.
void rope_table(const float* frequency, int half, float* out, RunRows rows, stream_t stream);
struct QkvArgs {  // null: the layer lacks it
    float *q, *k, *v;
    const float *q_norm, *k_norm;
    // of all rows of the run, or of these rows alone
    const float* rope;
    bool rope_is_run;
    QkvParams p;
};
void qkv_norm_rope(const QkvArgs& args, RunRows rows, stream_t stream);

// --- kv_store.cu ---

void kv_store(const KvSpec& spec, const KvPages& pages, uint8_t* store, const float* k,
              const float* v, RunRows rows, stream_t stream);

// --- elementwise.cu ---

void scale(const float* x, float s, float* y, int width, RunRows rows, stream_t stream);
void add(const float* a, const float* b, float* y, int width, RunRows rows, stream_t stream);
void softcap(float* x, float cap, int width, RunRows rows, stream_t stream);
void concat(const float* a, int width_a, const float* b, int width_b, float* y, RunRows rows,
            stream_t stream);
// y[:, i] = act(gate) * up. gate and up lie beside each other in each of p.groups parts, or up lies
// at an offset of a row of width_up.
void glu(const GluParams& p, const float* gate, const float* up, int width_up, float* y, int width,
         RunRows rows, stream_t stream);
// Copies the out rows of x (rows of the run): 32-bit words of any type.
void gather_rows(const float* x, float* y, int width, RunRows out_rows, stream_t stream);
void copy_rows(const float* x, float* y, int width, RunRows rows, stream_t stream);

// --- moe.cu ---

void moe_route(const MoeParams& p, const float* logits, const float* expert_scale, int32_t* ids,
               float* gates, RunRows rows, stream_t stream);
void moe_sum(const MoeParams& p, const float* x, const float* gates, float* y, int width,
             RunRows rows, stream_t stream);

// --- head.cu ---

struct ArgmaxArgs {
    const float* scores;
    const int32_t* ids;  // null: a score's own index
    int64_t ids_stride;  // 0: one row for all
    int32_t* token;
    float* probability;  // may be null
    int width;
};
void argmax(const ArgmaxArgs& args, RunRows rows, stream_t stream);
// clusters [rows, n_active]: the best scores, best first. ids [rows, n_active * cluster_rows]:
// order[cluster * cluster_rows ...].
void choose_clusters(const CentroidHeadParams& p, const float* scores, const int32_t* order,
                     int cluster_rows, int32_t* clusters, int32_t* ids, RunRows rows,
                     stream_t stream);

}  // namespace pillion::cuda
