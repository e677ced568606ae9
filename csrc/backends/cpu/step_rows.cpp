// Ops that treat each row by itself: embeddings, norms, rotation, cache store, gates, gathers. When
// decoding they are microseconds of work and run on one thread between the matmuls; when prefilling
// their rows are cut into chunks.
#include <math.h>
#include <string.h>

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/lane_pack.h"
#include "core/expand.h"

namespace pillion::cpu {
namespace {

class RowStep : public CpuStep {
  public:
    RowStep(const RowStepArgs& a, int64_t cost_per_row)
        : CpuStep(a.node.op, a.node.layer), table_(a.table), rows_(a.node.rows),
          cost_(cost_per_row), n_threads_(a.n_threads) {}
    const char* kernel() const override { return info(op()).name; }
    int chunks(const RunInfo& run) const final {
        const int n = run.count(rows_);
        if (n <= 1 || n_threads_ == 1 || n * cost_ < kParallelElements) return n > 0 ? 1 : 0;
        return n < 8 * n_threads_ ? n : 8 * n_threads_;
    }
    void run(const RunInfo& run, int chunk, int worker) const final {
        const int n = run.count(rows_), cut = chunks(run);
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step without chunks is not run
        const int begin = int(int64_t(n) * chunk / cut), end = int(int64_t(n) * (chunk + 1) / cut);
        for (int row = begin; row < end; row++) row_step(run, row, worker);
    }

  protected:
    virtual void row_step(const RunInfo& run, int row, int worker) const = 0;
    const KernelTable& table_;
    const Rows rows_;

  private:
    static constexpr int64_t kParallelElements =
        32768;  // about the work that pays for waking a thread
    int64_t cost_;
    int n_threads_;
};

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
    explicit EmbedStep(const RowStepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width),
          embedding_(a.graph.value(a.node.in[0]).tensor), tokens_(a.in[1]), out_(a.out[0]),
          scale_(a.node.params.embed.scale) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        take_row(embedding_, token(tokens_, row), out_.row(row));
        if (scale_ != 1.0f)
            table_.scale(out_.row(row), scale_, out_.row(row), int(embedding_.width));
    }
    Tensor embedding_;
    RowView tokens_, out_;
    float scale_;
};

