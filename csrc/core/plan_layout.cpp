#include "core/plan_layout.h"

#include <math.h>

#include <algorithm>

namespace pillion {

PlanLayout::PlanLayout(const Graph& graph, const Rules& rules)
    : graph_(graph), rules_(rules), requests_(graph.values().size()),
      is_staged_(graph.values().size()), of_node_(graph.nodes().size(), kNoSlot) {
    if (rules.is_staged)
        for (const Node& n : graph.nodes())
            for (const Value v : n.out)
                if (v != kNone && graph.value(v).kind == ValueInfo::Kind::external)
                    is_staged_[size_t(v)] = rules.is_staged(graph.value(v));
    for (size_t i = 0; i < graph.nodes().size(); i++) {
        for (const Value v : graph.nodes()[i].in) keep(v, i, i);
        for (const Value v : graph.nodes()[i].out) keep(v, i, i);
    }
}

bool PlanLayout::holds(Value v) const {
    return v != kNone &&
           (graph_.value(v).kind == ValueInfo::Kind::activation || is_staged_[size_t(v)]);
}

void PlanLayout::keep(Value v, size_t first, size_t last) {
    if (!holds(v)) return;
    const ValueInfo& info = graph_.value(v);
    MemoryRequest& r = requests_[size_t(v)];
    r.bytes = rules_.row_bytes(info) * size_t(graph_.rows_max(info.rows));
    r.first = r.first < 0 ? int(first) : std::min(r.first, int(first));
    r.last = std::max(r.last, int(last));
}

PlanLayout::Slot PlanLayout::add(size_t bytes, size_t first, size_t last) {
    if (bytes == 0) return kNoSlot;
    MemoryRequest r;
    r.bytes = bytes, r.first = int(first), r.last = int(last);
    requests_.push_back(r);
    return requests_.size() - 1;
}

size_t PlanLayout::place() {
    return std::max(plan_memory(requests_, rules_.alignment), rules_.alignment);
}

std::vector<Value> PlanLayout::copies_after(size_t node) const {
    std::vector<Value> out;
    for (size_t v = 0; v < is_staged_.size(); v++)
        if (is_staged_[v] && requests_[v].last == int(node)) out.push_back(Value(v));
    return out;
}

std::vector<size_t> group_ends(const Graph& graph, bool (*joins)(const Node&, const Node&)) {
    const std::vector<Node>& nodes = graph.nodes();
    std::vector<size_t> ends(nodes.size());
    for (size_t i = nodes.size(); i-- > 0;) {
        const bool goes_on = i + 1 < nodes.size() && joins(nodes[i], nodes[i + 1]);
        ends[i] = goes_on ? ends[i + 1] : i + 1;
    }
    return ends;
}

std::vector<float> rope_frequencies(const RopeTableParams& p, const float* factors) {
    std::vector<float> frequencies(size_t(p.dims / 2));
    for (int i = 0; i < p.dims / 2; i++) {
        const double factor = factors ? double(factors[i]) : 1.0;
        const double f = pow(double(p.base), -2.0 * i / p.dims) * double(p.position_scale) / factor;
        // The reference holds frequencies in f32; a factor of 1e29 and more is GGUF's way to say
        // "does not rotate".
        frequencies[size_t(i)] = factor >= 1e29 ? 0.0f : float(f);
    }
    return frequencies;
}

Result<void> RunLimits::check(const StepState& state) const {
    if (state.rows < 1 || state.rows > rows || state.out_rows < 0 ||
        state.out_rows > std::min(state.rows, out_rows))
        return Failure(Status::internal, "plan for %d rows and %d outputs was given %d and %d",
                       rows, out_rows, state.rows, state.out_rows);
    const int n = state.n_segments;
    int covered = 0;
    for (int i = 0; n <= PILLION_SEGMENTS_MAX && i < n; i++) {
        const Segment& s = state.segments[i];
        if (s.row != covered || s.n_rows < 1 || s.pos < 0 || s.table < 0) break;
        covered += s.n_rows;
    }
    if (covered == state.rows) return ok();
    return Failure(Status::internal, "the %d segments of a run cover %d rows of %d", n, covered,
                   state.rows);
}

}  // namespace pillion
