// Graph -> steps. Two passes: the first finds when each value and each op's scratch is needed and
// places them, the second makes steps that hold the final addresses.
#include "backends/cpu/cpu_plan.h"

#include <algorithm>

#include "backends/cpu/cpu_steps.h"
#include "core/error.h"
#include "core/memory_plan.h"

namespace pillion::cpu {
namespace {

class CpuPlan final : public Plan {
  public:
    CpuPlan(ThreadPool& pool, int rows_max, int out_rows_max)
        : pool_(pool), rows_max_(rows_max), out_rows_max_(out_rows_max) {}

    Status run(const StepState& state, Reason& reason) override {
        if (state.rows < 1 || state.rows > rows_max_ || state.out_rows < 0 ||
            state.out_rows > state.rows || state.out_rows > out_rows_max_) {
            reason.set("plan for %d rows and %d outputs was given %d and %d", rows_max_,
                       out_rows_max_, state.rows, state.out_rows);
            return Status::internal;
        }
        finished_ = pool_.run(raw_.data(), int(raw_.size()),
                              RunInfo{state.pos, state.rows, state.out_rows});
        return Status::ok;
    }
    Status wait(Reason& reason) override {
        if (finished_) return Status::ok;
        reason.set("cancelled");
        return Status::cancelled;
    }
    size_t scratch_bytes() const override { return scratch_ ? scratch_->size() : 0; }
    std::string to_json() const override {
        std::string out = "[";
        for (const auto& s : steps_) {
            char line[160];
            const char* op = s->op() == Op::count ? "" : info(s->op()).name;
            snprintf(line, sizeof line,
                     "%s{\"op\": \"%s\", \"layer\": %d, \"backend\": \"cpu\", \"kernel\": \"%s\"}",
                     out.size() > 1 ? ", " : "", op, s->layer(), s->kernel());
            out += line;
        }
        return out + "]";
    }

    StepList steps_;
    std::vector<const CpuStep*> raw_;
    std::unique_ptr<Buffer> scratch_;

  private:
    ThreadPool& pool_;
    int rows_max_, out_rows_max_;
    bool finished_ = true;
};

class Compiler {
  public:
    Compiler(const Graph& graph, const KernelTable& table, ThreadPool& pool,
             MatmulObserver* observer)
        : graph_(graph), table_(table), pool_(pool), observer_(observer),
          requests_(graph.values().size()) {}

    std::unique_ptr<Plan> compile(std::unique_ptr<Buffer> (*allocate)(size_t, BufferKind)) {
        find_groups();
        find_lifetimes();
        request_scratch();
        auto plan = std::make_unique<CpuPlan>(pool_, graph_.rows_max(), graph_.out_rows_max());
        plan->scratch_ =
            allocate(std::max<size_t>(plan_memory(requests_), 64), BufferKind::scratch);
        scratch_ = plan->scratch_->host();
        for (size_t i = 0; i < graph_.nodes().size(); i = next_) add_steps(plan->steps_, i);
        for (const auto& s : plan->steps_) plan->raw_.push_back(s.get());
        return plan;
    }

  private:
    const Node& node(size_t i) const { return graph_.nodes()[i]; }

    // Consecutive matmuls of one input form a group; group_end_[first] is one past its last node.
    void find_groups() {
        group_end_.resize(graph_.nodes().size());
        for (size_t i = 0; i < graph_.nodes().size(); i++) {
            size_t end = i + 1;
            if (node(i).op == Op::matmul)
                while (end < graph_.nodes().size() && node(end).op == Op::matmul &&
                       node(end).in[1] == node(i).in[1])
                    end++;
            group_end_[i] = end;
        }
    }