class PerLayerEmbedStep final : public RowStep {
  public:
    explicit PerLayerEmbedStep(const RowStepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.out[0]).width),
          embedding_(a.graph.value(a.node.in[0]).tensor), tokens_(a.in[1]), proj_(a.in[2]),
          norm_(a.in[3].data), out_(a.out[0]), p_(a.node.params.per_layer_embed),
          scratch_(reinterpret_cast<float*>(a.worker_scratch)) {}

  private:
    void row_step(const RunInfo&, int row, int worker) const override {
        float* branch = scratch_ + int64_t(worker) * p_.width;
        take_row(embedding_, token(tokens_, row), out_.row(row));
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

class RopeTableStep final : public RowStep {
  public:
    explicit RopeTableStep(const RowStepArgs& a)
        : RowStep(a, 16 * a.node.params.rope_table.dims), out_(a.out[0]),
          half_(a.node.params.rope_table.dims / 2) {
        const RopeTableParams& p = a.node.params.rope_table;
        frequency_.resize(size_t(half_));
        for (int i = 0; i < half_; i++) {
            const double factor = a.in[0].data ? double(a.in[0].data[i]) : 1.0;
            const double f =
                pow(double(p.base), -2.0 * i / p.dims) * double(p.position_scale) / factor;
            // The reference holds frequencies in f32; a factor of 1e29 and more is GGUF's way to
            // say "does not rotate".
            frequency_[size_t(i)] = factor >= 1e29 ? 0.0 : double(float(f));
        }
    }

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        const double pos = run.pos + run.first_row(rows_) + row;
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

class ScaleStep final : public RowStep {
  public:
    explicit ScaleStep(const RowStepArgs& a)
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
    explicit AddStep(const RowStepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), a_(a.in[0]), b_(a.in[1]), out_(a.out[0]),
          n_(int(a.graph.value(a.node.out[0]).width)) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.add(a_.row(row), b_.row(row), out_.row(row), n_);
    }
    RowView a_, b_, out_;
    int n_;
};

class NormStep final : public RowStep {
  public:
    explicit NormStep(const RowStepArgs& a)
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
    explicit NormAddStep(const RowStepArgs& a)
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

class QkvNormRopeStep final : public RowStep {
  public:
    explicit QkvNormRopeStep(const RowStepArgs& a)
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

class KvStoreStep final : public RowStep {
  public:
    explicit KvStoreStep(const RowStepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.in[1]).width), store_(a.graph.value(a.node.in[0]).kv),
          k_(a.in[1]), v_(a.in[2]) {}

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        const int slot = (run.pos + run.first_row(rows_) + row) % store_.spec.capacity;
        for (int h = 0; h < store_.spec.n_kv_heads; h++) {
            const int64_t at = int64_t(h) * store_.spec.head_dim;
            table_.kv_store(kv_head(store_, h), slot, k_.row(row) + at, v_.row(row) + at);
        }
    }
    KvStore store_;
    RowView k_, v_;
};

class GluStep final : public RowStep {
  public:
    explicit GluStep(const RowStepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.out[0]).width), gate_(a.in[0]), up_(a.in[1]),
          out_(a.out[0]), p_(a.node.params.glu),
          n_(int(a.graph.value(a.node.out[0]).width) / (p_.groups > 0 ? p_.groups : 1)),
          kind_(p_.activation == Activation::silu ? GluKind::silu : GluKind::gelu_tanh) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float* gate = gate_.row(row);
        if (p_.groups == 0)
            return table_.glu(gate, up_.row(row) + p_.up_offset, out_.row(row), n_, kind_);
        for (int g = 0; g < p_.groups; g++)
            table_.glu(gate + 2 * g * n_, gate + (2 * g + 1) * n_, out_.row(row) + g * n_, n_,
                       kind_);
    }
    RowView gate_, up_, out_;
    GluParams p_;
    int n_;
    GluKind kind_;
};

// Soft-max over all experts in f32, the n_used largest (lowest index first among equals),
// renormalised over those.
class MoeRouteStep final : public RowStep {
  public:
    explicit MoeRouteStep(const RowStepArgs& a)
        : RowStep(a, 4 * a.node.params.moe.n_experts), logits_(a.in[0]), scale_(a.in[1].data),
          ids_(reinterpret_cast<int32_t*>(a.out[0].data)), ids_stride_(a.out[0].stride),
          gates_(a.out[1]), p_(a.node.params.moe) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float* logits = logits_.row(row);
        int32_t* ids = ids_ + row * ids_stride_;
        float* gates = gates_.row(row);
        for (int k = 0; k < p_.n_used; k++) {
            int best = -1;
            for (int e = 0; e < p_.n_experts; e++) {
                bool taken = false;
                for (int j = 0; j < k; j++) taken |= ids[j] == e;
                if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
            }
            ids[k] = best;
        }
        // The soft-max's own denominator cancels in the renormalisation.
        float sum = 0.0f;
        for (int k = 0; k < p_.n_used; k++) sum += gates[k] = expf(logits[ids[k]] - logits[ids[0]]);
        for (int k = 0; k < p_.n_used; k++)
            gates[k] = gates[k] / sum * (scale_ ? scale_[ids[k]] : 1.0f);
    }
    RowView logits_;
    const float* scale_;
    int32_t* ids_;
    int64_t ids_stride_;
    RowView gates_;
    MoeParams p_;
};

class MoeSumStep final : public RowStep {
  public:
    explicit MoeSumStep(const RowStepArgs& a)
        : RowStep(a, a.graph.value(a.node.in[0]).width), x_(a.in[0]), gates_(a.in[1]),
          out_(a.out[0]), n_(int(a.graph.value(a.node.out[0]).width)),
          n_used_(a.node.params.moe.n_used) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float *x = x_.row(row), *gates = gates_.row(row);
        table_.scale(x, gates[0], out_.row(row), n_);
        for (int k = 1; k < n_used_; k++)
            table_.multiply_add(x + int64_t(k) * n_, gates[k], out_.row(row), n_);
    }
    RowView x_, gates_, out_;
    int n_, n_used_;
};

