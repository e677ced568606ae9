// The steps a CPU plan is made of. ops/ has a file for each family of ops; ops/steps.cpp chooses.
// Steps only slice work and call kernels of the table.
#pragma once
#include <math.h>

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
// (docs/measurements.md).
constexpr int kMatmulColumns = 64;

inline size_t act_bytes(int inputs, int64_t columns) {
    return sizeof(ActBlock) * size_t(inputs / 32) * size_t(columns);
}

// Multiplies columns [0, columns) with panels [begin, end). act (quantized formats) lies tile after
// tile: [block][columns of the tile]; x (float formats) is one pointer per column, out too.
void multiply(const KernelTable& table, const PackedMatrix& m, int begin, int end,
              const ActBlock* act, const float* const* x, int columns, float* const* out);

// What the steps of a node are made from.
struct StepArgs {
    const KernelTable& table;
    const Graph& graph;
    const Node& node;
    RowView in[6], out[2];  // caches: empty
    uint8_t* scratch;       // node_scratch() bytes
    int n_threads;
    MatmulObserver* observer;  // null: none
};
// Whether this backend runs the op.
bool has_kernel(Op op);
// Appends the steps of any node but a matmul. Throws unsupported_op if the op has no kernel.
void add_node_steps(StepList& steps, const StepArgs& args);
size_t node_scratch(const Graph& graph, const Node& node, int n_threads);

// --- matmul, linear: products of one input with several matrices ---

struct MatmulInput {
    const KernelTable& table;
    int layer;
    Rows rows;
    RowView x;
    int inputs;  // width of x
    int n_threads;
    LinearParams bounds;  // in_min, in_max: of x
    bool is_bounded() const { return bounds.in_min != -INFINITY || bounds.in_max != INFINITY; }
};
struct MatmulOutput {
    PackedMatrix matrix;
    RowView out;
    const float* bias;    // null: none
    LinearParams bounds;  // out_min, out_max
    bool is_changed() const {
        return bias || bounds.out_min != -INFINITY || bounds.out_max != INFINITY;
    }
};
// Room for the input's blocks (quantized weights) and for its bounded rows (float weights).
struct MatmulScratch {
    ActBlock* act;
    RowView bounded;
};
// Rounds or bounds the input once, then one step over the panels of all matrices, which are all
// quantized or all float.
void add_matmul_steps(StepList& steps, const MatmulInput& in, std::vector<MatmulOutput> outputs,
                      bool is_quantized, const MatmulScratch& scratch);
// Shows the input of these weights to the observer, before they multiply it.
void add_observe_step(StepList& steps, const MatmulInput& in, MatmulObserver& observer,
                      std::vector<int> numbers);

// --- other ops of several steps ---

struct AttendLayout {  // scratch that attention needs
    size_t bytes;
    size_t partial_floats_per_vector;
    int vectors_max, partitions_max;
    size_t worker_offset, worker_floats;
};
AttendLayout attend_layout(const AttendParams& p, const KvStore& store, int rows_max,
                           int n_threads);
void add_attend_steps(StepList& steps, const StepArgs& args);
size_t attend_all_bytes(const AttendAllParams& p, int rows_max, int n_threads);
void add_attend_all_steps(StepList& steps, const StepArgs& args);
// The page of a head that holds the position of the sequence with this table row.
KvHead kv_head(const KvStore& store, int head, int table, int position);

// Centroid head: select the clusters, then multiply each cluster's rows. scratch: act (quantized
// tables), one panel-aligned cluster of outputs per worker, and the chosen clusters.
struct CentroidScratch { size_t chosen, act, worker, worker_floats, bytes; };
CentroidScratch centroid_scratch(const PackedMatrix& table, const CentroidHeadParams& p,
                                 int rows_max, int n_threads);
void add_centroid_head_steps(StepList& steps, const StepArgs& args);

struct MoeScratch {  // offsets into the scratch of one moe_matmul
    size_t lists, act, bytes;
};
MoeScratch moe_scratch(const PackedMatrix& m, const MoeParams& p, int rows_max);
void add_moe_matmul_steps(StepList& steps, const StepArgs& args);

// Each worker keeps three rows of frames and three of the first convolution.
struct SubsampleScratch { size_t worker_floats, bytes; };
SubsampleScratch subsample_scratch(const SubsampleParams& p, int64_t bands, int n_threads);
void add_subsample_steps(StepList& steps, const StepArgs& args);

// --- ops that treat each row by itself (ops/row_step.h), by file; null: not an op of that file ---

std::unique_ptr<CpuStep> make_embed_step(const StepArgs& args);
std::unique_ptr<CpuStep> make_rope_step(const StepArgs& args);
std::unique_ptr<CpuStep> make_norm_step(const StepArgs& args);
std::unique_ptr<CpuStep> make_elementwise_step(const StepArgs& args);
std::unique_ptr<CpuStep> make_kv_store_step(const StepArgs& args);
std::unique_ptr<CpuStep> make_sound_step(const StepArgs& args);  // attend_local, conv_causal
std::unique_ptr<CpuStep> make_moe_step(const StepArgs& args);    // moe_route, moe_sum
std::unique_ptr<CpuStep> make_head_step(const StepArgs& args);   // softcap, argmax

}  // namespace pillion::cpu