    void find_lifetimes() {
        const auto use = [&](Value v, int at) {
            if (v == kNone || graph_.value(v).kind != ValueInfo::Kind::activation) return;
            MemoryRequest& r = requests_[size_t(v)];
            const ValueInfo& info = graph_.value(v);
            r.bytes = size_t(stride(info)) * 4 * size_t(graph_.rows_max(info.rows));
            r.first = r.first < 0 ? at : std::min(r.first, at);
            r.last = std::max(r.last, at);
        };
        for (size_t i = 0; i < graph_.nodes().size(); i++) {
            for (Value v : node(i).in) use(v, int(i));
            for (Value v : node(i).out) use(v, int(i));
        }
        // A group runs as one step, which writes all of its outputs, be they read or not.
        for (size_t i = 0; i < graph_.nodes().size(); i = group_end_[i])
            for (size_t j = i; j < group_end_[i]; j++)
                use(node(j).out[0], int(i)), use(node(j).out[0], int(group_end_[i]) - 1);
    }

    // Rows are a whole number of cache lines apart, and not a multiple of 4 KB, or the columns of a
    // tile would meet in a few sets of the first cache (prototypes/lane-pack, README).
    static int64_t stride(const ValueInfo& v) {
        if (v.kind == ValueInfo::Kind::external) return v.width;
        const int64_t lines = (v.width + 15) / 16 * 16;
        return lines % 1024 == 0 && lines > 0 ? lines + 32 : lines;
    }

    size_t add_request(size_t bytes, size_t first, size_t last) {
        MemoryRequest r;
        r.bytes = bytes, r.first = int(first), r.last = int(last);
        requests_.push_back(r);
        return requests_.size() - 1;
    }

    static bool is_quantized(const Tensor& t) { return !is_float(format_of(t.dtype)); }

    void request_scratch() {
        scratch_of_.assign(graph_.nodes().size(), size_t(-1));
        for (size_t i = 0; i < graph_.nodes().size(); i++) {
            const Node& n = node(i);
            const int rows = graph_.rows_max(n.rows);
            size_t bytes = 0, last = i;
            if (n.op == Op::matmul) {
                last = group_end_[i] - 1;
                for (size_t j = i; j <= last; j++)
                    if (is_quantized(graph_.value(node(j).in[0]).tensor))
                        bytes = act_bytes(int(graph_.value(n.in[1]).width), rows);
            } else if (n.op == Op::attend) {
                bytes = attend_layout(n.params.attend, graph_.value(n.in[0]).kv.spec, rows,
                                      pool_.n_threads())
                            .bytes;
            } else if (n.op == Op::centroid_head) {
                bytes = centroid_scratch(packed_matrix(graph_.value(n.in[2]).tensor),
                                         n.params.centroid_head, rows, pool_.n_threads())
                            .bytes;
            } else if (n.op == Op::moe_matmul) {
                bytes = moe_scratch(packed_matrix(graph_.value(n.in[0]).tensor), n.params.moe, rows)
                            .bytes;
            } else {
                bytes = row_step_worker_bytes(graph_, n) * size_t(pool_.n_threads());
            }
            PILLION_CHECK(bytes == 0 || info(n.op).uses_scratch);
            if (bytes) scratch_of_[i] = add_request(bytes, i, last);
            if (n.op == Op::matmul) i = last;
        }
    }

    uint8_t* scratch(size_t i) const {
        return scratch_of_[i] == size_t(-1) ? nullptr : scratch_ + requests_[scratch_of_[i]].offset;
    }

    RowView rows(Value v) const {
        if (v == kNone) return {};
        const ValueInfo& info = graph_.value(v);
        switch (info.kind) {
            case ValueInfo::Kind::activation:
                return {reinterpret_cast<float*>(scratch_ + requests_[size_t(v)].offset),
                        stride(info)};
            case ValueInfo::Kind::kv: return {};
            default: return {reinterpret_cast<float*>(info.tensor.host()), info.width};
        }
    }

