// Matmul with routed experts. The (row, slot) pairs of a run are sorted by expert, so that an
// expert's weights are read once for all rows that chose it: group -> quantise -> multiply, three
// steps. A pair's result doesn't depend on its neighbours.
#include <string.h>

#include "backends/cpu/cpu_steps.h"

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

// An expert's inputs, row after row, before they are quantised.
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

}  // namespace

MoeScratch moe_scratch(const PackedMatrix& m, const MoeParams& p, int rows_max) {
    const size_t pairs = size_t(rows_max) * size_t(p.n_used);
    MoeScratch s = {};
    s.act = (size_t(2 + 3 * p.n_experts) * 4 + pairs * 4 + 63) / 64 * 64;
    s.bytes = s.act + (is_float(m.format) ? 0 : act_bytes(m.inputs, int64_t(pairs)));
    return s;
}

void add_moe_matmul_steps(StepList& steps, const KernelTable& table, int layer, Rows rows,
                          const MoeParams& p, const Tensor& weights, RowView x, const int32_t* ids,
                          int64_t ids_stride, RowView out, const MoeScratch& layout,
                          uint8_t* scratch, int n_threads, MatmulObserver* observer) {
    const PackedMatrix m = packed_matrix(weights);
    ActBlock* act =
        is_float(m.format) ? nullptr : reinterpret_cast<ActBlock*>(scratch + layout.act);
    const Moe moe = {
        table, rows,     p,          m,   m.panel_bytes * size_t(m.n_panels()),
        x,     ids,      ids_stride, out, reinterpret_cast<int32_t*>(scratch + layout.lists),
        act,   n_threads};
    steps.push_back(std::make_unique<MoeGroupStep>(moe, layer));
    const int number = observer ? observer->number_of(weights) : -1;
    if (number >= 0)
        steps.push_back(std::make_unique<MoeObserveStep>(moe, layer, *observer, number));
    if (act) steps.push_back(std::make_unique<MoeQuantizeStep>(moe, layer));
    steps.push_back(std::make_unique<MoeMultiplyStep>(moe, layer));
}

}  // namespace pillion::cpu
