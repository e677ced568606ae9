// Rows of embedding tables.
#include <string.h>

#include <algorithm>

#include "backends/cpu/lane_pack.h"
#include "backends/cpu/ops/row_step.h"
#include "core/expand.h"

namespace pillion::cpu {
namespace {

// One row of an embedding table, in the file's layout or packed.
void take_row(const Tensor& table, int64_t row, float* out) {
    if (table.layout == Layout::packed)
        unpack_row(format_of(table.dtype), table.host(), row, int(table.width), out);
    else
        read_row(table.dtype, table.host() + size_t(row) * row_bytes(table.dtype, table.width),
                 int(table.width), out);
}

// Tokens may be a buffer of the caller or the argmax of an earlier node, one to a row of scratch.
int32_t token(const RowView& tokens, int row) {
    return *reinterpret_cast<const int32_t*>(tokens.row(row));
}

class EmbedStep final : public RowStep {
  public:
    explicit EmbedStep(const StepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width),
          embedding_(a.graph.value(a.node.in[0]).tensor), tokens_(a.in[1]), media_(a.in[2]),
          out_(a.out[0]), scale_(a.node.params.embed.scale) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const int32_t id = token(tokens_, row);
        if (id < 0) {
            memcpy(out_.row(row), media_.row(-1 - id), size_t(embedding_.width) * sizeof(float));
            return;
        }
        take_row(embedding_, id, out_.row(row));
        if (scale_ != 1.0f)
            table_.scale(out_.row(row), scale_, out_.row(row), int(embedding_.width));
    }
    Tensor embedding_;
    RowView tokens_, media_, out_;
    float scale_;
};

class PerLayerEmbedStep final : public RowStep {
  public:
    explicit PerLayerEmbedStep(const StepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.out[0]).width),
          embedding_(a.graph.value(a.node.in[0]).tensor), tokens_(a.in[1]), proj_(a.in[2]),
          norm_(a.in[3].data), out_(a.out[0]), p_(a.node.params.per_layer_embed),
          scratch_(reinterpret_cast<float*>(a.scratch)) {}

  private:
    void row_step(const RunInfo&, int row, int worker) const override {
        float* branch = scratch_ + int64_t(worker) * p_.width;
        take_row(embedding_, std::max(0, token(tokens_, row)), out_.row(row));
        for (int l = 0; l < p_.n_layers; l++) {
            float* e = out_.row(row) + int64_t(l) * p_.width;
            table_.scale(proj_.row(row) + int64_t(l) * p_.width, p_.proj_scale, branch, p_.width);
            table_.scale(e, p_.table_scale, e, p_.width);
            table_.rms_norm_add(branch, norm_, e, p_.out_scale, e, p_.width, p_.eps);
        }
    }
    Tensor embedding_;
    RowView tokens_, proj_;
    const float* norm_;
    RowView out_;
    PerLayerEmbedParams p_;
    float* scratch_;
};

}  // namespace

std::unique_ptr<CpuStep> make_embed_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::embed: return std::make_unique<EmbedStep>(a);
        case Op::per_layer_embed: return std::make_unique<PerLayerEmbedStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
