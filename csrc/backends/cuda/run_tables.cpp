#include "backends/cuda/run_tables.h"

#include <string.h>

#include <algorithm>

namespace pillion::cuda {

RunTables::RunTables(const Graph& graph) {
    for (const Node& n : graph.nodes()) {
        if (n.op == Op::kv_store) add(graph.value(n.in[0]).kv, /*window=*/1, /*past_only=*/0);
        if (n.op == Op::attend)
            add(graph.value(n.in[0]).kv, n.params.attend.window, n.params.attend.past_only);
    }
}

bool RunTables::same(const Table& t, const KvStore& store) {
    return t.table.buffer == store.table.buffer && t.table.offset == store.table.offset &&
           t.table.stride == store.table.stride && t.table.entries == store.table.entries &&
           t.slots == store.spec.page_slots();
}

void RunTables::add(const KvStore& store, int window, int past_only) {
    if (!store.table.buffer) return;
    const auto t = std::find_if(tables_.begin(), tables_.end(),
                                [&](const Table& other) { return same(other, store); });
    if (t == tables_.end()) {
        tables_.push_back({store.table, store.spec.page_slots(), store.spec.n_pages(), window,
                           past_only, record_});
        record_ += store.table.entries;
        return;
    }
    t->n_pages = std::min(t->n_pages, store.spec.n_pages());
    t->window = t->window && window ? std::max(t->window, window) : 0;
    t->past_only = std::min(t->past_only, past_only);
}

KvPages RunTables::pages(const KvStore& store, const int32_t* records) const {
    const size_t bytes = kv_planes(store.spec.one_page()).bytes;
    for (const Table& t : tables_)
        if (same(t, store)) return {records + t.at, record_, t.table.entries, t.slots, bytes};
    return {nullptr, 0, 1, store.spec.page_slots(), bytes};
}

Result<void> RunTables::pack(const StepState& state, int32_t* records) const {
    for (int i = 0; i < state.n_segments; i++, records += record_)
        for (const Table& t : tables_) {
            const Segment& s = state.segments[i];
            const size_t bytes = size_t(t.table.entries) * 4,
                         from = t.table.offset + size_t(s.table) * size_t(t.table.stride) * 4;
            if (from + bytes > t.table.buffer->size())
                return Failure(Status::internal, "a segment's row %d of the page tables is no row",
                               s.table);
            memcpy(records + t.at, t.table.buffer->host() + from, bytes);
            if (const Result<void> pages = check_pages(t, s, records + t.at); !pages) return pages;
        }
    return ok();
}

Result<void> RunTables::check_pages(const Table& t, const Segment& s, const int32_t* pages) {
    const int begin = t.window > 0 ? std::max(0, s.pos - t.window + 1) : 0,
              end = s.pos + s.n_rows - t.past_only;
    if (end <= begin) return ok();
    if (t.window == 0 && end > t.slots * t.table.entries)
        return Failure(Status::internal, "%d positions in a page table for %d", end,
                       t.slots * t.table.entries);
    const int first = begin / t.slots, last = (end - 1) / t.slots;
    for (int p = first; p <= last && p < first + t.table.entries; p++)
        if (const int32_t page = pages[p % t.table.entries]; page < 0 || page >= t.n_pages)
            return Failure(Status::internal,
                           "row %d of the page tables has page %d for position %d, of a cache of "
                           "%d pages",
                           s.table, page, p * t.slots, t.n_pages);
    return ok();
}

}  // namespace pillion::cuda
