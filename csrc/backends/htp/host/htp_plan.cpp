// A graph becomes records in shared memory: one array per segment of nodes that run on the same
// session. A segment ends where a weight of the next node belongs to another session; nodes without
// a home stay where the one before them was, so that a layer, its cache and what is between are on
// one session. Blocks are mapped where a record names them: borrowed caches and activations in more
// than one session.
//
// A run is synchronous: whoever starts one wants its result next, and segments follow each other
// by way of the host.
#include "backends/htp/host/htp_plan.h"

#include <string.h>

#include <algorithm>

#include "backends/htp/host/htp_tiling.h"
#include "core/error_boundary.h"
#include "core/plan_layout.h"

namespace pillion::htp {
namespace {

// A StepState, then the cancel word. The host may write the word while the DSP writes the state's
// status, so each has a cache line of its own.
constexpr size_t kCancelAt = sizeof(StepState), kStateBytes = kCancelAt + HTP_VECTOR;
static_assert(kCancelAt % HTP_VECTOR == 0, "the cancel word has a cache line of its own");

struct Segment {
    int session = 0;
    size_t first = 0, end = 0;  // nodes
    size_t at = 0;              // of its htp_plan in the plan's memory
    Program program;
    std::vector<MemoryRange> ranges;  // what the host may have written before a run of it
    // Caches are the DSP's own but for Backend::write: after one they count too, once.
    std::vector<MemoryRange> caches;
    std::vector<const Chunk*> cache_chunks;
    uint32_t writes_seen = 0;

    uint32_t host_writes() const {
        uint32_t n = 0;
        for (const Chunk* c : cache_chunks) n += c->host_writes;
        return n;
    }
};

// Neighbours become one: a packet takes few.
std::vector<MemoryRange> joined(std::vector<MemoryRange> ranges) {
    constexpr uint32_t kGap = 4096;
    std::sort(ranges.begin(), ranges.end(), [](const MemoryRange& a, const MemoryRange& b) {
        return std::pair(a.memory, a.offset) < std::pair(b.memory, b.offset);
    });
    std::vector<MemoryRange> out;
    for (const MemoryRange& r : ranges) {
        MemoryRange* last = out.empty() ? nullptr : &out.back();
        const bool meets =
            last && last->memory == r.memory && r.offset <= last->offset + last->bytes + kGap;
        if (meets) last->bytes = std::max(last->bytes, r.offset + r.bytes - last->offset);
        else out.push_back(r);
    }
    return out;
}

class HtpPlan final : public Plan {
  public:
    HtpPlan(const Dsp& dsp, HtpQueue& queue, const Graph& graph)
        : dsp_(dsp), queue_(queue), limits_(graph) {}
    ~HtpPlan() override {
        for (const Segment& s : segments_)
            if (s.program.prepared) dsp_.sessions.at(s.session).remove(s.program);
    }

    Result<void> run(const StepState& state) override {
        return to_result([&] { return run_segments(state); });
    }

    Result<void> wait() override {
        if (!is_cancelled_) return ok();
        return Failure(Status::cancelled, "cancelled");
    }

    size_t scratch_bytes() const override { return scratch_->bytes(); }
    std::vector<StepInfo> steps() const override {
        std::vector<StepInfo> all;
        for (const Segment& s : segments_)
            for (size_t i = s.first; i < s.end; i++)
                all.push_back({ops_[i].first, ops_[i].second, "htp", kernels_[i], s.session});
        return all;
    }

    // "op embed of layer -1 (node 0) failed on device htp: token id outside the table (operand 1,
    // value 10, limit 10)"
    Failure refused(const Segment& s, const htp_answer& a) const {
        char where[96] = "the plan";
        const size_t node = s.first + size_t(std::max(0, a.op));
        if (a.op >= 0 && node < s.end)
            snprintf(where, sizeof where, "op %s of layer %d (node %zu)",
                     info(ops_[node].first).name, ops_[node].second, node);
        const char* what = a.status == HTP_REFUSED    ? "was refused by"
                           : a.status == HTP_INJECTED ? "was made to fail on"
                                                      : "failed on";
        char detail[96] = "";
        if (a.operand >= 0 || a.value || a.limit)
            snprintf(detail, sizeof detail, " (operand %d, value %u, limit %u)", a.operand, a.value,
                     a.limit);
        return Failure(code_of(a), "%s %s device %s: %s%s", where, what, dsp_.device,
                       htp_why_text(a.why), detail);
    }

