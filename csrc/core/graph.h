// A forward pass as a flat list of nodes. Built by model/ with functions that read like the model,
// compiled by a backend into a Plan, then thrown away. Nodes run in the order they were added;
// activations are f32 [rows, width].
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

    // --- things that exist outside ---
    Value weight(const Tensor& tensor);
    Value kv(const KvStore& store);
    Value input_tokens(const Tensor& tokens);           // i32 [rows_max]
    Value input(const Tensor& rows, const char* name);  // f32 [rows_max, width]
    // Lets the op that makes `value` write into a buffer of the caller instead of scratch.
    void output(Value value, const Tensor& destination, const char* name);

    // --- ops; `layer` of the nodes is what begin_layer said last ---
    void begin_layer(int layer) {
        layer_ = layer;
        if (layer >= 0) part_ = layer >= second_part_from_ ? 1 : 0;
    }
    // Layers from this one on, and what follows them, belong to part 1: another device than part 0.
    void second_part_from(int layer) { second_part_from_ = layer; }
    int part() const { return part_; }
    void set_part(int part) { part_ = part; }

    // As they are: for what rewrites graphs.
    Value add_value(const ValueInfo& value) {
        return values_.push_back(value), Value(values_.size()) - 1;
    }
    void append(const Node& node) { nodes_.push_back(node); }

    Value embed(Value table, Value tokens, float scale);
    // e[l] = (rms(proj[l] * proj_scale; norm) + table[token][l] * table_scale) * out_scale, for
    // each layer's slice l
    Value per_layer_embed(Value table, Value tokens, Value proj, Value norm,
                          const PerLayerEmbedParams& p);
    // [rows, dims]: cos of dims/2 angles, then sin. factors: [dims/2] divisors of the frequencies,
    // >= 1e29 meaning frequency 0.
    Value rope_table(Value factors, const RopeTableParams& p);
    Value scale(Value x, float s);
    Value add(Value a, Value b);
    Value norm(Value x, Value weight, float eps, float scale = 1.0f);  // rms(x; w) * scale
    Value norm_add(Value branch, Value weight, Value residual, float eps,
                   float scale);  // (residual + rms(branch; w)) * scale
    Value matmul(Value weight, Value x);
    // In place. k, v none: a layer without keys of its own. Norm weights none: no norm there.
    void qkv_norm_rope(Value q, Value k, Value v, Value q_norm, Value k_norm, Value rope,
                       const QkvParams& p);
    Value empty(Value like_rows, int64_t width);  // scratch for v_from_k
    void kv_store(Value cache, Value k, Value v);
    Value attend(Value cache, Value q, const AttendParams& p);
    Value glu(Value gate, Value up, Activation activation,
              int32_t up_offset = 0);  // act(gate) * up[:, up_offset ...]
    Value glu_halves(Value gate_up, int32_t groups,
                     Activation activation);  // [rows, groups, gate | up]
    // The n_used largest soft-max probabilities, renormalised over them, times the expert's scale:
    // ids [rows, n_used] i32, gates
    void moe_route(Value logits, Value expert_scale, const MoeParams& p, Value* ids, Value* gates);
    Value moe_matmul(Value weights, Value x, Value ids, const MoeParams& p);  // [rows, n_used, out]
    Value moe_sum(Value x, Value gates, int64_t width,
                  const MoeParams& p);  // sum over n_used of gate * x
    Value gather_rows(Value x);         // Rows::run -> Rows::out
    void softcap(Value x, float cap);
    // The most likely of the scores (lowest token id among equals), i32 [rows, 1]. ids: the tokens
    // the scores belong to, a row of them per row or one for all; none: their own indices.
    // probability (optional): its share of the soft-max over the scores.
    Value argmax(Value logits, Value ids = kNone, Value* probability = nullptr);
    Value concat(Value a, Value b);  // [rows, a | b]
    // The n_active best centroids, then logits only for the tokens of their clusters: [rows,
    // n_active * V / n_centroids], and ids.
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

std::string to_text(const Graph& graph);  // one line per node, for people and tests

}  // namespace pillion
