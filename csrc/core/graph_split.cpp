#include "core/graph_split.h"

#include <algorithm>

#include "core/error.h"

namespace pillion {
namespace {

template <class F>
void for_each_value(const Node& n, const F& f) {
    for (const Value v : n.in)
        if (v != kNone) f(v);
    for (const Value v : n.out)
        if (v != kNone) f(v);
}

// For each value, the part of the first node that touches it, which is its maker even if the maker
// works in place. -1: no node touches it.
std::vector<int> makers_of(const Graph& graph) {
    std::vector<int> makers(graph.values().size(), -1);
    for (const Node& n : graph.nodes())
        for_each_value(n, [&](Value v) {
            if (makers[size_t(v)] < 0) makers[size_t(v)] = n.part;
        });
    return makers;
}

bool touches(const Graph& graph, int part, Value value) {
    for (const Node& n : graph.nodes()) {
        if (n.part != part) continue;
        bool found = false;
        for_each_value(n, [&](Value v) { found = found || v == value; });
        if (found) return true;
    }
    return false;
}

// x * 1 keeps the bits of x.
Node copy_node(const ValueInfo& value, Value from, Value to, int part) {
    Node n;
    n.op = Op::scale, n.rows = value.rows, n.part = uint8_t(part);
    n.in[0] = from, n.out[0] = to;
    n.params.scale = {1.0f};
    return n;
}

}  // namespace

int count_parts(const Graph& graph) {
    int parts = 1;
    for (const Node& n : graph.nodes()) parts = std::max(parts, n.part + 1);
    return parts;
}

std::vector<Value> crossing_values(const Graph& graph) {
    const std::vector<int> makers = makers_of(graph);
    std::vector<bool> crosses(graph.values().size());
    for (const Node& n : graph.nodes())
        for_each_value(n, [&](Value v) {
            const ValueInfo& info = graph.value(v);
            if (info.kind != ValueInfo::Kind::activation || makers[size_t(v)] == n.part) return;
            PILLION_CHECK(info.dtype == DType::f32 && info.rows != Rows::fixed &&
                          makers[size_t(v)] < n.part);
            crosses[size_t(v)] = true;
        });
    std::vector<Value> values;
    for (size_t v = 0; v < crosses.size(); v++)
        if (crosses[v]) values.push_back(Value(v));
    return values;
}

Graph take_part(const Graph& graph, int part, const std::vector<Value>& crossing,
                const std::vector<Tensor>& places) {
    const std::vector<int> makers = makers_of(graph);
    Graph out(graph.rows_max(), graph.out_rows_max());
    for (const ValueInfo& v : graph.values()) out.add_value(v);
    std::vector<Node> last;
    for (size_t i = 0; i < crossing.size(); i++) {
        const Value v = crossing[i];
        if (!touches(graph, part, v)) continue;
        ValueInfo place = graph.value(v);
        place.kind = ValueInfo::Kind::external, place.tensor = places[i], place.name = "crossing";
        const Value p = out.add_value(place);
        if (makers[size_t(v)] == part) last.push_back(copy_node(place, v, p, part));
        else out.append(copy_node(place, p, v, part));
    }
    for (const Node& n : graph.nodes())
        if (n.part == part) out.append(n);
    for (const Node& n : last) out.append(n);
    return out;
}

}  // namespace pillion