    static Status code_of(const htp_answer& a) {
        if (a.why == HTP_WHY_TOKEN) return Status::invalid_argument;
        if (a.why == HTP_WHY_MEMORY || a.why == HTP_WHY_MAP) return Status::out_of_memory;
        return a.status == HTP_REFUSED ? Status::internal : Status::device_lost;
    }

    Dsp dsp_;
    HtpQueue& queue_;
    RunLimits limits_;
    // state, cancel word, constants, plans
    std::unique_ptr<Allocation> records_;
    std::unique_ptr<Allocation> scratch_;
    std::vector<Segment> segments_;
    std::vector<std::pair<Op, int>> ops_;  // and layers, by node
    std::vector<std::string> kernels_;

  private:
    Result<void> run_segments(const StepState& state) {
        if (const Result<void> fits = limits_.check(state); !fits) return fits;
        is_cancelled_ = queue_.cancel.load();
        if (is_cancelled_) return ok();  // wait() says so
        memcpy(records_->host(), &state, sizeof state);
        auto* word = reinterpret_cast<uint32_t*>(records_->host() + kCancelAt);
        *word = 0;
        for (Segment& s : segments_) {
            const uint32_t writes = s.host_writes();
            std::vector<MemoryRange> with_caches;
            if (writes != s.writes_seen) {
                with_caches = s.caches;
                with_caches.insert(with_caches.end(), s.ranges.begin(), s.ranges.end());
                with_caches = joined(std::move(with_caches));
            }
            const Result<htp_answer> answer = dsp_.sessions.at(s.session).run(
                s.program, records_->address(), records_->address(kCancelAt),
                {&queue_.cancel, word, with_caches.empty() ? &s.ranges : &with_caches});
            if (!answer) return answer.failure().of("device %s", dsp_.device);
            s.writes_seen = writes;
            if (answer->status == HTP_CANCELLED) return is_cancelled_ = true, ok();
            if (answer->status != HTP_OK) return refused(s, *answer);
        }
        return ok();
    }

    bool is_cancelled_ = false;
};

class Compiler {
  public:
    Compiler(const Graph& graph, const Dsp& dsp, HtpQueue* queue)
        : graph_(graph), dsp_(dsp), queue_(queue), ops_(graph.nodes().size()),
          layout_(graph, {HTP_VECTOR, value_row_bytes}) {
        hardware_ = dsp_.sessions.at(0).info().value_or_throw();
    }

    // From shapes alone.
    size_t measure() {
        for (size_t i = 0; i < ops_.size(); i++) describe(i);
        return layout_.place();
    }

    std::unique_ptr<Plan> compile() {
        auto plan = std::make_unique<HtpPlan>(dsp_, *queue_, graph_);
        plan_ = plan.get();
        cut();
        share_hardware();
        for (size_t i = 0; i < ops_.size(); i++) {
            describe(i);
            if (node(i).op == Op::rope_table) add_frequencies(i);
            plan_->kernels_.push_back(kernel_name(ops_[i]));
        }
        place();
        for (size_t i = 0; i < ops_.size(); i++) address(i);
        write();
        return plan;
    }

  private:
    const Node& node(size_t i) const { return graph_.nodes()[i]; }

    // --- sessions ---

    // That of the node's largest weight.
    int home(const Node& n) const {
        int session = -1;
        int64_t most = 0;
        for (Value v : n.in) {
            if (v == kNone || graph_.value(v).kind != ValueInfo::Kind::weight) continue;
            const Tensor& t = graph_.value(v).tensor;
            const HtpBuffer::Location p = static_cast<const HtpBuffer*>(t.buffer)->at(t.offset);
            const int64_t size = t.width * t.rows * t.depth;
            if (p.session >= 0 && size > most) session = p.session, most = size;
        }
        return session;
    }

    void cut() {
        auto& list = plan_->segments_;
        std::vector<int> homes;
        for (size_t i = 0; i < graph_.nodes().size(); i++) homes.push_back(home(node(i)));
        const auto known = std::find_if(homes.begin(), homes.end(), [](int h) { return h >= 0; });
        int session = known == homes.end() ? 0 : *known;
        for (size_t i = 0; i < homes.size(); i++) {
            if (homes[i] >= 0) session = homes[i];
            if (list.empty() || list.back().session != session)
                list.push_back({session, i, i, 0, {}, {}});
            list.back().end = i + 1;
            plan_->ops_.emplace_back(node(i).op, node(i).layer);
        }
    }

