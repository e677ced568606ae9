// Routed experts: the choice, the products, the sum. A matmul sorts the (row, slot) pairs of a run
// by expert, so that an expert's weights are read once for all rows that chose it: group ->
// quantize -> multiply, three steps. A pair's result doesn't depend on its neighbours.
#include <math.h>
#include <string.h>

#include "backends/cpu/ops/row_step.h"

namespace pillion::cpu {
namespace {

struct Moe {
    const KernelTable& table;
    Rows rows;
    MoeParams p;
    PackedMatrix expert;  // expert 0; expert e lies e * expert_bytes further on
    size_t expert_bytes;
    RowView x;
    const int32_t* ids;
    int64_t ids_stride;
    RowView out;
    int32_t* lists;
    ActBlock* act;  // [pair in sorted order], tiles of an expert's pairs; null for float weights
    int n_threads;

    int n_pairs(const RunInfo& run) const { return run.count(rows) * p.n_used; }
    // lists: number of active experts, then their ids, the begin of their pairs (one more than
    // experts), the sort's counters, then the pairs in order
    int32_t& n_active() const { return lists[0]; }
    int32_t* active() const { return lists + 1; }
    int32_t* begin() const { return lists + 1 + p.n_experts; }
    int32_t* next() const { return lists + 2 + 2 * p.n_experts; }
    int32_t* pairs() const { return lists + 2 + 3 * p.n_experts; }
    int32_t expert_of(int pair) const {
        return ids[pair / p.n_used * ids_stride + pair % p.n_used];
    }
    const float* input(int pair) const {
        return x.row(pair / p.n_used) +
               (p.per_row == 1 ? 0 : int64_t(pair % p.n_used) * expert.inputs);
    }
    float* output(int pair) const {
        return out.row(pair / p.n_used) + int64_t(pair % p.n_used) * expert.rows;
    }
};

class MoeGroupStep final : public CpuStep {
  public:
    MoeGroupStep(const Moe& m, int layer) : CpuStep(Op::moe_matmul, layer), m_(m) {}
    const char* kernel() const override { return "moe_group"; }
    int chunks(const RunInfo& run) const override { return m_.n_pairs(run) > 0 ? 1 : 0; }
    void run(const RunInfo& run, int, int) const override {
        // A counting sort: pairs of an expert keep their order.
        const int n_pairs = m_.n_pairs(run), n_experts = m_.p.n_experts;
        int32_t* next = m_.next();  // first the counts, then where an expert's next pair goes
        for (int e = 0; e < n_experts; e++) next[e] = 0;
        for (int pair = 0; pair < n_pairs; pair++) next[m_.expert_of(pair)]++;
        int n_active = 0, at = 0;
        for (int e = 0; e < n_experts; e++) {
            const int count = next[e];
            next[e] = at;
            if (count > 0) m_.active()[n_active] = e, m_.begin()[n_active++] = at;
            at += count;
        }
        m_.begin()[n_active] = at;
        m_.n_active() = n_active;
        for (int pair = 0; pair < n_pairs; pair++) m_.pairs()[next[m_.expert_of(pair)]++] = pair;
    }

  private:
    Moe m_;
};

// An expert's inputs, row after row, before they are quantized.
class MoeObserveStep final : public CpuStep {
  public:
    MoeObserveStep(const Moe& m, int layer, MatmulObserver& observer, int number)
        : CpuStep(Op::moe_matmul, layer), m_(m), observer_(observer), number_(number) {}
    const char* kernel() const override { return "observe"; }
    int chunks(const RunInfo& run) const override {
        return m_.n_pairs(run) > 0 ? m_.n_active() : 0;
    }
    void run(const RunInfo&, int chunk, int) const override {
        for (int i = m_.begin()[chunk]; i < m_.begin()[chunk + 1]; i++) {
            const float* x = m_.input(m_.pairs()[i]);
            observer_.observe(number_, m_.active()[chunk], &x, /*n_rows=*/1, 0, m_.expert.inputs);
        }
    }

  private:
    Moe m_;
    MatmulObserver& observer_;
    int number_;
};

class MoeQuantizeStep final : public CpuStep {
  public:
    MoeQuantizeStep(const Moe& m, int layer) : CpuStep(Op::moe_matmul, layer), m_(m) {}
    const char* kernel() const override { return "quantize_q8"; }
    int chunks(const RunInfo& run) const override {
        return m_.n_pairs(run) > 0 ? m_.n_active() : 0;
    }
    void run(const RunInfo&, int chunk, int) const override {
        const int begin = m_.begin()[chunk], n = m_.begin()[chunk + 1] - begin,
                  blocks = m_.expert.inputs / 32;
        for (int c = 0; c < n; c++) {
            const int tile = c / kMatmulColumns * kMatmulColumns,
                      columns = n - tile < kMatmulColumns ? n - tile : kMatmulColumns;
            ActBlock* act = m_.act + ptrdiff_t(begin + tile) * blocks + (c - tile);
            m_.table.quantize(m_.input(m_.pairs()[begin + c]), m_.expert.inputs, act, columns);
        }
    }

