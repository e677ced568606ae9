// RMS norms and layer norms.
#include "backends/cpu/ops/row_step.h"

namespace pillion::cpu {
namespace {

class NormStep final : public RowStep {
  public:
    explicit NormStep(const StepArgs& a)
        : RowStep(a, 2 * a.graph.value(a.node.out[0]).width), x_(a.in[0]), weight_(a.in[1].data),
          out_(a.out[0]), n_(int(a.graph.value(a.node.out[0]).width)), p_(a.node.params.norm) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.rms_norm(x_.row(row), weight_, out_.row(row), n_, p_.eps);
        if (p_.scale != 1.0f) table_.scale(out_.row(row), p_.scale, out_.row(row), n_);
    }
    RowView x_;
    const float* weight_;
    RowView out_;
    int n_;
    NormParams p_;
};

class NormAddStep final : public RowStep {
  public:
    explicit NormAddStep(const StepArgs& a)
        : RowStep(a, 3 * a.graph.value(a.node.out[0]).width), branch_(a.in[0]),
          weight_(a.in[1].data), residual_(a.in[2]), out_(a.out[0]),
          n_(int(a.graph.value(a.node.out[0]).width)), p_(a.node.params.norm) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.rms_norm_add(branch_.row(row), weight_, residual_.row(row), p_.scale, out_.row(row),
                            n_, p_.eps);
    }
    RowView branch_;
    const float* weight_;
    RowView residual_, out_;
    int n_;
    NormParams p_;
};

class LayerNormStep final : public RowStep {
  public:
    explicit LayerNormStep(const StepArgs& a)
        : RowStep(a, 3 * a.graph.value(a.node.out[0]).width), x_(a.in[0]), weight_(a.in[1].data),
          bias_(a.in[2].data), out_(a.out[0]), n_(int(a.graph.value(a.node.out[0]).width)),
          eps_(a.node.params.layer_norm.eps) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.layer_norm(x_.row(row), weight_, bias_, out_.row(row), n_, eps_);
    }
    RowView x_;
    const float *weight_, *bias_;
    RowView out_;
    int n_;
    float eps_;
};

}  // namespace

std::unique_ptr<CpuStep> make_norm_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::norm: return std::make_unique<NormStep>(a);
        case Op::norm_add: return std::make_unique<NormAddStep>(a);
        case Op::layer_norm: return std::make_unique<LayerNormStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
