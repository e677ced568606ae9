// Makes the steps of a graph.
#include "backends/cuda/cuda_plan.h"

#include <algorithm>
#include <map>

#include "backends/cuda/cuda_buffer.h"
#include "backends/cuda/cuda_runs.h"
#include "backends/cuda/kernels/attention.h"
#include "core/plan_layout.h"

namespace pillion::cuda {
namespace {

std::unique_ptr<Allocation> take_or_throw(Arena& arena, size_t bytes, const char* what) {
    return arena.take(bytes).value_or_throw(what);
}

// Two passes, as the CPU's: the first finds when each value and each op's scratch is needed and
// places them, the second makes steps that hold the final addresses.
class Compiler {
  public:
    Compiler(const Graph& graph, const DeviceInfo& device, Flash flash)
        : graph_(graph), device_(device), flash_(flash),
          layout_(graph, {kAlign, value_row_bytes, is_copied}) {}

    // The first pass: bytes of scratch.
    size_t place() {
        find_inputs();
        find_lists();
        request_scratch();
        return layout_.place();
    }

    std::unique_ptr<Plan> compile(const PlanDevice& device, CudaQueue& queue) {
        auto plan = std::make_unique<CudaPlan>(queue, graph_);
        plan_ = plan.get(), arena_ = &device.scratch, queue_ = &queue;
        plan->scratch_bytes_ = place();
        plan->scratch_ = take_or_throw(device.scratch, plan->scratch_bytes_, "scratch");
        plan->device_state_ = take_or_throw(device.scratch, plan->state_bytes(), "step state");
        plan->host_state_ = take_or_throw(device.state, plan->state_bytes(), "step state");
        give_weights();
        for (size_t i = 0; i < graph_.nodes().size(); i++) add_steps(i);
        return plan;
    }

  private:
    static constexpr size_t kAlign = 256;  // what the products want
    static constexpr int kInputKinds = 4;
    struct SharedInput {
        size_t first = 0, last = 0;  // nodes
        std::vector<DType> dtypes;   // of their weights
        PlanLayout::Slot slot[kInputKinds];
    };
    struct Lists {
        size_t first = 0, last = 0;
        PlanLayout::Slot slot = PlanLayout::kNoSlot;
    };

    const Node& node(size_t i) const { return graph_.nodes()[i]; }
    static size_t value_row_bytes(const ValueInfo& v) { return size_t(v.width) * 4; }

    // An output in the device's own memory is written where it lies.
    static bool is_copied(const ValueInfo& output) {
        return output.tensor.buffer->kind() == BufferKind::state;
    }

    // Weights that the host packed where they stay become the device's.
    void give_weights() {
        Stream& stream = *queue_->stream().value_or_throw();
        for (const Node& n : graph_.nodes())
            for (const Value v : n.in) {
                Buffer* const buffer = v != kNone ? graph_.value(v).tensor.buffer : nullptr;
                if (buffer) static_cast<DeviceBuffer*>(buffer)->give_to_device(stream);
            }
        stream.wait().value_or_throw();
    }

    // --- inputs of products: one preparation for neighbours that read the same rows ---

    static bool is_product(Op op) { return op == Op::matmul || op == Op::moe_matmul; }
    static int per_row(const Node& n) { return n.op == Op::moe_matmul ? n.params.moe.per_row : 1; }
    static bool share_input(const Node& before, const Node& n) {
        return is_product(before.op) && is_product(n.op) && before.in[1] == n.in[1] &&
               per_row(before) == per_row(n);
    }

    void find_inputs() {
        const std::vector<size_t> ends = group_ends(graph_, share_input);
        input_of_.assign(graph_.nodes().size(), -1);
        for (size_t i = 0; i < ends.size(); i = ends[i]) {
            if (!is_product(node(i).op)) continue;
            SharedInput input;
            input.first = i, input.last = ends[i] - 1;
            for (size_t j = i; j < ends[i]; j++) {
                input.dtypes.push_back(graph_.value(node(j).in[0]).tensor.dtype);
                input_of_[j] = int(inputs_.size());
            }
            inputs_.push_back(std::move(input));
        }
    }

    // --- pairs of rows and experts, sorted once per routing ---

    void find_lists() {
        for (size_t i = 0; i < graph_.nodes().size(); i++) {
            if (node(i).op != Op::moe_matmul) continue;
            const auto [at, is_new] = lists_.insert({node(i).in[2], {}});
            if (is_new) at->second.first = i;
            at->second.last = i;
        }
    }

    size_t prepared_bytes(const SharedInput& input, InputKind kind, int rows, int per,
                          int64_t width) const {
        size_t bytes = 0;
        for (const DType dtype : input.dtypes)
            for (const int bound : {std::min(rows, kDecodeTokens), rows})
                if (input_kind(dtype, bound) == kind)
                    bytes = std::max(bytes, input_bytes(kind, bound * per, width));
        return bytes;
    }

    void request_inputs() {
        for (SharedInput& input : inputs_) {
            const Node& n = node(input.first);
            const int per = per_row(n), rows = graph_.rows_max(n.rows);
            const int64_t width = graph_.value(n.in[0]).tensor.width;
            for (int kind = 0; kind < kInputKinds; kind++)
                input.slot[kind] =
                    layout_.add(prepared_bytes(input, InputKind(kind), rows, per, width),
                                input.first, input.last);
        }
    }

