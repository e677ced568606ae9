// The page numbers that a run needs. A plan keeps them behind its StepState, so that one copy to
// fixed addresses brings both to the device: of each segment of the run a record, which has the
// entries of every table that the graph's caches use.
#pragma once
#include <vector>

#include "backends/cuda/kv_layout.h"
#include "core/contract/step_state.h"
#include "core/graph.h"
#include "core/result.h"

namespace pillion::cuda {

class RunTables {
  public:
    explicit RunTables(const Graph& graph);

    size_t record_bytes() const { return size_t(record_) * 4; }
    // Of one of the graph's caches. records: device memory.
    KvPages pages(const KvStore& store, const int32_t* records) const;
    // Copies what the segments of a run need to records, in host memory. internal: a table has no
    // such row, or the run would use a page that its cache does not have.
    Result<void> pack(const StepState& state, int32_t* records) const;

  private:
    struct Table {
        KvTable table;
        int32_t slots, n_pages;     // of the smallest of its caches
        int32_t window, past_only;  // the furthest that an op looks back, and ahead; 0: all
        int32_t at;                 // of the record
    };
    static bool same(const Table& t, const KvStore& store);
    void add(const KvStore& store, int window, int past_only);
    static Result<void> check_pages(const Table& t, const Segment& segment, const int32_t* pages);

    std::vector<Table> tables_;
    int32_t record_ = 0;
};

}  // namespace pillion::cuda
