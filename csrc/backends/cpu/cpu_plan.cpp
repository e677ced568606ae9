// Graph -> steps. Two passes: the first finds when each value and each op's scratch is needed and
// places them, the second makes steps that hold the final addresses.
#include "backends/cpu/cpu_plan.h"

#include <algorithm>

#include "backends/cpu/cpu_steps.h"
#include "core/error.h"
#include "core/plan_layout.h"

namespace pillion::cpu {
namespace {

class CpuPlan final : public Plan {
  public:
    CpuPlan(ThreadPool& pool, const Graph& graph) : pool_(pool), limits_(graph) {}

    Result<void> run(const StepState& state) override {
        if (const Result<void> fits = limits_.check(state); !fits) return fits;
        finished_ = pool_.run(raw_.data(), int(raw_.size()), RunInfo(state));
        return ok();
    }
    Result<void> wait() override {
        if (finished_) return ok();
        return Failure(Status::cancelled, "cancelled");
    }
    size_t scratch_bytes() const override { return scratch_ ? scratch_->size() : 0; }
    std::vector<StepInfo> steps() const override {
        std::vector<StepInfo> all;
        for (const auto& s : steps_) all.push_back({s->op(), s->layer(), "cpu", s->kernel()});
        return all;
    }

    StepList steps_;
    std::vector<const CpuStep*> raw_;
    std::unique_ptr<Buffer> scratch_;

  private:
    ThreadPool& pool_;
    RunLimits limits_;
    bool finished_ = true;
};

class Compiler {
  public:
    Compiler(const Graph& graph, const KernelTable& table, ThreadPool& pool,
             MatmulObserver* observer)
        : graph_(graph), table_(table), pool_(pool), observer_(observer),
          layout_(graph, {64, value_row_bytes}), group_end_(group_ends(graph, share_input)) {}

    std::unique_ptr<Plan> compile(std::unique_ptr<Buffer> (*allocate)(size_t, BufferKind)) {
        keep_groups();
        request_scratch();
        auto plan = std::make_unique<CpuPlan>(pool_, graph_);
        plan->scratch_ = allocate(layout_.place(), BufferKind::scratch);
        scratch_ = plan->scratch_->host();
        for (size_t i = 0; i < graph_.nodes().size(); i = group_end_[i]) add_steps(plan->steps_, i);
        for (const auto& s : plan->steps_) plan->raw_.push_back(s.get());
        return plan;
    }

  private:
    const Node& node(size_t i) const { return graph_.nodes()[i]; }

    static bool is_product(const Node& n) { return n.op == Op::matmul || n.op == Op::linear; }
    static LinearParams bounds(const Node& n) {
        return n.op == Op::linear ? n.params.linear
                                  : LinearParams{-INFINITY, INFINITY, -INFINITY, INFINITY};
    }

    // Products of one input run as one step, so that the input is rounded once.
    static bool share_input(const Node& before, const Node& n) {
        const LinearParams a = bounds(before), b = bounds(n);
        return is_product(before) && is_product(n) && before.in[1] == n.in[1] &&
               a.in_min == b.in_min && a.in_max == b.in_max;
    }

    // A group's step writes all of its outputs, be they read or not.
    void keep_groups() {
        for (size_t i = 0; i < graph_.nodes().size(); i = group_end_[i])
            for (size_t j = i; j < group_end_[i]; j++)
                layout_.keep(node(j).out[0], i, group_end_[i] - 1);
    }

    // Rows are a whole number of cache lines apart, and not a multiple of 4 KB, or the columns of a
    // tile would meet in a few sets of the first cache (docs/measurements.md).
    static int64_t stride(const ValueInfo& v) {
        if (v.kind == ValueInfo::Kind::external) return v.width;
        const int64_t lines = (v.width + 15) / 16 * 16;
        return lines % 1024 == 0 && lines > 0 ? lines + 32 : lines;
    }

    static size_t value_row_bytes(const ValueInfo& v) { return size_t(stride(v)) * 4; }

    static bool is_quantized(const Tensor& t) { return !is_float(format_of(t.dtype)); }

    void request_scratch() {
        for (size_t i = 0; i < graph_.nodes().size(); i = group_end_[i])
            if (is_product(node(i))) layout_.add_for(i, product_scratch(i), group_end_[i] - 1);
            else layout_.add_for(i, node_scratch(graph_, node(i), pool_.n_threads()));
    }

