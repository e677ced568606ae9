// The steps a CPU plan is made of, by file: step_matmul.cpp, step_observe.cpp, step_attend.cpp,
// step_rows.cpp (everything that treats each row by itself), step_moe.cpp. All of them only slice
// work and call kernels of the table.
#pragma once
#include <memory>
#include <vector>

#include "backends/cpu/cpu_step.h"
#include "backends/cpu/kernel_table.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/graph.h"

namespace pillion::cpu {

using StepList = std::vector<std::unique_ptr<CpuStep>>;

// A value in memory: row i starts at data + i * stride.
struct RowView {
    float* data = nullptr;
    int64_t stride = 0;
    float* row(int64_t i) const { return data + i * stride; }
};

struct PackedMatrix {
    const uint8_t* panels;
    Format format;
    int rows, inputs;
    size_t panel_bytes;
    int n_panels() const { return (rows + kPanel - 1) / kPanel; }
};
PackedMatrix packed_matrix(
    const Tensor& tensor);  // of depth index 0; the next one lies n_panels * panel_bytes further on
Format format_of(DType dtype);

// Columns per activation tile: small enough for the sums of a tile to stay in the first cache
// (prototypes/lane-pack, README).
constexpr int kMatmulColumns = 64;

inline size_t act_bytes(int inputs, int64_t columns) {
    return sizeof(ActBlock) * size_t(inputs / 32) * size_t(columns);
}

// Multiplies columns [0, columns) with panels [begin, end). act (quantised formats) lies tile after
// tile: [block][columns of the tile]; x (float formats) is one pointer per column, out too.
void multiply(const KernelTable& table, const PackedMatrix& m, int begin, int end,
              const ActBlock* act, const float* const* x, int columns, float* const* out);

struct MatmulOutput {
    PackedMatrix matrix;
    RowView out;
};
// Products of one input with several matrices: quantises the input once, then one step over the
// panels of all of them.
void add_matmul_steps(StepList& steps, const KernelTable& table, int layer, Rows rows, RowView x,
                      int inputs, std::vector<MatmulOutput> outputs, ActBlock* act, int n_threads);

// Shows the input of these weights to the observer, before they multiply it.
void add_observe_step(StepList& steps, int layer, Rows rows, RowView x, int inputs,
                      MatmulObserver& observer, std::vector<int> numbers);

struct AttendLayout {  // scratch that attention needs
    size_t bytes;
    size_t partial_floats_per_vector;
    int vectors_max, partitions_max;
    size_t worker_offset, worker_floats;
};
AttendLayout attend_layout(const AttendParams& p, const KvSpec& spec, int rows_max, int n_threads);
void add_attend_steps(StepList& steps, const KernelTable& table, int layer, Rows rows,
                      const AttendParams& p, const KvStore& store, RowView q, RowView out,
                      const AttendLayout& layout, uint8_t* scratch, int n_threads);

KvHead kv_head(const KvStore& store, int head);

// Ops that treat each row by itself. Null when the node is none of them. worker_scratch:
// `row_step_worker_bytes` per worker.
struct RowStepArgs {
    const KernelTable& table;
    const Graph& graph;
    const Node& node;
    RowView in[6], out[2];
    uint8_t* worker_scratch;
    int n_threads;
};
std::unique_ptr<CpuStep> make_row_step(const RowStepArgs& args);
size_t row_step_worker_bytes(const Graph& graph, const Node& node);

// Centroid head: select the clusters, then multiply each cluster's rows. scratch: act (quantised
// tables), one panel-aligned cluster of outputs per worker, and the chosen clusters.
struct CentroidScratch { size_t chosen, act, worker, worker_floats, bytes; };
CentroidScratch centroid_scratch(const PackedMatrix& table, const CentroidHeadParams& p,
                                 int rows_max, int n_threads);
void add_centroid_head_steps(StepList& steps, const KernelTable& kernels, const Node& node,
                             const Tensor& table, const int32_t* order, RowView scores, RowView x,
                             RowView logits, RowView ids, const CentroidScratch& layout,
                             uint8_t* scratch, int n_threads);

struct MoeScratch {  // offsets into the scratch of one moe_matmul
    size_t lists, act, bytes;
};
MoeScratch moe_scratch(const PackedMatrix& m, const MoeParams& p, int rows_max);
void add_moe_matmul_steps(StepList& steps, const KernelTable& table, int layer, Rows rows,
                          const MoeParams& p, const Tensor& weights, RowView x, const int32_t* ids,
                          int64_t ids_stride, RowView out, const MoeScratch& layout,
                          uint8_t* scratch, int n_threads, MatmulObserver* observer);

}  // namespace pillion::cpu
