// Plans of one context, by rows. Compiled on first use. A plan serves any number of rows up to its maximum, so a few sizes do:
// decode and verification, and prefill.
#pragma once
#include <memory>
#include <vector>

#include "model/model.h"

namespace pillion {

class PlanCache {
  public:
    PlanCache(const Model& model, Queue& queue, GraphInputs inputs, MatmulObserver* observer = nullptr)
        : model_(model), queue_(queue), inputs_(inputs) {
        options_.observer = observer;
    }
    // The smallest plan for so many rows. Throws Error when the backend can't compile it.
    Plan& get(int rows);
    Graph graph(int rows) const;           // what that plan is compiled from
    size_t scratch_bytes() const;

  private:
    static constexpr int kFewRows = 16;    // a token and its drafts, and room
    int rows_max(int rows) const;
    struct Entry {
        int rows_max;
        std::unique_ptr<Plan> plan;
    };
    const Model& model_;
    Queue& queue_;
    GraphInputs inputs_;                   // rows_max: the most a run may have
    CompileOptions options_;
    std::vector<Entry> entries_;
};

}  // namespace pillion