    // One tiling for all: what the session with the least fast memory has.
    void share_hardware() {
        for (const Segment& s : plan_->segments_) {
            const Result<htp_info> other = dsp_.sessions.at(s.session).info();
            if (!other) raise(other.failure());
            hardware_.vtcm_bytes = std::min(hardware_.vtcm_bytes, other->vtcm_bytes);
        }
    }

    // --- memory ---

    static uint32_t stride(const ValueInfo& v) {
        const int64_t bytes = v.width * 4;
        return uint32_t(v.kind == ValueInfo::Kind::external
                            ? bytes
                            : (bytes + HTP_VECTOR - 1) / HTP_VECTOR * HTP_VECTOR);
    }

    static size_t value_row_bytes(const ValueInfo& v) { return stride(v); }

    bool is_cache(Value v) const {
        return v != kNone && graph_.value(v).kind == ValueInfo::Kind::kv;
    }

    htp_tensor operand(Value v) const {
        htp_tensor t = {};
        if (v == kNone) return t;
        const ValueInfo& info = graph_.value(v);
        t.counts = uint8_t(info.rows);
        if (info.kind == ValueInfo::Kind::kv) {
            const KvSpec& s = info.kv.spec;
            t.dtype = s.type == KvType::q8_0 ? DType_q8_0 : DType_f16, t.layout = HTP_KV;
            t.width = uint32_t(s.head_dim), t.rows = uint32_t(s.page_slots()),
            t.depth = uint32_t(s.n_kv_heads);
            return t;
        }
        t.dtype =
            uint8_t(info.kind == ValueInfo::Kind::activation ? info.dtype : info.tensor.dtype);
        t.layout = HTP_ROWS;
        t.width = uint32_t(info.width);
        t.depth = 1;
        if (info.kind == ValueInfo::Kind::weight) {
            const Tensor& w = info.tensor;
            t.rows = uint32_t(w.rows), t.depth = uint32_t(w.depth);
            t.stride = uint32_t(row_bytes(w.dtype, w.width));
            if (w.layout == Layout::packed)
                t.layout = HTP_PACKED,
                t.stride = uint32_t(htp_panel_bytes(uint32_t(w.dtype), t.width));
            return t;
        }
        t.stride = stride(info);
        t.rows = uint32_t(graph_.rows_max(info.rows));
        return t;
    }

    htp_pages pages_of(Value v) const {
        const KvStore& store = graph_.value(v).kv;
        const KvTable& t = store.table;
        htp_pages p = {};
        if (!t.buffer) return p;
        p.stride = uint32_t(t.stride), p.entries = uint32_t(t.entries);
        p.sequences = uint32_t(sequences(t)), p.n_pages = uint32_t(store.spec.n_pages());
        return p;
    }

    void describe(size_t i) {
        const Node& n = node(i);
        htp_op& op = ops_[i];
        op.code = uint16_t(n.op), op.rows = uint8_t(n.rows), op.layer = n.layer;
        memcpy(&op.params, &n.params, sizeof op.params);
        for (int k = 0; k < HTP_IN; k++) op.in[k] = operand(n.in[k]);
        for (int k = 0; k < HTP_OUT; k++) op.out[k] = operand(n.out[k]);
        if (is_cache(n.in[0])) op.pages = pages_of(n.in[0]);
        if (n.op == Op::gather_rows)
            op.in[0].dtype = op.out[0].dtype = DType_f32;  // it copies words, whatever they are
        if (n.op == Op::centroid_head)
            op.in[3].rows = 1, op.in[3].counts = Rows_fixed;  // one order for all rows
        for (const auto& [code, k] : {std::pair(Op::argmax, 1),
                                      {Op::attend, 2},
                                      {Op::moe_matmul, 2},
                                      {Op::centroid_head, 3}})  // ids, also after a gather
            if (n.op == code && op.in[k].layout != HTP_ABSENT) op.in[k].dtype = DType_i32;
        if (n.op == Op::rope_table) {
            const uint32_t half = uint32_t(n.params.rope_table.dims / 2);
            op.in[0] = {0, DType_f32, HTP_ROWS, 0, half * 4, half, 1, 1, Rows_fixed, 0};
        }
        const uint64_t bytes =
            tile(op, uint32_t(graph_.rows_max(n.rows)), uint32_t(graph_.rows_max()), hardware_);
        layout_.add_for(i, bytes);
        op.tiling.scratch_bytes = uint32_t(bytes);
    }