    void add_steps(StepList& steps, size_t i) {
        const Node& n = node(i);
        next_ = i + 1;
        switch (n.op) {
            case Op::matmul: return add_matmul_group(steps, i);
            case Op::attend: {
                const KvStore& store = graph_.value(n.in[0]).kv;
                const AttendLayout layout =
                    attend_layout(n.params.attend, store.spec, graph_.rows_max(n.rows),
                                  pool_.n_threads());
                return add_attend_steps(steps, table_, n.layer, n.rows, n.params.attend, store,
                                        rows(n.in[1]), rows(n.out[0]), layout, scratch(i),
                                        pool_.n_threads());
            }
            case Op::centroid_head: {
                const Tensor& table = graph_.value(n.in[2]).tensor;
                const CentroidScratch layout =
                    centroid_scratch(packed_matrix(table), n.params.centroid_head,
                                     graph_.rows_max(n.rows), pool_.n_threads());
                return add_centroid_head_steps(steps, table_, n, table,
                                               reinterpret_cast<const int32_t*>(rows(n.in[3]).data),
                                               rows(n.in[0]), rows(n.in[1]), rows(n.out[0]),
                                               rows(n.out[1]), layout, scratch(i),
                                               pool_.n_threads());
            }
            case Op::moe_matmul: {
                const Tensor& w = graph_.value(n.in[0]).tensor;
                const RowView ids = rows(n.in[2]);
                return add_moe_matmul_steps(
                    steps, table_, n.layer, n.rows, n.params.moe, w, rows(n.in[1]),
                    reinterpret_cast<const int32_t*>(ids.data), ids.stride, rows(n.out[0]),
                    moe_scratch(packed_matrix(w), n.params.moe, graph_.rows_max(n.rows)),
                    scratch(i), pool_.n_threads(), observer_);
            }
            default: {
                RowStepArgs a = {table_, graph_, n, {}, {}, scratch(i), pool_.n_threads()};
                for (int k = 0; k < 6; k++) a.in[k] = rows(n.in[k]);
                for (int k = 0; k < 2; k++) a.out[k] = rows(n.out[k]);
                auto step = make_row_step(a);
                if (!step) fail(Status::unsupported_op, "op %s has no cpu kernel", info(n.op).name);
                steps.push_back(std::move(step));
            }
        }
    }

    void add_matmul_group(StepList& steps, size_t i) {
        const Node& n = node(i);
        next_ = group_end_[i];
        const int inputs = int(graph_.value(n.in[1]).width);
        // Float weights read the input itself, quantised ones its int8 blocks: two steps when a
        // group has both.
        std::vector<MatmulOutput> plain, quantized;
        for (size_t j = i; j < next_; j++) {
            const Tensor& w = graph_.value(node(j).in[0]).tensor;
            (is_quantized(w) ? quantized : plain)
                .push_back({packed_matrix(w), rows(node(j).out[0])});
        }
        const RowView x = rows(n.in[1]);
        const int threads = pool_.n_threads();
        if (observer_) observe_group(steps, i, x, inputs);
        if (!plain.empty())
            add_matmul_steps(steps, table_, n.layer, n.rows, x, inputs, std::move(plain), nullptr,
                             threads);
        if (!quantized.empty())
            add_matmul_steps(steps, table_, n.layer, n.rows, x, inputs, std::move(quantized),
                             reinterpret_cast<ActBlock*>(scratch(i)), threads);
    }

    void observe_group(StepList& steps, size_t i, RowView x, int inputs) {
        std::vector<int> numbers;
        for (size_t j = i; j < group_end_[i]; j++)
            if (const int number = observer_->number_of(graph_.value(node(j).in[0]).tensor);
                number >= 0)
                numbers.push_back(number);
        if (!numbers.empty())
            add_observe_step(steps, node(i).layer, node(i).rows, x, inputs, *observer_,
                             std::move(numbers));
    }

    const Graph& graph_;
    const KernelTable& table_;
    ThreadPool& pool_;
    MatmulObserver* observer_;
    std::vector<MemoryRequest> requests_;  // values first, then scratch of ops
    std::vector<size_t> scratch_of_, group_end_;
    uint8_t* scratch_ = nullptr;
    size_t next_ = 0;
};

}  // namespace

std::unique_ptr<Plan> compile_plan(const Graph& graph, const KernelTable& table, ThreadPool& pool,
                                   std::unique_ptr<Buffer> (*allocate)(size_t, BufferKind),
                                   const CompileOptions& options) {
    return Compiler(graph, table, pool, options.observer).compile(allocate);
}

}  // namespace pillion::cpu
