// A forward pass as a flat list of nodes. model/ builds it with functions that read like the model,
// a backend compiles it into a Plan, and the graph is then dropped. Nodes run in the order in which
// they were added. Activations are f32 [rows, width].
#pragma once
#include <initializer_list>
#include <string>
#include <vector>

#include "core/op.h"
#include "core/tensor.h"

namespace pillion {

struct ValueInfo {
    enum class Kind : uint8_t { activation, weight, kv, external };
    Kind kind = Kind::activation;
    DType dtype = DType::f32;
    Rows rows = Rows::run;
    int64_t width = 0;
    Tensor tensor;  // weight, external: where the bytes are
    KvStore kv;
    const char* name = "";
};

class Graph {
  public:
    Graph(int32_t rows_max, int32_t out_rows_max)
        : rows_max_(rows_max), out_rows_max_(out_rows_max) {}

    // --- values from outside the graph ---
    Value weight(const Tensor& tensor);
    Value kv(const KvStore& store);
    // i32 [rows_max or out_rows_max, width]
    Value input_ids(const Tensor& ids, Rows rows, const char* name);
    Value input_tokens(const Tensor& tokens, const char* name = "tokens");  // i32 [rows_max]
    Value input(const Tensor& rows, const char* name);                      // f32 [rows_max, width]
    // The op that makes `value` writes it into the caller's buffer instead of scratch.
    void output(Value value, const Tensor& destination, const char* name);

    // --- ops; a node's `layer` is that of the last begin_layer ---
    void begin_layer(int layer) {
        layer_ = layer;
        if (layer >= 0) part_ = layer >= second_part_from_ ? 1 : 0;
    }
    // This layer, the later ones and the ops behind them belong to part 1, which runs on another
    // device than part 0.
    void second_part_from(int layer) { second_part_from_ = layer; }
    int part() const { return part_; }
    void set_part(int part) { part_ = part; }

    // Add a value or a node unchanged; for code that rewrites graphs.
    Value add_value(const ValueInfo& value) {
        return values_.push_back(value), Value(values_.size()) - 1;
    }
    void append(const Node& node) { nodes_.push_back(node); }

