// The steps of a plan: closures that enqueue the kernels of one node. ops/ has a file for each
// family of ops; ops/steps.cpp chooses.
#pragma once
#include <functional>
#include <tuple>
#include <vector>

#include "backends/cuda/device/runtime.h"
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/matmul.h"
#include "core/contract/step_state.h"
#include "core/graph.h"

namespace pillion::cuda {

// What a run has at most; grids are made for it.
struct Bounds {
    int rows, out_rows;
    int positions;  // every row stands below
    int segments;
    int longest;  // rows of a segment
    int count(Rows kind) const { return kind == Rows::out ? out_rows : rows; }
    bool operator<(const Bounds& o) const { return key() < o.key(); }

  private:
    std::tuple<int, int, int, int, int> key() const {
        return {rows, out_rows, positions, segments, longest};
    }
};

struct Step {
    Op op = Op::count;
    int layer = -1;
    const char* kernel = "";
    std::function<void(const Bounds&, stream_t)> enqueue;  // nothing when there are no rows
};

struct StepArgs {
    const Graph& graph;
    const Node& node;
    const DeviceLimits& limits;
    const StepState* state;  // device memory
    uint8_t* in[6];          // device addresses; null: none
    uint8_t* out[2];
    uint8_t* scratch;      // of the node
    KvPages pages;         // of the cache that the node reads or writes
    bool plain_attention;  // attend: not the tiled kernels
};

// Makes the step of an op from the node and its addresses.
using MakeStep = Step (*)(const StepArgs& args);
MakeStep step_maker(Op op);  // null: the op has none
// True also for the products and the rope table, whose steps need more.
bool has_kernel(Op op);
Step make_embed_step(const StepArgs& args);
Step make_norm_step(const StepArgs& args);
Step make_qkv_step(const StepArgs& args);
Step make_kv_store_step(const StepArgs& args);
Step make_elementwise_step(const StepArgs& args);
Step make_moe_step(const StepArgs& args);   // moe_route, moe_sum
Step make_head_step(const StepArgs& args);  // softcap, argmax, centroid_head
Step make_rope_table_step(const StepArgs& args, const float* frequencies);
Step make_copy_step(const StepState* state, const ValueInfo& value, const uint8_t* from,
                    uint8_t* to);

// --- products ---

struct ProductArgs {
    StepArgs step;
    uint8_t* prepared[4];        // by InputKind
    std::vector<DType> earlier;  // of the weights that prepared this input before
    uint8_t* lists;              // of routed experts
    bool makes_lists;
};
Step make_matmul_step(const ProductArgs& args);
Step make_moe_matmul_step(const ProductArgs& args);
inline MoeShape moe_shape(const MoeParams& p) { return {p.n_experts, p.n_used, p.per_row}; }

struct CentroidLayout {  // offsets into the scratch of one centroid_head
    size_t clusters, prepared, bytes;
};
CentroidLayout centroid_scratch(const CentroidHeadParams& p, const Tensor& table, int rows_max);

// --- attention ---

// Of runs of any length over this cache.
AttnShape attn_shape(const AttendParams& p, const KvStore& store, int rows, bool plain,
                     bool sees_ahead);
AttnShape attn_shape(const AttendParams& p, const KvStore& store, Rows kind, const Bounds& bounds,
                     bool plain, bool sees_ahead);
Step make_attend_step(const StepArgs& args);

// --- shared ---

inline RunRows run_rows(const StepState* state, Rows kind, const Bounds& b) {
    return {state, kind == Rows::out, b.count(kind), b.segments};
}
RowCount row_count(const StepState* state, Rows kind, const Bounds& b, int per_row = 1);
PackedWeight packed_weight(const Tensor& tensor, const uint8_t* data);

}  // namespace pillion::cuda
