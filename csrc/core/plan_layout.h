// What plan compilers share: where values and scratch lie, which neighbours work on one input, the
// numbers and the check that are the same on every device.
#pragma once
#include <vector>

#include "core/backend.h"
#include "core/memory_plan.h"

namespace pillion {

// Slots of one scratch buffer: a node's operands and its scratch have their bytes while it runs.
class PlanLayout {
  public:
    struct Rules {
        size_t alignment;                             // of every slot, a power of two
        size_t (*row_bytes)(const ValueInfo& value);  // from one row of a value to the next
        // External outputs made in scratch, and copied out when no node needs them any more. Null:
        // none.
        bool (*is_staged)(const ValueInfo& output) = nullptr;
    };
    using Slot = size_t;
    static constexpr Slot kNoSlot = size_t(-1);

    PlanLayout(const Graph& graph, const Rules& rules);

    // Keeps a value's bytes also while nodes `first` to `last` run.
    void keep(Value v, size_t first, size_t last);
    // Scratch while nodes `first` to `last` run. 0 bytes: kNoSlot.
    Slot add(size_t bytes, size_t first, size_t last);
    // Scratch of a node, and of those up to `last` that run with it.
    void add_for(size_t node, size_t bytes, size_t last) {
        of_node_[node] = add(bytes, node, last);
    }
    void add_for(size_t node, size_t bytes) { add_for(node, bytes, node); }

    // Chooses the offsets; after the last add. Returns the bytes of the buffer.
    size_t place();

    bool holds(Value v) const;
    size_t value_offset(Value v) const { return requests_[size_t(v)].offset; }
    size_t slot_offset(Slot slot) const { return requests_[slot].offset; }
    // In the buffer that begins at `base`; null: nowhere.
    uint8_t* at(uint8_t* base, Slot slot) const {
        return slot == kNoSlot ? nullptr : base + slot_offset(slot);
    }
    Slot of_node(size_t node) const { return of_node_[node]; }
    // Staged outputs that no node after this one needs.
    std::vector<Value> copies_after(size_t node) const;

  private:
    const Graph& graph_;
    Rules rules_;
    std::vector<MemoryRequest> requests_;  // values first, then scratch
    std::vector<bool> is_staged_;          // by value
    std::vector<Slot> of_node_;
};

// Groups of neighbours: for each node the end (one past the last) of the longest row of nodes from
// it on of which each `joins` the one before it.
std::vector<size_t> group_ends(const Graph& graph, bool (*joins)(const Node& before, const Node&));

// [dims / 2] of a rope_table. factors: divisors, [dims / 2]; null: ones.
std::vector<float> rope_frequencies(const RopeTableParams& p, const float* factors);

// What a plan was compiled for.
struct RunLimits {
    int rows, out_rows;
    explicit RunLimits(const Graph& graph)
        : rows(graph.rows_max()), out_rows(graph.out_rows_max()) {}
    // internal: the run has more rows, or its segments do not cover them.
    Result<void> check(const StepState& state) const;
};

}  // namespace pillion
