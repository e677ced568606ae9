// The fixed parameters of each op, in plain C with fixed layouts: a node of a graph holds them, and
// the wire to the DSP carries the same 64 bytes.
#pragma once
#include <stdint.h>

// Activation::silu in C++ is Activation_silu in C.
#define PILLION_ACTIVATIONS(X) X(gelu_tanh) X(silu) X(sigmoid)
enum {
#define PILLION_ACTIVATION(name) Activation_##name,
    PILLION_ACTIVATIONS(PILLION_ACTIVATION)
#undef PILLION_ACTIVATION
};

#ifdef __cplusplus
namespace pillion {
enum class Activation : int32_t {
#define PILLION_ACTIVATION(name) name,
    PILLION_ACTIVATIONS(PILLION_ACTIVATION)
#undef PILLION_ACTIVATION
};
#else
typedef int32_t Activation;
#endif

typedef struct EmbedParams { float scale; } EmbedParams;  // e = table[token] * scale
typedef struct PerLayerEmbedParams {
    int32_t width, n_layers;
    float proj_scale, table_scale, out_scale, eps;
} PerLayerEmbedParams;
typedef struct RopeTableParams {  // angle = pos * position_scale * base^(-2i/dims) / factor_i
    int32_t dims;
    float base, position_scale;
} RopeTableParams;
typedef struct ScaleParams { float scale; } ScaleParams;
typedef struct NormParams { float eps, scale; } NormParams;  // scale: applied last
typedef struct QkvParams {
    int32_t n_heads, n_kv_heads, head_dim, rope_dims;
    float eps;
    uint8_t interleaved;  // rotation pairs (2i, 2i+1), else (i, i + rope_dims/2)
    uint8_t norm_v;       // RMS norm of v, without weight
    uint8_t v_from_k;     // v starts as a copy of k before its norm and rotation
} QkvParams;
// A row at position p sees positions up to p - past_only (a drafter's query stands at a position
// that is not in the cache yet), or up to the row's `until` if that is more. With a window it sees
// only those above p - window; the window has no end ahead.
typedef struct AttendParams {
    int32_t n_heads, n_kv_heads, head_dim, window;
    float scale, softcap;
    int32_t past_only;
} AttendParams;
typedef struct AttendLocalParams {
    int32_t n_heads, head_dim, window;  // window: 1 .. LOCAL_WINDOW_MAX
    float softcap;
} AttendLocalParams;
enum { LOCAL_WINDOW_MAX = 64, CONV_TAPS_MAX = 16 };
typedef struct ConvCausalParams { int32_t taps; } ConvCausalParams;
typedef struct SubsampleParams {
    int32_t channels_1, channels_2;
    float eps;
} SubsampleParams;
// act(gate) * up[:, up_offset ...]; groups > 0: one input of `groups` times (gate, up) side by side
typedef struct GluParams {
    Activation activation;
    int32_t up_offset, groups;
} GluParams;
typedef struct MoeParams {
    int32_t n_experts, n_used, per_row;  // per_row: rows of x per token (1 or n_used)
} MoeParams;
typedef struct SoftcapParams { float cap; } SoftcapParams;
typedef struct CentroidHeadParams {  // cluster c: rows c * V / n_centroids ... of the table
    int32_t n_centroids, n_active;
} CentroidHeadParams;

// clamp(W clamp(x; in) + bias; out); an infinite bound bounds nothing
typedef struct LinearParams { float in_min, in_max, out_min, out_max; } LinearParams;

typedef struct LayerNormParams { float eps; } LayerNormParams;
typedef struct PoolParams { float factor; } PoolParams;  // 1 / n for a mean
// int8: the products take q, k, the weights of the softmax and v in blocks of 32 as int8, else f32.
typedef struct AttendAllParams {
    int32_t n_heads, head_dim, int8;
    float scale;
} AttendAllParams;

typedef union Params {
    EmbedParams embed;
    PerLayerEmbedParams per_layer_embed;
    RopeTableParams rope_table;
    ScaleParams scale;
    NormParams norm;
    QkvParams qkv;
    AttendParams attend;
    AttendLocalParams attend_local;
    ConvCausalParams conv_causal;
    SubsampleParams subsample;
    GluParams glu;
    MoeParams moe;
    SoftcapParams softcap;
    CentroidHeadParams centroid_head;
    LinearParams linear;
    LayerNormParams layer_norm;
    PoolParams pool;
    AttendAllParams attend_all;
    uint8_t bytes[64];
    uint32_t words[16];
} Params;

#ifdef __cplusplus
static_assert(sizeof(Params) == 64, "shared with devices");
}  // namespace pillion
#endif
