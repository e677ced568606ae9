// Rotation: the table of a run, and the heads that it turns (with their norms).
#include <math.h>
#include <string.h>

#include "backends/cpu/ops/row_step.h"
#include "core/plan_layout.h"

namespace pillion::cpu {
namespace {

class RopeTableStep final : public RowStep {
  public:
    explicit RopeTableStep(const StepArgs& a)
        : RowStep(a, 16 * a.node.params.rope_table.dims), out_(a.out[0]),
          half_(a.node.params.rope_table.dims / 2) {
        const auto f = rope_frequencies(a.node.params.rope_table, a.in[0].data);
        frequency_.assign(f.begin(), f.end());
    }

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        const double pos = run.place(rows_, row).position;
        float* out = out_.row(row);
        for (int i = 0; i < half_; i++) {
            const double angle = pos * frequency_[size_t(i)];
            out[i] = float(cos(angle));
            out[half_ + i] = float(sin(angle));
        }
    }
    RowView out_;
    int half_;
    std::vector<double> frequency_;
};

class RopeGridStep final : public RowStep {
  public:
    explicit RopeGridStep(const StepArgs& a)
        : RowStep(a, 16 * a.node.params.rope_table.dims), x_(a.in[0]), y_(a.in[1]), out_(a.out[0]),
          quarter_(a.node.params.rope_table.dims / 4) {
        RopeTableParams p = a.node.params.rope_table;
        p.dims /= 2;  // each axis turns half of a head
        const auto f = rope_frequencies(p, nullptr);
        frequency_.assign(f.begin(), f.end());
    }

  private:
    static double place(const RowView& v, int row) {
        return *reinterpret_cast<const int32_t*>(v.row(row));
    }
    void row_step(const RunInfo&, int row, int) const override {
        const double at[2] = {place(x_, row), place(y_, row)};
        float* out = out_.row(row);
        for (int i = 0; i < 2 * quarter_; i++) {
            const double angle = at[i / quarter_] * frequency_[size_t(i % quarter_)];
            out[i] = float(cos(angle));
            out[2 * quarter_ + i] = float(sin(angle));
        }
    }
    RowView x_, y_, out_;
    int quarter_;
    std::vector<double> frequency_;
};

class QkvNormRopeStep final : public RowStep {
  public:
    explicit QkvNormRopeStep(const StepArgs& a)
        : RowStep(a, 3 * int64_t(a.node.params.qkv.n_heads + 2 * a.node.params.qkv.n_kv_heads) *
                         a.node.params.qkv.head_dim),
          q_(a.in[0]), k_(a.in[1]), v_(a.in[2]), rope_(a.in[5]), q_norm_(a.in[3].data),
          k_norm_(a.in[4].data), p_(a.node.params.qkv),
          rope_is_run_(a.graph.value(a.node.in[5]).rows == Rows::run) {}

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        const float* cos = rope_.row(rope_is_run_ ? run.first_row(rows_) + row : row);
        const int half = p_.rope_dims / 2;
        HeadArgs h = {nullptr,     nullptr,      cos,  cos + half,
                      p_.head_dim, p_.rope_dims, true, p_.interleaved != 0,
                      p_.eps};
        if (v_.data) {
            const size_t bytes = size_t(p_.n_kv_heads) * size_t(p_.head_dim) * 4;
            if (p_.v_from_k)
                memcpy(v_.row(row), k_.row(row), bytes);  // before k's norm and rotation
            if (p_.norm_v)
                heads(v_.row(row), p_.n_kv_heads,
                      {nullptr, nullptr, nullptr, nullptr, p_.head_dim, 0, true, false, p_.eps});
        }
        h.weight = q_norm_, h.normalize = q_norm_ != nullptr;
        if (q_.data) heads(q_.row(row), p_.n_heads, h);
        h.weight = k_norm_, h.normalize = k_norm_ != nullptr;
        if (k_.data) heads(k_.row(row), p_.n_kv_heads, h);
    }
    void heads(float* x, int n, HeadArgs h) const {
        for (int i = 0; i < n; i++) {
            h.x = x + int64_t(i) * p_.head_dim;
            table_.head_norm_rope(h);
        }
    }
    RowView q_, k_, v_, rope_;
    const float *q_norm_, *k_norm_;
    QkvParams p_;
    bool rope_is_run_;
};

}  // namespace

std::unique_ptr<CpuStep> make_rope_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::rope_table: return std::make_unique<RopeTableStep>(a);
        case Op::rope_grid: return std::make_unique<RopeGridStep>(a);
        case Op::qkv_norm_rope: return std::make_unique<QkvNormRopeStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
