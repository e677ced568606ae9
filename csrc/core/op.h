// What a node of a graph is: an op of ops.def, value ids, and a fixed block of parameters. Plain
// data, compared and copied freely.
#pragma once
#include <stdint.h>

namespace pillion {

enum class Op : uint8_t {
#define PILLION_OP(name, n_in, n_out) name,
#include "core/ops.def"
#undef PILLION_OP
    count
};

struct OpInfo {
    const char* name;
    int n_in, n_out;
};
const OpInfo& info(Op op);

using Value = int32_t;  // index into Graph::values
constexpr Value kNone = -1;

// How many rows a value has in a run; the counts are read from the StepState.
enum class Rows : uint8_t {
    fixed,  // weights, tables
    run,    // StepState.rows
    out,    // StepState.out_rows, the last of the run
};

enum class Activation : int32_t { gelu_tanh, silu };

struct EmbedParams { float scale; };  // e = table[token] * scale
struct PerLayerEmbedParams {
    int32_t width, n_layers;
    float proj_scale, table_scale, out_scale, eps;
};
struct RopeTableParams {
    int32_t dims;
    float base, position_scale;
};  // angle = pos * position_scale * base^(-2i/dims) / factor_i
struct ScaleParams { float scale; };
struct NormParams { float eps, scale; };  // scale: applied last
struct QkvParams {
    int32_t n_heads, n_kv_heads, head_dim, rope_dims;
    float eps;
    uint8_t interleaved;  // rotation pairs (2i, 2i+1), else (i, i + rope_dims/2)
    uint8_t norm_v;       // RMS norm of v, without weight
    uint8_t v_from_k;     // v starts as a copy of k before its norm and rotation
};
// A row at position p sees positions up to p - past_only (a drafter's query stands at a position
// that is not in the cache yet) and, with a window, only those above p - window.
struct AttendParams {
    int32_t n_heads, n_kv_heads, head_dim, window;
    float scale, softcap;
    int32_t past_only;
};
// act(gate) * up[:, up_offset ...]; groups > 0: one input of `groups` times (gate, up) side by side
struct GluParams {
    Activation activation;
    int32_t up_offset, groups;
};
struct MoeParams {
    int32_t n_experts, n_used, per_row;
};  // per_row: rows of x per token (1 or n_used)
struct SoftcapParams { float cap; };
struct CentroidHeadParams {
    int32_t n_centroids, n_active;
};  // cluster c: rows c * V / n_centroids ... of the table

union Params {
    EmbedParams embed;
    PerLayerEmbedParams per_layer_embed;
    RopeTableParams rope_table;
    ScaleParams scale;
    NormParams norm;
    QkvParams qkv;
    AttendParams attend;
    GluParams glu;
    MoeParams moe;
    SoftcapParams softcap;
    CentroidHeadParams centroid_head;
    uint8_t bytes[64];
};

struct Node {
    Op op = Op::count;
    Rows rows = Rows::run;  // over which rows it works
    int16_t layer = -1;     // for reports; -1: outside the layers
    uint8_t part = 0;       // which device of a model that lies on several (core/graph_split.h)
    Value in[6] = {kNone, kNone, kNone, kNone, kNone, kNone};
    Value out[2] = {kNone, kNone};
    Params params = {};
};

}  // namespace pillion
