#include "core/graph.h"

#include <string.h>

#include <algorithm>

#include "core/error.h"

namespace pillion {

const OpInfo& info(Op op) { return *op_info(uint32_t(op)); }

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

Value Graph::input_tokens(const Tensor& tokens, const char* name) {
    ValueInfo v;
    v.kind = ValueInfo::Kind::external;
    v.dtype = DType::i32;
    v.rows = Rows::run;
    v.width = 1;
    v.tensor = tokens;
    v.name = name;
    values_.push_back(v);
    return Value(values_.size()) - 1;
}

Value Graph::input_ids(const Tensor& ids, Rows rows, const char* name) {
    PILLION_CHECK(ids.dtype == DType::i32 && ids.rows >= rows_max(rows));
    const Value v = input(ids, name);
    values_.back().dtype = DType::i32, values_.back().rows = rows;
    return v;
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

namespace {

bool is_weight_kind(int kind) {
    return kind == Operand_table || kind == Operand_matrix || kind == Operand_stack;
}
// A vector is a weight in a model, but may be any value that has a row.
bool fits(int operand, ValueInfo::Kind kind) {
    if (operand == Operand_cache || kind == ValueInfo::Kind::kv)
        return operand == Operand_cache && kind == ValueInfo::Kind::kv;
    if (is_weight_kind(operand)) return kind == ValueInfo::Kind::weight;
    return operand == Operand_vector || operand == Operand_order || operand == Operand_score_ids ||
           kind != ValueInfo::Kind::weight;
}
bool has_rows_of_op(int operand) {
    return operand == Operand_row || operand == Operand_token || operand == Operand_ids;
}

}  // namespace

void Graph::check_operand(Op op, Rows rows, const OperandInfo& operand, Value v) const {
    const char* name = info(op).name;
    if (v == kNone && (operand.is_optional || !operand.name)) return;
    if (!operand.name) fail(Status::internal, "op %s was given an operand too many", name);
    if (v == kNone) fail(Status::internal, "op %s was given no %s", name, operand.name);
    if (v < 0 || size_t(v) >= values_.size())
        fail(Status::internal, "%s of op %s is value %d, the graph has %zu", operand.name, name, v,
             values_.size());
    if (!fits(operand.kind, value(v).kind))
        fail(Status::internal, "%s of op %s is another kind of value", operand.name, name);
    if (has_rows_of_op(operand.kind) && value(v).rows != rows)
        fail(Status::internal, "%s of op %s has other rows than the op", operand.name, name);
}

// rows_of: the operand whose rows the op works on. One that has none is refused with the operands.
Node& Graph::add_node(Op op, Value rows_of, std::initializer_list<Value> in) {
    const bool has_rows =
        rows_of >= 0 && size_t(rows_of) < values_.size() && value(rows_of).rows != Rows::fixed;
    return add_node(op, has_rows ? value(rows_of).rows : Rows::run, in);
}

Node& Graph::add_node(Op op, Rows rows, std::initializer_list<Value> in) {
    Node n;
    n.op = op;
    n.rows = rows;
    n.layer = int16_t(layer_);
    n.part = uint8_t(part_);
    PILLION_CHECK(in.size() <= OP_INPUTS_MAX);
    std::copy(in.begin(), in.end(), n.in);
    for (int k = 0; k < OP_INPUTS_MAX; k++) check_operand(op, rows, info(op).in[k], n.in[k]);
    nodes_.push_back(n);
    return nodes_.back();
}

Value Graph::add_output(Node& n, int64_t width) {
    const int k = n.out[0] == kNone ? 0 : 1;
    const uint8_t kind = info(n.op).out[k].kind;
    PILLION_CHECK(kind != Operand_none);
    return n.out[k] = activation(n.rows, width, kind == Operand_row ? DType::f32 : DType::i32);
}

Value Graph::embed(Value table, Value tokens, float scale, Value media) {
    Node& n = add_node(Op::embed, tokens, {table, tokens, media});
    PILLION_CHECK(media == kNone || value(media).width == value(table).width);
    n.params.embed.scale = scale;
    return add_output(n, value(table).width);
}

Value Graph::per_layer_embed(Value table, Value tokens, Value proj, Value norm,
                             const PerLayerEmbedParams& p) {
    Node& n = add_node(Op::per_layer_embed, tokens, {table, tokens, proj, norm});
    PILLION_CHECK(value(proj).width == int64_t(p.width) * p.n_layers &&
                  value(table).width == value(proj).width);
    n.params.per_layer_embed = p;
    return add_output(n, value(proj).width);
}

Value Graph::rope_table(Value factors, const RopeTableParams& p) {
    Node& n = add_node(Op::rope_table, Rows::run, {factors});
    n.params.rope_table = p;
    return add_output(n, p.dims);
}

Value Graph::rope_grid(Value x, Value y, const RopeTableParams& p) {
    Node& n = add_node(Op::rope_grid, x, {x, y});
    PILLION_CHECK(p.dims % 4 == 0);
    n.params.rope_table = p;
    return add_output(n, p.dims);
}

Value Graph::scale(Value x, float s) {
    Node& n = add_node(Op::scale, x, {x});
    n.params.scale.scale = s;
    return add_output(n, value(x).width);
}

Value Graph::add(Value a, Value b) {
    Node& n = add_node(Op::add, a, {a, b});
    PILLION_CHECK(value(a).width == value(b).width);
    return add_output(n, value(a).width);
}

Value Graph::norm(Value x, Value weight, float eps, float scale) {
    Node& n = add_node(Op::norm, x, {x, weight});
    PILLION_CHECK(weight == kNone || value(weight).width == value(x).width);
    n.params.norm = {eps, scale};
    return add_output(n, value(x).width);
}

Value Graph::norm_add(Value branch, Value weight, Value residual, float eps, float scale) {
    Node& n = add_node(Op::norm_add, branch, {branch, weight, residual});
    PILLION_CHECK(value(branch).width == value(residual).width);
    n.params.norm = {eps, scale};
    return add_output(n, value(branch).width);
}

Value Graph::layer_norm(Value x, Value weight, Value bias, float eps) {
    Node& n = add_node(Op::layer_norm, x, {x, weight, bias});
    PILLION_CHECK(value(weight).width == value(x).width);
    PILLION_CHECK(bias == kNone || value(bias).width == value(x).width);
    n.params.layer_norm = {eps};
    return add_output(n, value(x).width);
}

Value Graph::matmul(Value weight, Value x) {
    Node& n = add_node(Op::matmul, x, {weight, x});
    PILLION_CHECK(value(weight).width == value(x).width);
    return add_output(n, value(weight).tensor.rows);
}

Value Graph::linear(Value weight, Value x, Value bias, const LinearParams& p) {
    Node& n = add_node(Op::linear, x, {weight, x, bias});
    PILLION_CHECK(value(weight).width == value(x).width);
    PILLION_CHECK(bias == kNone || value(bias).width == value(weight).tensor.rows);
    n.params.linear = p;
    return add_output(n, value(weight).tensor.rows);
}

void Graph::qkv_norm_rope(Value q, Value k, Value v, Value q_norm, Value k_norm, Value rope,
                          const QkvParams& p) {
    Node& n = add_node(Op::qkv_norm_rope, q != kNone ? q : k, {q, k, v, q_norm, k_norm, rope});
    n.params.qkv = p;
}

Value Graph::empty(Value like_rows, int64_t width) {
    return activation(value(like_rows).rows, width);
}

void Graph::kv_store(Value cache, Value k, Value v) { add_node(Op::kv_store, k, {cache, k, v}); }

Value Graph::attend(Value cache, Value q, const AttendParams& p, Value until) {
    Node& n = add_node(Op::attend, q, {cache, q, until});
    PILLION_CHECK(value(q).width == int64_t(p.n_heads) * p.head_dim);
    n.params.attend = p;
    return add_output(n, value(q).width);
}

Value Graph::attend_all(Value q, Value k, Value v, const AttendAllParams& p) {
    Node& n = add_node(Op::attend_all, q, {q, k, v});
    const int64_t width = int64_t(p.n_heads) * p.head_dim;
    PILLION_CHECK(value(q).width == width && value(k).width == width && value(v).width == width);
    n.params.attend_all = p;
    return add_output(n, width);
}

Value Graph::attend_local(Value q, Value k, Value v, Value q_scale, Value relative,
                          const AttendLocalParams& p) {
    Node& n = add_node(Op::attend_local, q, {q, k, v, q_scale, relative});
    const int64_t width = int64_t(p.n_heads) * p.head_dim;
    PILLION_CHECK(value(q).width == width && value(k).width == width && value(v).width == width);
    PILLION_CHECK(p.window >= 1 && p.window <= LOCAL_WINDOW_MAX &&
                  value(q_scale).width == p.head_dim && value(relative).width == p.window * width);
    n.params.attend_local = p;
    return add_output(n, width);
}

Value Graph::conv_causal(Value x, Value weight, int32_t taps) {
    Node& n = add_node(Op::conv_causal, x, {x, weight});
    PILLION_CHECK(taps >= 1 && taps <= CONV_TAPS_MAX &&
                  value(weight).width == taps * value(x).width);
    n.params.conv_causal.taps = taps;
    return add_output(n, value(x).width);
}

Value Graph::subsample(Value x, Value conv_1, Value norm_1, Value conv_2, Value norm_2,
                       const SubsampleParams& p) {
    Node& n = add_node(Op::subsample, Rows::out, {x, conv_1, norm_1, conv_2, norm_2});
    PILLION_CHECK(p.channels_1 >= 1 && value(norm_1).width == p.channels_1 &&
                  value(conv_1).width == 9 * int64_t(p.channels_1));
    PILLION_CHECK(p.channels_2 >= 1 && value(norm_2).width == p.channels_2 &&
                  value(conv_2).width == 9 * int64_t(p.channels_1) * p.channels_2);
    n.params.subsample = p;
    return add_output(n, (value(x).width + 3) / 4 * p.channels_2);
}

Value Graph::activate(Value x, Activation activation_kind) {
    Node& n = add_node(Op::glu, x, {x});
    n.params.glu = {activation_kind, /*up_offset=*/0, /*groups=*/0};
    return add_output(n, value(x).width);
}

Value Graph::glu(Value gate, Value up, Activation activation_kind, int32_t up_offset) {
    Node& n = add_node(Op::glu, gate, {gate, up});
    PILLION_CHECK(up != kNone && up_offset + value(gate).width <= value(up).width);
    n.params.glu = {activation_kind, up_offset, /*groups=*/0};
    return add_output(n, value(gate).width);
}

Value Graph::glu_halves(Value gate_up, int32_t groups, Activation activation_kind) {
    Node& n = add_node(Op::glu, gate_up, {gate_up});
    PILLION_CHECK(groups > 0 && value(gate_up).width % (2 * groups) == 0);
    n.params.glu = {activation_kind, /*up_offset=*/0, groups};
    return add_output(n, value(gate_up).width / 2);
}

void Graph::moe_route(Value logits, Value expert_scale, const MoeParams& p, Value* ids,
                      Value* gates) {
    Node& n = add_node(Op::moe_route, logits, {logits, expert_scale});
    n.params.moe = p;
    *ids = add_output(n, p.n_used);
    *gates = add_output(n, p.n_used);
}

Value Graph::moe_matmul(Value weights, Value x, Value ids, const MoeParams& p) {
    Node& n = add_node(Op::moe_matmul, x, {weights, x, ids});
    PILLION_CHECK(value(x).width == value(weights).width * p.per_row);
    n.params.moe = p;
    return add_output(n, value(weights).tensor.rows * p.n_used);
}

Value Graph::moe_sum(Value x, Value gates, int64_t width, const MoeParams& p) {
    Node& n = add_node(Op::moe_sum, x, {x, gates});
    PILLION_CHECK(value(x).width == width * p.n_used);
    n.params.moe = p;
    return add_output(n, width);
}

Value Graph::gather_rows(Value x) {
    if (x != kNone && value(x).rows == Rows::out) return x;
    Node& n = add_node(Op::gather_rows, Rows::out, {x});
    return add_output(n, value(x).width);
}

Value Graph::pool_rows(Value x, Value ids, Value bias, Value scale, float factor) {
    Node& n = add_node(Op::pool_rows, ids, {x, ids, bias, scale});
    for (const Value v : {bias, scale})
        PILLION_CHECK(v == kNone || value(v).width == value(x).width);
    n.params.pool = {factor};
    return add_output(n, value(x).width);
}

void Graph::softcap(Value x, float cap) {
    Node& n = add_node(Op::softcap, x, {x});
    n.params.softcap.cap = cap;
}

Value Graph::argmax(Value logits, Value ids, Value* probability) {
    Node& n = add_node(Op::argmax, logits, {logits, ids});
    PILLION_CHECK(ids == kNone || value(ids).width == value(logits).width);
    const Value token = add_output(n, 1);
    if (probability) *probability = add_output(n, 1);
    return token;
}

Value Graph::concat(Value a, Value b) {
    Node& n = add_node(Op::concat, a, {a, b});
    return add_output(n, value(a).width + value(b).width);
}

Value Graph::centroid_head(Value scores, Value x, Value table, Value order,
                           const CentroidHeadParams& p, Value* ids) {
    Node& n = add_node(Op::centroid_head, x, {scores, x, table, order});
    const int64_t n_vocab = value(table).tensor.rows;
    PILLION_CHECK(value(scores).width == p.n_centroids && n_vocab % p.n_centroids == 0 &&
                  value(order).width == n_vocab);
    PILLION_CHECK(value(table).width == value(x).width && p.n_active >= 1 &&
                  p.n_active <= p.n_centroids);
    n.params.centroid_head = p;
    const int64_t width = p.n_active * (n_vocab / p.n_centroids);
    const Value logits = add_output(n, width);
    *ids = add_output(n, width);
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