    // The input's blocks for quantized weights, and behind them its bounded rows for float ones.
    size_t product_scratch(size_t first) const {
        bool any_quantized = false, any_float = false;
        for (size_t i = first; i < group_end_[first]; i++)
            (is_quantized(graph_.value(node(i).in[0]).tensor) ? any_quantized : any_float) = true;
        const bool is_bounded = input_of(first).is_bounded();
        return (any_quantized ? blocks_bytes(first) : 0) +
               (any_float && is_bounded ? value_row_bytes(bounded_info(first)) *
                                              size_t(graph_.rows_max(node(first).rows))
                                        : 0);
    }
    size_t blocks_bytes(size_t first) const {
        return (act_bytes(int(graph_.value(node(first).in[1]).width),
                          graph_.rows_max(node(first).rows)) +
                63) /
               64 * 64;
    }
    ValueInfo bounded_info(size_t first) const {
        ValueInfo v;
        v.width = graph_.value(node(first).in[1]).width;
        return v;
    }
    MatmulInput input_of(size_t first) const {
        const Node& n = node(first);
        return {table_,   n.layer, n.rows, {}, int(graph_.value(n.in[1]).width), pool_.n_threads(),
                bounds(n)};
    }

    uint8_t* scratch(size_t i) const { return layout_.at(scratch_, layout_.of_node(i)); }

    RowView rows(Value v) const {
        if (v == kNone) return {};
        const ValueInfo& info = graph_.value(v);
        switch (info.kind) {
            case ValueInfo::Kind::activation:
                return {reinterpret_cast<float*>(scratch_ + layout_.value_offset(v)), stride(info)};
            case ValueInfo::Kind::kv: return {};
            default: return {reinterpret_cast<float*>(info.tensor.host()), info.width};
        }
    }

    void add_steps(StepList& steps, size_t i) {
        const Node& n = node(i);
        if (is_product(n)) return add_matmul_group(steps, i);
        StepArgs a = {table_, graph_, n, {}, {}, scratch(i), pool_.n_threads(), observer_};
        for (int k = 0; k < 6; k++) a.in[k] = rows(n.in[k]);
        for (int k = 0; k < 2; k++) a.out[k] = rows(n.out[k]);
        add_node_steps(steps, a);
    }

    void add_matmul_group(StepList& steps, size_t first) {
        MatmulInput in = input_of(first);
        in.x = rows(node(first).in[1]);
        // Float weights read the input itself, quantized ones its int8 blocks: two steps when a
        // group has both.
        std::vector<MatmulOutput> plain, quantized;
        for (size_t i = first; i < group_end_[first]; i++) {
            const Tensor& w = graph_.value(node(i).in[0]).tensor;
            const Value bias = node(i).op == Op::linear ? node(i).in[2] : kNone;
            (is_quantized(w) ? quantized : plain)
                .push_back(
                    {packed_matrix(w), rows(node(i).out[0]), rows(bias).data, bounds(node(i))});
        }
        if (observer_) observe_group(steps, first, in);
        const MatmulScratch s = matmul_scratch(first, !quantized.empty());
        if (!plain.empty()) add_matmul_steps(steps, in, std::move(plain), false, s);
        if (!quantized.empty()) add_matmul_steps(steps, in, std::move(quantized), true, s);
    }

    MatmulScratch matmul_scratch(size_t first, bool any_quantized) const {
        uint8_t* at = scratch(first);
        if (!at) return {};
        return {reinterpret_cast<ActBlock*>(at),
                {reinterpret_cast<float*>(at + (any_quantized ? blocks_bytes(first) : 0)),
                 stride(bounded_info(first))}};
    }

    void observe_group(StepList& steps, size_t first, const MatmulInput& in) {
        std::vector<int> numbers;
        for (size_t i = first; i < group_end_[first]; i++)
            if (const int number = observer_->number_of(graph_.value(node(i).in[0]).tensor);
                number >= 0)
                numbers.push_back(number);
        if (!numbers.empty()) add_observe_step(steps, in, *observer_, std::move(numbers));
    }

    const Graph& graph_;
    const KernelTable& table_;
    ThreadPool& pool_;
    MatmulObserver* observer_;
    PlanLayout layout_;
    std::vector<size_t> group_end_;
    uint8_t* scratch_ = nullptr;
};

}  // namespace

std::unique_ptr<Plan> compile_plan(const Graph& graph, const KernelTable& table, ThreadPool& pool,
                                   std::unique_ptr<Buffer> (*allocate)(size_t, BufferKind),
                                   const CompileOptions& options) {
    return Compiler(graph, table, pool, options.observer).compile(allocate);
}

}  // namespace pillion::cpu
