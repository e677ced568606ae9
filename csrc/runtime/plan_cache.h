// Plans of one context, by rows. Compiled on first use. A plan serves any number of rows up to its
// maximum, so a few sizes do: decode and verification, and prefill.
#pragma once
#include <memory>
#include <vector>

#include "model/model.h"
#include "runtime/split_plan.h"

namespace pillion {

class PlanCache {
  public:
    // places: by Part; they stay where they are.
    PlanCache(const Model& model, const std::vector<PartPlace>& places, GraphInputs inputs,
              const CompileOptions& options)
        : model_(model), places_(places), inputs_(inputs), options_(options) {}
    // From now on runs write these. The plans so far are dropped.
    void set_kv(const KvPlaces& kv) { inputs_.kv = kv, entries_.clear(); }
    // The smallest plan for so many rows. Throws Error when the backend can't compile it.
    Plan& get(int rows);
    Graph graph(int rows) const;  // what that plan is compiled from
    size_t scratch_bytes() const;

  private:
    static constexpr int kFewRows = 16;  // a token and its drafts, and room
    int rows_max(int rows) const;
    struct Entry {
        int rows_max;
        std::unique_ptr<Plan> plan;
    };
    const Model& model_;
    const std::vector<PartPlace>& places_;
    GraphInputs inputs_;  // rows_max: the most a run may have
    CompileOptions options_;
    std::vector<Entry> entries_;
};

}  // namespace pillion
