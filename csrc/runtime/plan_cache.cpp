#include "runtime/plan_cache.h"

#include <algorithm>

namespace pillion {

Plan& PlanCache::get(int rows) {
    PILLION_CHECK(rows >= 1 && rows <= inputs_.rows_max);
    const int rows_max = rows <= kFewRows ? std::min(kFewRows, inputs_.rows_max) : inputs_.rows_max;
    for (Entry& e : entries_)
        if (e.rows_max == rows_max) return *e.plan;
    GraphInputs inputs = inputs_;
    inputs.rows_max = rows_max;
    inputs.out_rows_max = std::min(inputs.out_rows_max, rows_max);
    const Graph graph = model_.build_graph(inputs);
    Entry entry = {rows_max, nullptr};
    Reason reason;
    if (const Status s = model_.backend().compile(graph, queue_, entry.plan, reason, options_); s != Status::ok)
        fail(s, "%s: %s", model_.file().path().c_str(), reason.text);
    entries_.push_back(std::move(entry));
    return *entries_.back().plan;
}

size_t PlanCache::scratch_bytes() const {
    size_t n = 0;
    for (const Entry& e : entries_) n += e.plan->scratch_bytes();
    return n;
}

}  // namespace pillion
