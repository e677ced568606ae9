// Keys and values into the cache.
#include "backends/cpu/ops/row_step.h"

namespace pillion::cpu {
namespace {

class KvStoreStep final : public RowStep {
  public:
    explicit KvStoreStep(const StepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.in[1]).width), store_(a.graph.value(a.node.in[0]).kv),
          k_(a.in[1]), v_(a.in[2]) {}

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        const RunInfo::Place place = run.place(rows_, row);
        const int slot = place.position % store_.spec.page_slots();
        for (int h = 0; h < store_.spec.n_kv_heads; h++) {
            const int64_t at = int64_t(h) * store_.spec.head_dim;
            table_.kv_store(kv_head(store_, h, place.table, place.position), slot, k_.row(row) + at,
                            v_.row(row) + at);
        }
    }
    KvStore store_;
    RowView k_, v_;
};

}  // namespace

std::unique_ptr<CpuStep> make_kv_store_step(const StepArgs& a) {
    if (a.node.op != Op::kv_store) return nullptr;
    return std::make_unique<KvStoreStep>(a);
}

}  // namespace pillion::cpu
