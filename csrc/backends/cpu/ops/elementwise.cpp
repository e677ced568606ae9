// Scale, add, gate; rows gathered, pooled and put side by side.
#include <string.h>

#include "backends/cpu/ops/row_step.h"

namespace pillion::cpu {
namespace {

class ScaleStep final : public RowStep {
  public:
    explicit ScaleStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), x_(a.in[0]), out_(a.out[0]),
          n_(int(a.graph.value(a.node.out[0]).width)), scale_(a.node.params.scale.scale) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.scale(x_.row(row), scale_, out_.row(row), n_);
    }
    RowView x_, out_;
    int n_;
    float scale_;
};

class AddStep final : public RowStep {
  public:
    explicit AddStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), a_(a.in[0]), b_(a.in[1]), out_(a.out[0]),
          n_(int(a.graph.value(a.node.out[0]).width)) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.add(a_.row(row), b_.row(row), out_.row(row), n_);
    }
    RowView a_, b_, out_;
    int n_;
};

class GluStep final : public RowStep {
  public:
    explicit GluStep(const StepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.out[0]).width), gate_(a.in[0]), up_(a.in[1]),
          out_(a.out[0]), p_(a.node.params.glu),
          n_(int(a.graph.value(a.node.out[0]).width) / (p_.groups > 0 ? p_.groups : 1)) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float* gate = gate_.row(row);
        if (p_.groups == 0)
            return table_.glu(gate, up_.data ? up_.row(row) + p_.up_offset : nullptr, out_.row(row),
                              n_, p_.activation);
        for (int g = 0; g < p_.groups; g++)
            table_.glu(gate + 2 * g * n_, gate + (2 * g + 1) * n_, out_.row(row) + g * n_, n_,
                       p_.activation);
    }
    RowView gate_, up_, out_;
    GluParams p_;
    int n_;
};

class GatherRowsStep final : public RowStep {
  public:
    explicit GatherRowsStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), x_(a.in[0]), out_(a.out[0]),
          n_(a.graph.value(a.node.out[0]).width) {}

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        memcpy(out_.row(row), x_.row(run.first_row(Rows::out) + row), size_t(n_) * 4);
    }
    RowView x_, out_;
    int64_t n_;
};

class PoolRowsStep final : public RowStep {
  public:
    explicit PoolRowsStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width * a.graph.value(a.node.in[1]).width),
          x_(a.in[0]), ids_(a.in[1]), bias_(a.in[2].data), scale_(a.in[3].data), out_(a.out[0]),
          n_(int(a.graph.value(a.node.out[0]).width)),
          n_ids_(int(a.graph.value(a.node.in[1]).width)), factor_(a.node.params.pool.factor) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const auto* ids = reinterpret_cast<const int32_t*>(ids_.row(row));
        std::vector<const float*> rows(static_cast<size_t>(n_ids_));
        for (int i = 0; i < n_ids_; i++) rows[size_t(i)] = x_.row(ids[i]);
        table_.pool(rows.data(), n_ids_, factor_, bias_, scale_, out_.row(row), n_);
    }
    RowView x_, ids_;
    const float *bias_, *scale_;
    RowView out_;
    int n_, n_ids_;
    float factor_;
};

class ConcatStep final : public RowStep {
  public:
    explicit ConcatStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), a_(a.in[0]), b_(a.in[1]), out_(a.out[0]),
          n_a_(size_t(a.graph.value(a.node.in[0]).width)),
          n_b_(size_t(a.graph.value(a.node.in[1]).width)) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        memcpy(out_.row(row), a_.row(row), n_a_ * 4);
        memcpy(out_.row(row) + n_a_, b_.row(row), n_b_ * 4);
    }
    RowView a_, b_, out_;
    size_t n_a_, n_b_;
};

}  // namespace

std::unique_ptr<CpuStep> make_elementwise_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::scale: return std::make_unique<ScaleStep>(a);
        case Op::add: return std::make_unique<AddStep>(a);
        case Op::glu: return std::make_unique<GluStep>(a);
        case Op::gather_rows: return std::make_unique<GatherRowsStep>(a);
        case Op::pool_rows: return std::make_unique<PoolRowsStep>(a);
        case Op::concat: return std::make_unique<ConcatStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