  private:
    Moe m_;
};

class MoeMultiplyStep final : public CpuStep {
  public:
    MoeMultiplyStep(const Moe& m, int layer) : CpuStep(Op::moe_matmul, layer), m_(m) {}
    const char* kernel() const override { return "moe_matmul"; }
    int chunks(const RunInfo& run) const override {
        return m_.n_pairs(run) > 0 ? m_.n_active() * pieces() : 0;
    }
    void run(const RunInfo&, int chunk, int) const override {
        const int a = chunk / pieces(), piece = chunk % pieces(), panels = m_.expert.n_panels();
        const int begin = m_.begin()[a], n = m_.begin()[a + 1] - begin;
        PackedMatrix expert = m_.expert;
        expert.panels += m_.expert_bytes * size_t(m_.active()[a]);
        for (int c = 0; c < n; c += kMatmulColumns) {
            const int columns = n - c < kMatmulColumns ? n - c : kMatmulColumns;
            const float* x[kMatmulColumns];
            float* out[kMatmulColumns];
            for (int i = 0; i < columns; i++) {
                const int pair = m_.pairs()[begin + c + i];
                x[i] = m_.input(pair), out[i] = m_.output(pair);
            }
            multiply(m_.table, expert, panels * piece / pieces(), panels * (piece + 1) / pieces(),
                     m_.act ? m_.act + ptrdiff_t(begin + c) * (expert.inputs / 32) : nullptr, x,
                     columns, out);
        }
    }

  private:
    // Experts are small (a MB or so); two pieces per thread level the threads when few experts are
    // active.
    int pieces() const { return m_.n_threads == 1 ? 1 : 2; }
    Moe m_;
};

// Soft-max over all experts in f32, the n_used largest (lowest index first among equals),
// renormalised over those.
class MoeRouteStep final : public RowStep {
  public:
    explicit MoeRouteStep(const StepArgs& a)
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
    explicit MoeSumStep(const StepArgs& a)
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

}  // namespace

MoeScratch moe_scratch(const PackedMatrix& m, const MoeParams& p, int rows_max) {
    const size_t pairs = size_t(rows_max) * size_t(p.n_used);
    MoeScratch s = {};
    s.act = (size_t(2 + 3 * p.n_experts) * 4 + pairs * 4 + 63) / 64 * 64;
    s.bytes = s.act + (is_float(m.format) ? 0 : act_bytes(m.inputs, int64_t(pairs)));
    return s;
}

void add_moe_matmul_steps(StepList& steps, const StepArgs& a) {
    const Tensor& weights = a.graph.value(a.node.in[0]).tensor;
    const PackedMatrix m = packed_matrix(weights);
    const MoeParams& p = a.node.params.moe;
    const MoeScratch layout = moe_scratch(m, p, a.graph.rows_max(a.node.rows));
    ActBlock* act =
        is_float(m.format) ? nullptr : reinterpret_cast<ActBlock*>(a.scratch + layout.act);
    const Moe moe = {a.table,
                     a.node.rows,
                     p,
                     m,
                     m.panel_bytes * size_t(m.n_panels()),
                     a.in[1],
                     reinterpret_cast<const int32_t*>(a.in[2].data),
                     a.in[2].stride,
                     a.out[0],
                     reinterpret_cast<int32_t*>(a.scratch + layout.lists),
                     act,
                     a.n_threads};
    const int layer = a.node.layer;
    steps.push_back(std::make_unique<MoeGroupStep>(moe, layer));
    const int number = a.observer ? a.observer->number_of(weights) : -1;
    if (number >= 0)
        steps.push_back(std::make_unique<MoeObserveStep>(moe, layer, *a.observer, number));
    if (act) steps.push_back(std::make_unique<MoeQuantizeStep>(moe, layer));
    steps.push_back(std::make_unique<MoeMultiplyStep>(moe, layer));
}

std::unique_ptr<CpuStep> make_moe_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::moe_route: return std::make_unique<MoeRouteStep>(a);
        case Op::moe_sum: return std::make_unique<MoeSumStep>(a);
        default: return nullptr;
    }
}

}  // namespace pillion::cpu
