// The ops of the audio encoder, whose rows are the positions of one sound: row i of the op stands
// right behind row i - 1, whatever positions the run's segments name.
#include <string.h>

#include <algorithm>

#include "backends/cpu/ops/row_step.h"

namespace pillion::cpu {

static_assert(kLocalWindowMax == LOCAL_WINDOW_MAX);

namespace {

class AttendLocalStep final : public RowStep {
  public:
    explicit AttendLocalStep(const StepArgs& a)
        : RowStep(a, 2 * a.node.params.attend_local.window * a.graph.value(a.node.out[0]).width),
          q_(a.in[0]), k_(a.in[1]), v_(a.in[2]), out_(a.out[0]), q_scale_(a.in[3].data),
          relative_(a.in[4].data), p_(a.node.params.attend_local) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const int n = std::min(row + 1, p_.window), width = p_.n_heads * p_.head_dim;
        for (int at = 0; at < width; at += p_.head_dim) {
            const int first = row + 1 - n;
            table_.attend_local({q_.row(row) + at, q_scale_, k_.row(first) + at, v_.row(first) + at,
                                 k_.stride, v_.stride, relative_ + at, width, n, p_.head_dim,
                                 p_.softcap, out_.row(row) + at});
        }
    }
    RowView q_, k_, v_, out_;
    const float *q_scale_, *relative_;
    AttendLocalParams p_;
};

class ConvCausalStep final : public RowStep {
  public:
    explicit ConvCausalStep(const StepArgs& a)
        : RowStep(a, a.node.params.conv_causal.taps * a.graph.value(a.node.out[0]).width),
          x_(a.in[0]), out_(a.out[0]), weight_(a.in[1].data),
          n_(int(a.graph.value(a.node.out[0]).width)), taps_(a.node.params.conv_causal.taps) {}

  private:
    void row_step(const RunInfo&, int row, int) const override {
        const float* rows[CONV_TAPS_MAX];
        const int n = std::min(row + 1, taps_);
        for (int t = 0; t < n; t++) rows[t] = x_.row(row + 1 - n + t);
        table_.weigh_rows(rows, weight_ + int64_t(taps_ - n) * n_, n, out_.row(row), n_);
    }
    RowView x_, out_;
    const float* weight_;
    int n_, taps_;
};

// A chunk is some out rows in order. Each needs the rows 2t - 1, 2t and 2t + 1 of the first
// convolution, so one is kept for the next. What lies outside the sound is a row of zeros.
class SubsampleStep final : public CpuStep {
  public:
    explicit SubsampleStep(const StepArgs& a)
        : CpuStep(a.node.op, a.node.layer), table_(a.table), rows_(a.node.rows), x_(a.in[0]),
          out_(a.out[0]), p_(a.node.params.subsample),
          bands_(int(a.graph.value(a.node.in[0]).width)), n_threads_(a.n_threads),
          scratch_(reinterpret_cast<float*>(a.scratch)),
          worker_floats_(subsample_scratch(p_, bands_, n_threads_).worker_floats) {
        for (int k = 0; k < 4; k++) weights_[k] = a.in[k + 1].data;
    }
    const char* kernel() const override { return "subsample"; }
    int chunks(const RunInfo& run) const override {
        return std::min(run.count(rows_), n_threads_ == 1 ? 1 : 4 * n_threads_);
    }
    void run(const RunInfo& run, int chunk, int worker) const override {
        const int n = run.count(rows_), cut = chunks(run);
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step without chunks is not run
        const int begin = int(int64_t(n) * chunk / cut), end = int(int64_t(n) * (chunk + 1) / cut);
        Rows3 r(*this, worker);
        if (begin > 0) first(run, 2 * begin - 1, r);
        for (int row = begin; row < end; row++) {
            first(run, 2 * row, r), first(run, 2 * row + 1, r);
            table_.conv_row(
                {{half(run, 2 * row - 1, r), half(run, 2 * row, r), half(run, 2 * row + 1, r)},
                 weights_[2],
                 weights_[3],
                 p_.channels_1,
                 p_.channels_2,
                 (half_bands() + 1) / 2,
                 p_.eps,
                 out_.row(row)});
        }
    }

  private:
    int half_bands() const { return (bands_ + 1) / 2; }
    // With the zeros around.
    int frame_floats() const { return bands_ + 2; }
    int half_floats() const { return (half_bands() + 2) * p_.channels_1; }

    // A worker's memory.
    struct Rows3 {
        float *frames[3], *halves[3], *zeros;
        Rows3(const SubsampleStep& s, int worker) {
            float* at = s.scratch_ + s.worker_floats_ * size_t(worker);
            memset(at, 0, s.worker_floats_ * 4);
            for (float*& f : frames) f = at, at += s.frame_floats();
            for (float*& h : halves) h = at, at += s.half_floats();
            zeros = at;
        }
    };

    static int n_halves(const RunInfo& run) { return (run.rows + 1) / 2; }
    const float* half(const RunInfo& run, int i, const Rows3& r) const {
        return i < 0 || i >= n_halves(run) ? r.zeros : r.halves[i % 3];
    }
    // Row i of the first convolution, into its place.
    void first(const RunInfo& run, int i, Rows3& r) const {
        if (i >= n_halves(run)) return;
        const float* x[3];
        for (int k = 0; k < 3; k++) {
            const int frame = 2 * i - 1 + k;
            x[k] = r.zeros;
            if (frame < 0 || frame >= run.rows) continue;
            memcpy(r.frames[k] + 1, x_.row(frame), size_t(bands_) * 4);
            x[k] = r.frames[k];
        }
        table_.conv_row({{x[0], x[1], x[2]},
                         weights_[0],
                         weights_[1],
                         1,
                         p_.channels_1,
                         half_bands(),
                         p_.eps,
                         r.halves[i % 3] + p_.channels_1});
    }

    const KernelTable& table_;
    Rows rows_;
    RowView x_, out_;
    const float* weights_[4];
    SubsampleParams p_;
    int bands_, n_threads_;
    float* scratch_;
    size_t worker_floats_;
};

}  // namespace

SubsampleScratch subsample_scratch(const SubsampleParams& p, int64_t bands, int n_threads) {
    const size_t frame = size_t(bands) + 2,
                 half = size_t((bands + 1) / 2 + 2) * size_t(p.channels_1);
    SubsampleScratch s = {};
    s.worker_floats = (3 * frame + 3 * half + std::max(frame, half) + 15) / 16 * 16;
    s.bytes = s.worker_floats * 4 * size_t(n_threads);
    return s;
}

void add_subsample_steps(StepList& steps, const StepArgs& a) {
    steps.push_back(std::make_unique<SubsampleStep>(a));
}

std::unique_ptr<CpuStep> make_sound_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::attend_local: return std::make_unique<AttendLocalStep>(a);
        case Op::conv_causal: return std::make_unique<ConvCausalStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
