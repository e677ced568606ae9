// The plans of one context, by their number of rows, compiled on first use. A plan runs any number
// of rows up to its maximum, so a few sizes suffice: for decode and verification, and for prefill.
#pragma once
#include <memory>
#include <vector>

#include "model/model.h"
#include "runtime/split_plan.h"

namespace pillion {

class PlanCache {
  public:
    // places: by Part; must outlive the cache.
    PlanCache(const Model& model, const std::vector<PartPlace>& places, GraphInputs inputs,
              const CompileOptions& options)
        : model_(model), places_(places), inputs_(inputs), options_(options) {}
    // Later runs write these. Drops the compiled plans.
    void set_kv(const KvPlaces& kv) { inputs_.kv = kv, entries_.clear(); }
    // Later runs may have rows of media. Drops the compiled plans.
    void set_media(const Tensor& media, const Tensor& until) {
        inputs_.media = media, inputs_.until = until, entries_.clear();
    }
    // The smallest plan for `rows` rows; with blocks, one that heeds `until`. Throws Error if the
    // backend cannot compile it.
    Plan& get(int rows, bool with_blocks = false);
    Graph graph(int rows) const;  // the graph that get(rows) compiles
    size_t scratch_bytes() const;

  private:
    static constexpr int kFewRows = 16;  // a token, its drafts, and some room
    int rows_max(int rows, bool with_blocks = false) const;
    struct Entry {
        int rows_max;
        std::unique_ptr<Plan> plan;
    };
    const Model& model_;
    const std::vector<PartPlace>& places_;
    GraphInputs inputs_;  // rows_max: most rows of a run
    CompileOptions options_;
    std::vector<Entry> entries_;
};

}  // namespace pillion