    // media (optional): rows for tokens below 0, which stand for its rows -1 - token, unscaled.
    // A run's tokens name rows below the number of its own.
    Value embed(Value table, Value tokens, float scale, Value media = kNone);
    // For each layer's slice l: e[l] = (rms(proj[l] * proj_scale; norm) + table[token][l] *
    // table_scale) * out_scale.
    Value per_layer_embed(Value table, Value tokens, Value proj, Value norm,
                          const PerLayerEmbedParams& p);
    // [rows, dims]: cos of dims/2 angles, then sin. factors: [dims/2] divisors of the frequencies,
    // >= 1e29 meaning frequency 0.
    Value rope_table(Value factors, const RopeTableParams& p);
    // [rows, dims] of a place in a grid; x, y: i32 [rows, 1]. The first quarter of the pairs turns
    // by x, the second by y. dims: a multiple of 4.
    Value rope_grid(Value x, Value y, const RopeTableParams& p);
    Value scale(Value x, float s);
    Value add(Value a, Value b);
    Value norm(Value x, Value weight, float eps, float scale = 1.0f);  // rms(x; w) * scale
    // (residual + rms(branch; w)) * scale
    Value norm_add(Value branch, Value weight, Value residual, float eps, float scale);
    // (x - mean) / sqrt(variance + eps) * weight + bias
    Value layer_norm(Value x, Value weight, Value bias, float eps);
    Value matmul(Value weight, Value x);
    // A matmul with bounds on x and on the result, and a bias between; the last two are optional.
    Value linear(Value weight, Value x, Value bias, const LinearParams& p);
    // In place. k, v kNone: the layer has no keys of its own. A norm weight of kNone: that norm is
    // left out.
    void qkv_norm_rope(Value q, Value k, Value v, Value q_norm, Value k_norm, Value rope,
                       const QkvParams& p);
    Value empty(Value like_rows, int64_t width);  // scratch for v_from_k
    void kv_store(Value cache, Value k, Value v);
    // until (optional): i32 [rows, 1], the last position that each row sees if it lies ahead of the
    // row's own. All positions up to it must be stored before the op: an image is read in one run.
    Value attend(Value cache, Value q, const AttendParams& p, Value until = kNone);
    // Attention without a cache: every row sees all rows of the op. q, k, v: [rows, n_heads *
    // head_dim].
    Value attend_all(Value q, Value k, Value v, const AttendAllParams& p);
    // Rows 0, 1, ... are the positions of one sound. q, k, v: [rows, n_heads * head_dim]; q_scale:
    // [head_dim]; relative: [window][n_heads * head_dim], by the distance to the position.
    Value attend_local(Value q, Value k, Value v, Value q_scale, Value relative,
                       const AttendLocalParams& p);
    Value conv_causal(Value x, Value weight, int32_t taps);  // weight: [taps][width]
    // x: [frames of the run, bands]; y: [out rows, bands / 4, channels_2], bands / 4 rounded up.
    // Row t stands for frames 4t - 3 ... 4t + 3; a run has (frames + 3) / 4 out rows, and those
    // past them are 0. conv_n: [3 frames][3 bands][channels before][channels]; norm_n: [channels].
    Value subsample(Value x, Value conv_1, Value norm_1, Value conv_2, Value norm_2,
                    const SubsampleParams& p);
    Value activate(Value x, Activation activation);
    // act(gate) * up[:, up_offset ...]
    Value glu(Value gate, Value up, Activation activation, int32_t up_offset = 0);
    // gate_up: [rows, groups, gate | up]
    Value glu_halves(Value gate_up, int32_t groups, Activation activation);
    // Chooses the n_used largest softmax probabilities, renormalises them to sum 1, and multiplies
    // each by the expert's scale. ids: [rows, n_used] i32; gates: [rows, n_used].
    void moe_route(Value logits, Value expert_scale, const MoeParams& p, Value* ids, Value* gates);
    Value moe_matmul(Value weights, Value x, Value ids, const MoeParams& p);  // [rows, n_used, out]
    // Sum over n_used of gate * x.
    Value moe_sum(Value x, Value gates, int64_t width, const MoeParams& p);
    Value gather_rows(Value x);  // Rows::run -> Rows::out
    // ((sum of the rows of x that ids names) * factor - bias) * scale. x: of Rows::run; ids: i32
    // [rows, n], whose rows are those of the result. bias, scale: [width], optional.
    Value pool_rows(Value x, Value ids, Value bias, Value scale, float factor);
    void softcap(Value x, float cap);
    // Index of the largest score, the lowest token id among equals: i32 [rows, 1]. ids: the token
    // of each score, one row of them per row or one row for all; kNone: a score's own index.
    // probability (optional): its softmax probability over the scores.
    Value argmax(Value logits, Value ids = kNone, Value* probability = nullptr);
    Value concat(Value a, Value b);  // [rows, a | b]
    // Chooses the n_active best centroids and scores only the tokens of their clusters: logits
    // [rows, n_active * V / n_centroids], and their ids.
    Value centroid_head(Value scores, Value x, Value table, Value order,
                        const CentroidHeadParams& p, Value* ids);

    const std::vector<Node>& nodes() const { return nodes_; }
    const std::vector<ValueInfo>& values() const { return values_; }
    const ValueInfo& value(Value v) const { return values_[size_t(v)]; }
    int32_t rows_max() const { return rows_max_; }
    int32_t out_rows_max() const { return out_rows_max_; }
    int32_t rows_max(Rows rows) const { return rows == Rows::out ? out_rows_max_ : rows_max_; }

  private:
    Value activation(Rows rows, int64_t width, DType dtype = DType::f32);
    // Fails where the operands are not those of contract/ops.def: one is missing or surplus, is no
    // value of the graph, is another kind of value, or has other rows than the op.
    Node& add_node(Op op, Value rows_of, std::initializer_list<Value> in);
    Node& add_node(Op op, Rows rows, std::initializer_list<Value> in);
    void check_operand(Op op, Rows rows, const OperandInfo& operand, Value v) const;
    Value add_output(Node& node, int64_t width);  // the node's next output

    std::vector<Node> nodes_;
    std::vector<ValueInfo> values_;
    int32_t rows_max_, out_rows_max_;
    int layer_ = -1, part_ = 0;
    int second_part_from_ = 1 << 30;
};

std::string to_text(const Graph& graph);  // one line per node, for reading and for tests

}  // namespace pillion
