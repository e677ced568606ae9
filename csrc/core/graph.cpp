#include "core/graph.h"

#include <string.h>

#include "core/error.h"

namespace pillion {

const OpInfo& info(Op op) {
    static constexpr OpInfo kInfo[] = {
#define PILLION_OP(name, n_in, n_out) {#name, n_in, n_out},
#include "core/ops.def"
#undef PILLION_OP
    };
    return kInfo[size_t(op)];
}

Value Graph::weight(const Tensor& tensor) {
    if (!tensor) return kNone;
    ValueInfo v;
    v.kind = ValueInfo::Kind::weight;
    v.dtype = tensor.dtype;
    v.rows = Rows::fixed;
    v.width = tensor.width;
    v.tensor = tensor;
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

Value Graph::kv(const KvStore& store) {
    ValueInfo v;
    v.kind = ValueInfo::Kind::kv;
    v.rows = Rows::fixed;
    v.kv = store;
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

Value Graph::input_tokens(const Tensor& tokens) {
    ValueInfo v;
    v.kind = ValueInfo::Kind::external;
    v.dtype = DType::i32;
    v.rows = Rows::run;
    v.width = 1;
    v.tensor = tokens;
    v.name = "tokens";
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

Value Graph::input(const Tensor& rows, const char* name) {
    ValueInfo v;
    v.kind = ValueInfo::Kind::external;
    v.width = rows.width;
    v.tensor = rows;
    v.name = name;
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

void Graph::output(Value value, const Tensor& destination, const char* name) {
    ValueInfo& v = values_[size_t(value)];
    PILLION_CHECK(v.kind == ValueInfo::Kind::activation && destination.width == v.width);
    PILLION_CHECK(destination.rows >= rows_max(v.rows));
    v.kind = ValueInfo::Kind::external;
    v.tensor = destination;
    v.name = name;
}

Value Graph::activation(Rows rows, int64_t width, DType dtype) {
    ValueInfo v;
    v.dtype = dtype;
    v.rows = rows;
    v.width = width;
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

Node& Graph::add_node(Op op, Rows rows) {
    Node n;
    n.op = op;
    n.rows = rows;
    n.layer = int16_t(layer_);
    n.part = uint8_t(part_);
    nodes_.push_back(n);
    return nodes_.back();
}

Value Graph::embed(Value table, Value tokens, float scale) {
    Node& n = add_node(Op::embed, value(tokens).rows);
    n.in[0] = table, n.in[1] = tokens;
    n.params.embed.scale = scale;
    return n.out[0] = activation(n.rows, value(table).width);
}

Value Graph::per_layer_embed(Value table, Value tokens, Value proj, Value norm,
                             const PerLayerEmbedParams& p) {
    PILLION_CHECK(value(proj).width == int64_t(p.width) * p.n_layers &&
                  value(table).width == value(proj).width);
    Node& n = add_node(Op::per_layer_embed, value(tokens).rows);
    n.in[0] = table, n.in[1] = tokens, n.in[2] = proj, n.in[3] = norm;
    n.params.per_layer_embed = p;
    return n.out[0] = activation(n.rows, value(proj).width);
}

Value Graph::rope_table(Value factors, const RopeTableParams& p) {
    Node& n = add_node(Op::rope_table, Rows::run);
    n.in[0] = factors;
    n.params.rope_table = p;
    return n.out[0] = activation(Rows::run, p.dims);
}

Value Graph::scale(Value x, float s) {
    Node& n = add_node(Op::scale, value(x).rows);
    n.in[0] = x;
    n.params.scale.scale = s;
    return n.out[0] = activation(n.rows, value(x).width);
}

Value Graph::add(Value a, Value b) {
    PILLION_CHECK(value(a).width == value(b).width && value(a).rows == value(b).rows);
    Node& n = add_node(Op::add, value(a).rows);
    n.in[0] = a, n.in[1] = b;
    return n.out[0] = activation(n.rows, value(a).width);
}

Value Graph::norm(Value x, Value weight, float eps, float scale) {
    PILLION_CHECK(weight == kNone || value(weight).width == value(x).width);
    Node& n = add_node(Op::norm, value(x).rows);
    n.in[0] = x, n.in[1] = weight;
    n.params.norm = {eps, scale};
    return n.out[0] = activation(n.rows, value(x).width);
}

Value Graph::norm_add(Value branch, Value weight, Value residual, float eps, float scale) {
    PILLION_CHECK(value(branch).width == value(residual).width &&
                  value(branch).rows == value(residual).rows);
    Node& n = add_node(Op::norm_add, value(branch).rows);
    n.in[0] = branch, n.in[1] = weight, n.in[2] = residual;
    n.params.norm = {eps, scale};
    return n.out[0] = activation(n.rows, value(branch).width);
}

Value Graph::matmul(Value weight, Value x) {
    PILLION_CHECK(value(weight).width == value(x).width);
    Node& n = add_node(Op::matmul, value(x).rows);
    n.in[0] = weight, n.in[1] = x;
    return n.out[0] = activation(n.rows, value(weight).tensor.rows);
}

void Graph::qkv_norm_rope(Value q, Value k, Value v, Value q_norm, Value k_norm, Value rope,
                          const QkvParams& p) {
    Node& n = add_node(Op::qkv_norm_rope, value(q != kNone ? q : k).rows);
    n.in[0] = q, n.in[1] = k, n.in[2] = v, n.in[3] = q_norm, n.in[4] = k_norm, n.in[5] = rope;
    n.params.qkv = p;
}

Value Graph::empty(Value like_rows, int64_t width) {
    return activation(value(like_rows).rows, width);
}

void Graph::kv_store(Value cache, Value k, Value v) {
    Node& n = add_node(Op::kv_store, value(k).rows);
    n.in[0] = cache, n.in[1] = k, n.in[2] = v;
}

Value Graph::attend(Value cache, Value q, const AttendParams& p) {
    PILLION_CHECK(value(q).width == int64_t(p.n_heads) * p.head_dim);
    Node& n = add_node(Op::attend, value(q).rows);
    n.in[0] = cache, n.in[1] = q;
    n.params.attend = p;
    return n.out[0] = activation(n.rows, value(q).width);
}

Value Graph::glu(Value gate, Value up, Activation activation_kind, int32_t up_offset) {
    PILLION_CHECK(up_offset + value(gate).width <= value(up).width);
    Node& n = add_node(Op::glu, value(gate).rows);
    n.in[0] = gate, n.in[1] = up;
    n.params.glu = {activation_kind, up_offset, /*groups=*/0};
    return n.out[0] = activation(n.rows, value(gate).width);
}

Value Graph::glu_halves(Value gate_up, int32_t groups, Activation activation_kind) {
    PILLION_CHECK(value(gate_up).width % (2 * groups) == 0);
    Node& n = add_node(Op::glu, value(gate_up).rows);
    n.in[0] = gate_up;
    n.params.glu = {activation_kind, /*up_offset=*/0, groups};
    return n.out[0] = activation(n.rows, value(gate_up).width / 2);
}

void Graph::moe_route(Value logits, Value expert_scale, const MoeParams& p, Value* ids,
                      Value* gates) {
    Node& n = add_node(Op::moe_route, value(logits).rows);
    n.in[0] = logits, n.in[1] = expert_scale;
    n.params.moe = p;
    const Rows rows = n.rows;
    const size_t at = nodes_.size() - 1;
    *ids = activation(rows, p.n_used, DType::i32);
    *gates = activation(rows, p.n_used);
    nodes_[at].out[0] = *ids, nodes_[at].out[1] = *gates;
}

Value Graph::moe_matmul(Value weights, Value x, Value ids, const MoeParams& p) {
    PILLION_CHECK(value(x).width == value(weights).width * p.per_row);
    Node& n = add_node(Op::moe_matmul, value(x).rows);
    n.in[0] = weights, n.in[1] = x, n.in[2] = ids;
    n.params.moe = p;
    return n.out[0] = activation(n.rows, value(weights).tensor.rows * p.n_used);
}

Value Graph::moe_sum(Value x, Value gates, int64_t width, const MoeParams& p) {
    PILLION_CHECK(value(x).width == width * p.n_used);
    Node& n = add_node(Op::moe_sum, value(x).rows);
    n.in[0] = x, n.in[1] = gates;
    n.params.moe = p;
    return n.out[0] = activation(n.rows, width);
}

Value Graph::gather_rows(Value x) {
    if (value(x).rows == Rows::out) return x;
    Node& n = add_node(Op::gather_rows, Rows::out);
    n.in[0] = x;
    return n.out[0] = activation(Rows::out, value(x).width);
}

void Graph::softcap(Value x, float cap) {
    Node& n = add_node(Op::softcap, value(x).rows);
    n.in[0] = x;
    n.params.softcap.cap = cap;
}

Value Graph::argmax(Value logits, Value ids, Value* probability) {
    PILLION_CHECK(ids == kNone || value(ids).width == value(logits).width);
    add_node(Op::argmax, value(logits).rows);
    const size_t at = nodes_.size() - 1;
    nodes_[at].in[0] = logits, nodes_[at].in[1] = ids;
    const Value token = activation(value(logits).rows, 1, DType::i32);
    nodes_[at].out[0] = token;
    if (probability) nodes_[at].out[1] = *probability = activation(value(logits).rows, 1);
    return token;
}

Value Graph::concat(Value a, Value b) {
    PILLION_CHECK(value(a).rows == value(b).rows);
    Node& n = add_node(Op::concat, value(a).rows);
    n.in[0] = a, n.in[1] = b;
    return n.out[0] = activation(n.rows, value(a).width + value(b).width);
}

Value Graph::centroid_head(Value scores, Value x, Value table, Value order,
                           const CentroidHeadParams& p, Value* ids) {
    const int64_t n_vocab = value(table).tensor.rows;
    PILLION_CHECK(value(scores).width == p.n_centroids && n_vocab % p.n_centroids == 0 &&
                  value(order).width == n_vocab);
    PILLION_CHECK(value(table).width == value(x).width && p.n_active >= 1 &&
                  p.n_active <= p.n_centroids);
    add_node(Op::centroid_head, value(x).rows);
    const size_t at = nodes_.size() - 1;
    nodes_[at].in[0] = scores, nodes_[at].in[1] = x, nodes_[at].in[2] = table,
    nodes_[at].in[3] = order;
    nodes_[at].params.centroid_head = p;
    const int64_t width = p.n_active * (n_vocab / p.n_centroids);
    const Value logits = activation(value(x).rows, width);
    *ids = activation(value(x).rows, width, DType::i32);
    nodes_[at].out[0] = logits, nodes_[at].out[1] = *ids;
    return logits;
}

std::string to_text(const Graph& graph) {
    std::string text;
    char line[256];
    for (const Node& n : graph.nodes()) {
        const char* rows = n.rows == Rows::out ? "out" : "run";
        int at = snprintf(line, sizeof line, "layer %d  %-16s %s ", n.layer, info(n.op).name, rows);
        for (Value v : n.in)
            if (v != kNone && at < 200)
                at += snprintf(line + at, sizeof line - size_t(at), " %d[%ld]", v,
                               long(graph.value(v).width));
        at += snprintf(line + at, sizeof line - size_t(at), " ->");
        for (Value v : n.out)
            if (v != kNone && at < 240)
                at += snprintf(line + at, sizeof line - size_t(at), " %d[%ld]", v,
                               long(graph.value(v).width));
        text.append(line, size_t(at)).push_back('\n');
    }
    return text;
}

}  // namespace pillion
