#include "runtime/plan_cache.h"

#include <algorithm>

namespace pillion {

int PlanCache::rows_max(int rows) const {
    PILLION_CHECK(rows >= 1 && rows <= inputs_.rows_max);
    return rows <= kFewRows ? std::min(kFewRows, inputs_.rows_max) : inputs_.rows_max;
}

Graph PlanCache::graph(int rows) const {
    GraphInputs inputs = inputs_;
    inputs.rows_max = rows_max(rows);
    inputs.out_rows_max = std::min(inputs.out_rows_max, inputs.rows_max);
    return model_.build_graph(inputs);
}

Plan& PlanCache::get(int rows) {
    for (Entry& e : entries_)
        if (e.rows_max == rows_max(rows)) return *e.plan;
    Entry entry = {rows_max(rows), nullptr};
    try {
        entry.plan = compile_parts(graph(rows), places_, options_);
    } catch (const Error& e) {
        fail(e.code(), "%s: %s", model_.file().path().c_str(), e.what());
    }
    entries_.push_back(std::move(entry));
    return *entries_.back().plan;
}

size_t PlanCache::scratch_bytes() const {
    size_t n = 0;
    for (const Entry& e : entries_) n += e.plan->scratch_bytes();
    return n;
}

}  // namespace pillion