class GatherRowsStep final : public RowStep {
  public:
    explicit GatherRowsStep(const RowStepArgs& a)
        : RowStep(a, a.graph.value(a.node.out[0]).width), x_(a.in[0]), out_(a.out[0]),
          n_(a.graph.value(a.node.out[0]).width) {}

  private:
    void row_step(const RunInfo& run, int row, int) const override {
        memcpy(out_.row(row), x_.row(run.first_row(Rows::out) + row), size_t(n_) * 4);
    }
    RowView x_, out_;
    int64_t n_;
};

class SoftcapStep final : public RowStep {
  public:
    explicit SoftcapStep(const RowStepArgs& a)
        : RowStep(a, 4 * a.graph.value(a.node.in[0]).width), x_(a.in[0]),
          n_(int(a.graph.value(a.node.in[0]).width)), cap_(a.node.params.softcap.cap) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        table_.softcap(x_.row(row), n_, cap_);
    }
    RowView x_;
    int n_;
    float cap_;
};

class ArgmaxStep final : public RowStep {
  public:
    explicit ArgmaxStep(const RowStepArgs& a)
        : RowStep(a, a.graph.value(a.node.in[0]).width), x_(a.in[0]),
          ids_(reinterpret_cast<const int32_t*>(a.in[1].data)),
          ids_stride_(ids_ && a.graph.value(a.node.in[1]).rows != Rows::fixed ? a.in[1].stride : 0),
          out_(reinterpret_cast<int32_t*>(a.out[0].data)), stride_(a.out[0].stride),
          probability_(a.out[1]), n_(int(a.graph.value(a.node.in[0]).width)) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float* x = x_.row(row);
        int best = table_.argmax(x, n_);
        if (ids_) {
            const int32_t* ids = ids_ + row * ids_stride_;
            for (int i = best + 1; i < n_;
                 i++)  // among equals the lowest token, wherever it stands
                if (x[i] == x[best] && ids[i] < ids[best]) best = i;
            out_[row * stride_] = ids[best];
        } else {
            out_[row * stride_] = best;
        }
        if (!probability_.data) return;
        float max, sum;
        table_.softmax_stats(x, n_, &max, &sum);
        *probability_.row(row) = 1.0f / sum;
    }
    RowView x_;
    const int32_t* ids_;
    int64_t ids_stride_;
    int32_t* out_;
    int64_t stride_;
    RowView probability_;
    int n_;
};

class ConcatStep final : public RowStep {
  public:
    explicit ConcatStep(const RowStepArgs& a)
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

std::unique_ptr<CpuStep> make_row_step(const RowStepArgs& a) {
    switch (a.node.op) {
        case Op::embed: return std::make_unique<EmbedStep>(a);
        case Op::per_layer_embed: return std::make_unique<PerLayerEmbedStep>(a);
        case Op::rope_table: return std::make_unique<RopeTableStep>(a);
        case Op::scale: return std::make_unique<ScaleStep>(a);
        case Op::add: return std::make_unique<AddStep>(a);
        case Op::norm: return std::make_unique<NormStep>(a);
        case Op::norm_add: return std::make_unique<NormAddStep>(a);
        case Op::qkv_norm_rope: return std::make_unique<QkvNormRopeStep>(a);
        case Op::kv_store: return std::make_unique<KvStoreStep>(a);
        case Op::glu: return std::make_unique<GluStep>(a);
        case Op::moe_route: return std::make_unique<MoeRouteStep>(a);
        case Op::moe_sum: return std::make_unique<MoeSumStep>(a);
        case Op::gather_rows: return std::make_unique<GatherRowsStep>(a);
        case Op::softcap: return std::make_unique<SoftcapStep>(a);
        case Op::argmax: return std::make_unique<ArgmaxStep>(a);
        case Op::concat: return std::make_unique<ConcatStep>(a);
        default: return nullptr;
    }
}

size_t row_step_worker_bytes(const Graph&, const Node& node) {
    return node.op == Op::per_layer_embed ? size_t(node.params.per_layer_embed.width) * 4 : 0;
}

}  // namespace pillion::cpu
