#include "runtime/plan_cache.h"

#include <algorithm>

namespace pillion {

int PlanCache::rows_max(int rows, bool with_blocks) const {
    PILLION_CHECK(rows >= 1 && rows <= inputs_.rows_max);
    return rows <= kFewRows && !with_blocks ? std::min(kFewRows, inputs_.rows_max)
                                            : inputs_.rows_max;
}

Graph PlanCache::graph(int rows) const {
    GraphInputs inputs = inputs_;
    inputs.rows_max = rows_max(rows);
    inputs.out_rows_max = std::min(inputs.out_rows_max, inputs.rows_max);
    // Tokens and drafts are no rows of a block: their plan stays as it is without.
    if (inputs.rows_max <= kFewRows && inputs.rows_max < inputs_.rows_max) inputs.until = {};
    return model_.build_graph(inputs);
}

Plan& PlanCache::get(int rows, bool with_blocks) {
    const int most = rows_max(rows, with_blocks);
    for (Entry& e : entries_)
        if (e.rows_max == most) return *e.plan;
    Entry entry = {most, nullptr};
    try {
        entry.plan = compile_parts(graph(most), places_, options_);
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