    std::string kernel_name(const htp_op& op) const {
        std::string name = info(Op(op.code)).name;
        const htp_tensor& t = op.in[op.code == Op_centroid_head ? 2 : 0];
        if (t.layout == HTP_PACKED || t.layout == HTP_KV || op.code == Op_embed) {
            std::string type = ::pillion::info(DType(t.dtype)).name;
            std::transform(type.begin(), type.end(), type.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
            name += "_" + type;
        }
        return name;
    }

    void add_frequencies(size_t i) {
        const std::vector<float> f = frequencies(node(i));
        constant_at_.emplace_back(i, constants_.size());
        constants_.insert(constants_.end(), f.begin(), f.end());
        constants_.resize((constants_.size() + 31) / 32 * 32);
    }

    std::vector<float> frequencies(const Node& n) const {
        const float* factors = nullptr;
        if (n.in[0] != kNone) {
            const Tensor& t = graph_.value(n.in[0]).tensor;
            factors = reinterpret_cast<const float*>(
                static_cast<const HtpBuffer*>(t.buffer)->at(t.offset).host());
        }
        return rope_frequencies(n.params.rope_table, factors);
    }

    // The plan's memory: state and cancel word, constants, then each segment's records.
    void place() {
        size_t bytes = kStateBytes + HTP_VECTOR + constants_.size() * 4;
        for (Segment& s : plan_->segments_) {
            s.at = bytes = (bytes + HTP_VECTOR - 1) / HTP_VECTOR * HTP_VECTOR;
            bytes += sizeof(htp_plan) + (s.end - s.first) * sizeof(htp_op);
        }
        plan_->scratch_ = dsp_.arena.allocate(layout_.place()).value_or_throw("scratch");
        plan_->records_ = dsp_.arena.allocate(bytes).value_or_throw("plan");
        std::copy(constants_.begin(), constants_.end(),
                  reinterpret_cast<float*>(plan_->records_->host() + constants_offset()));
    }
    static size_t constants_offset() {
        return (kStateBytes + HTP_VECTOR - 1) / HTP_VECTOR * HTP_VECTOR;
    }

    void set_location(htp_tensor& t, Value v) {
        if (v == kNone) return;
        const ValueInfo& info = graph_.value(v);
        if (info.kind == ValueInfo::Kind::activation) {
            const htp_address a = plan_->scratch_->address(layout_.value_offset(v));
            t.buffer = a.buffer, t.offset = a.offset;
            uses_.push_back(&plan_->scratch_->chunk());
            return;
        }
        const bool is_kv = info.kind == ValueInfo::Kind::kv;
        const HtpBuffer::Location p =
            is_kv ? static_cast<const HtpBuffer*>(info.kv.buffer)->at(info.kv.offset)
                  : static_cast<const HtpBuffer*>(info.tensor.buffer)->at(info.tensor.offset);
        if (!p.chunk) fail(Status::internal, "an operand of op %s has no memory", info.name);
        t.buffer = uint16_t(p.chunk->index), t.offset = uint32_t(p.offset);
        uses_.push_back(p.chunk);
        if (is_kv)
            caches_.push_back({p.chunk->memory.get(), t.offset, cache_bytes(info.kv.spec)}),
                cache_chunks_.push_back(p.chunk);
        if (info.kind == ValueInfo::Kind::external)
            ranges_.push_back({p.chunk->memory.get(), t.offset, t.stride * t.rows});
    }

    // The host writes tables between runs, so they are among what a run hands over.
    void set_table(htp_pages& p, const KvTable& t) {
        if (!t.buffer) return;
        const HtpBuffer::Location at = static_cast<const HtpBuffer*>(t.buffer)->at(t.offset);
        if (!at.chunk) fail(Status::internal, "a page table has no memory");
        p.buffer = uint16_t(at.chunk->index), p.offset = uint32_t(at.offset);
        uses_.push_back(at.chunk);
        ranges_.push_back({at.chunk->memory.get(), p.offset, uint32_t(htp_table_bytes(&p))});
    }

    static uint32_t cache_bytes(const KvSpec& s) {
        return uint32_t(kv_head_bytes(s.type, uint32_t(s.head_dim), uint32_t(s.page_slots())) *
                        uint64_t(s.n_kv_heads) * uint64_t(s.n_pages()));
    }

    // The record's addresses, and the chunks its session must see.
    void address(size_t i) {
        const Node& n = node(i);
        htp_op& op = ops_[i];
        uses_.clear(), ranges_.clear(), caches_.clear(), cache_chunks_.clear();
        for (int k = 0; k < HTP_IN; k++)
            if (n.op != Op::rope_table) set_location(op.in[k], n.in[k]);
        for (int k = 0; k < HTP_OUT; k++) set_location(op.out[k], n.out[k]);
        if (is_cache(n.in[0])) set_table(op.pages, graph_.value(n.in[0]).kv.table);
        for (const auto& [at, offset] : constant_at_)
            if (at == i) {
                const htp_address a = plan_->records_->address(constants_offset() + offset * 4);
                op.in[0].buffer = a.buffer, op.in[0].offset = a.offset;
            }
        uses_.push_back(&plan_->records_->chunk());
        op.tiling.scratch_buffer = HTP_NOWHERE;
        if (const auto slot = layout_.of_node(i); slot != PlanLayout::kNoSlot) {
            const htp_address a = plan_->scratch_->address(layout_.slot_offset(slot));
            op.tiling.scratch_buffer = a.buffer, op.tiling.scratch_offset = a.offset;
            uses_.push_back(&plan_->scratch_->chunk());
        }
        Segment& segment = *std::find_if(plan_->segments_.begin(), plan_->segments_.end(),
                                         [&](const Segment& s) { return i < s.end; });
        Session& session = dsp_.sessions.at(segment.session);
        for (const Chunk* c : uses_)
            if (const Result<void> used = session.use(*c); !used) raise(used.failure());
        segment.ranges.insert(segment.ranges.end(), ranges_.begin(), ranges_.end());
        segment.caches.insert(segment.caches.end(), caches_.begin(), caches_.end());
        for (const Chunk* c : cache_chunks_)
            if (std::find(segment.cache_chunks.begin(), segment.cache_chunks.end(), c) ==
                segment.cache_chunks.end())
                segment.cache_chunks.push_back(c);
    }

    void write() {
        for (Segment& s : plan_->segments_) {
            uint8_t* to = plan_->records_->host() + s.at;
            htp_plan head = {};
            head.magic = HTP_PLAN_MAGIC, head.version = HTP_WIRE_VERSION,
            head.op_bytes = sizeof(htp_op);
            head.n_ops = uint32_t(s.end - s.first);
            head.rows_max = uint32_t(graph_.rows_max()),
            head.out_rows_max = uint32_t(graph_.out_rows_max());
            memcpy(to, &head, sizeof head);
            memcpy(to + sizeof head, &ops_[s.first], (s.end - s.first) * sizeof(htp_op));
            s.program.at = plan_->records_->address(s.at);
            s.ranges.push_back({plan_->records_->chunk().memory.get(),
                                uint32_t(plan_->records_->offset()), uint32_t(kStateBytes)});
            s.ranges = joined(std::move(s.ranges)), s.caches = joined(std::move(s.caches));
            const Result<htp_answer> answer = dsp_.sessions.at(s.session).add(s.program);
            if (!answer) raise(answer.failure());
            if (answer->status == HTP_OK) continue;
            const Failure refused = plan_->refused(s, *answer);
            const bool is_about_op = answer->why == HTP_WHY_DTYPE || answer->why == HTP_WHY_SHAPE ||
                                     answer->why == HTP_WHY_PARAMS;
            if (refused.code() == Status::internal && is_about_op)
                refused.as(Status::unsupported_op).raise();
            refused.raise();
        }
    }

    [[noreturn]] void raise(const Failure& failure) const {
        failure.of("device %s", dsp_.device).raise();
    }

    const Graph& graph_;
    Dsp dsp_;
    HtpQueue* queue_;
    HtpPlan* plan_ = nullptr;
    htp_info hardware_ = {};
    std::vector<htp_op> ops_;
    std::vector<float> constants_;
    std::vector<std::pair<size_t, size_t>> constant_at_;  // node, index into constants_
    PlanLayout layout_;
    std::vector<const Chunk*> uses_;  // of the node at hand
    std::vector<MemoryRange> ranges_, caches_;
    std::vector<const Chunk*> cache_chunks_;
};

}  // namespace

std::unique_ptr<Plan> compile_plan(const Graph& graph, const Dsp& dsp, HtpQueue& queue) {
    return Compiler(graph, dsp, &queue).compile();
}

size_t plan_scratch(const Graph& graph, const Dsp& dsp) {
    return Compiler(graph, dsp, nullptr).measure();
}

}  // namespace pillion::htp