    void request_scratch() {
        request_inputs();
        for (auto& [ids, lists] : lists_) {
            const Node& n = node(lists.first);
            size_t bytes = 0;  // tiles grow with the rows, so fewer rows may have more of them
            for (int rows = 1; rows <= graph_.rows_max(n.rows); rows++)
                bytes = std::max(bytes, moe_lists_bytes(moe_shape(n.params.moe), rows));
            lists.slot = layout_.add(bytes, lists.first, lists.last);
        }
        for (size_t i = 0; i < graph_.nodes().size(); i++) {
            const Node& n = node(i);
            if (n.op == Op::attend) layout_.add_for(i, attend_bytes(n));
            if (n.op == Op::centroid_head) layout_.add_for(i, centroid_layout(n).bytes);
        }
    }

    bool is_plain(const Node& n) const {
        return n.op == Op::attend &&
               choose_attend(graph_, n, device_, flash_).value_or_throw() == AttendKernels::plain;
    }

    // The most that a run of few rows needs; longer ones need nothing.
    size_t attend_bytes(const Node& n) const {
        const int rows = std::min(graph_.rows_max(n.rows), kDecodeTokens);
        const AttnShape shape = attn_shape(n.params.attend, graph_.value(n.in[0]).kv, rows,
                                           is_plain(n), n.in[2] != kNone);
        return attn_plan(shape, device_.limits).scratch_floats * 4;
    }

    CentroidLayout centroid_layout(const Node& n) const {
        return centroid_scratch(n.params.centroid_head, graph_.value(n.in[2]).tensor,
                                graph_.rows_max(n.rows));
    }

    uint8_t* at(PlanLayout::Slot p) const { return layout_.at(plan_->scratch_->device(), p); }

    uint8_t* address(Value v) const {
        if (v == kNone) return nullptr;
        const ValueInfo& info = graph_.value(v);
        if (layout_.holds(v)) return plan_->scratch_->device() + layout_.value_offset(v);
        return info.kind == ValueInfo::Kind::kv ? device_of(info.kv) : device_of(info.tensor);
    }

    void add_steps(size_t i) {
        const Node& n = node(i);
        StepArgs a = {graph_,  n,  device_.limits, plan_->device_state(), {}, {},
                      nullptr, {}, is_plain(n)};
        if (n.op == Op::kv_store || n.op == Op::attend)
            a.pages = plan_->pages(graph_.value(n.in[0]).kv);
        for (int k = 0; k < 6; k++) a.in[k] = address(n.in[k]);
        for (int k = 0; k < 2; k++) a.out[k] = address(n.out[k]);
        a.scratch = at(layout_.of_node(i));
        Step step;
        if (is_product(n.op)) step = product_step(i, a);
        else if (n.op == Op::rope_table) step = make_rope_table_step(a, upload(frequencies(n)));
        else if (const MakeStep make = step_maker(n.op)) step = make(a);
        if (!step.enqueue)
            ::pillion::fail(Status::unsupported_op, "op %s has no cuda kernel", info(n.op).name);
        step.op = n.op, step.layer = n.layer;
        plan_->steps_.push_back(std::move(step));
        add_copies(i);
    }

    Step product_step(size_t i, const StepArgs& a) {
        const SharedInput& input = inputs_[size_t(input_of_[i])];
        ProductArgs p = {a, {}, {}, nullptr, false};
        p.earlier.assign(input.dtypes.begin(), input.dtypes.begin() + long(i - input.first));
        for (int kind = 0; kind < kInputKinds; kind++) p.prepared[kind] = at(input.slot[kind]);
        if (node(i).op == Op::matmul) return make_matmul_step(p);
        const Lists& lists = lists_.at(node(i).in[2]);
        p.lists = at(lists.slot);
        p.makes_lists = lists.first == i;
        return make_moe_matmul_step(p);
    }

    // Outputs that nobody reads after this node go to their buffers.
    void add_copies(size_t i) {
        for (const Value v : layout_.copies_after(i)) {
            const ValueInfo& value = graph_.value(v);
            Step step =
                make_copy_step(plan_->device_state(), value, address(v), device_of(value.tensor));
            step.op = node(i).op, step.layer = node(i).layer;
            plan_->steps_.push_back(std::move(step));
        }
    }

    // --- what is computed once, on the host ---

    std::vector<float> frequencies(const Node& n) {
        const RopeTableParams& p = n.params.rope_table;
        if (n.in[0] == kNone) return rope_frequencies(p, nullptr);
        std::vector<float> factors(size_t(p.dims / 2));
        transfer(factors.data(), device_of(graph_.value(n.in[0]).tensor), factors.size() * 4);
        return rope_frequencies(p, factors.data());
    }

    const float* upload(const std::vector<float>& values) {
        auto m = take_or_throw(*arena_, values.size() * 4, "constants");
        transfer(m->device(), values.data(), values.size() * 4);
        plan_->constants_.push_back(std::move(m));
        return reinterpret_cast<const float*>(plan_->constants_.back()->device());
    }

    void transfer(void* to, const void* from, size_t bytes) {
        Stream& stream = *queue_->stream().value_or_throw();
        stream.copy(to, from, bytes);
        stream.wait().value_or_throw();
    }

    const Graph& graph_;
    const DeviceInfo& device_;
    Flash flash_;
    Arena* arena_ = nullptr;
    CudaQueue* queue_ = nullptr;
    CudaPlan* plan_ = nullptr;
    PlanLayout layout_;
    std::vector<SharedInput> inputs_;
    std::vector<int> input_of_;
    std::map<Value, Lists> lists_;
};

}  // namespace

size_t plan_scratch(const Graph& graph, const DeviceInfo& device, Flash flash) {
    return Compiler(graph, device, flash).place();
}

std::unique_ptr<Plan> compile_plan(const Graph& graph, const PlanDevice& device, Flash flash,
                                   CudaQueue& queue) {
    return Compiler(graph, device.info, flash).compile(device, queue);
}

}  // namespace pillion::cuda
