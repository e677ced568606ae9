// Gemma 4's own drafter: no cache, no prefill, no rewind. It reads the target's last own caches
// through views and the hidden row of the last accepted position. Its buffers depend on the draft
// length alone.
#include <math.h>
#include <string.h>

#include <algorithm>

#include "core/log.h"
#include "speculative/drafter.h"

namespace pillion {
namespace {

[[noreturn]] __attribute__((format(printf, 1, 2))) void refuse(const char* format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(Status::pairing, "%s", text);
}

void check_views(const HParams& a, const Runner& target) {
    for (int l = 0; l < a.n_layers; l++) {
        const LayerParams& p = a.layers[size_t(l)];
        const char* kind = p.sliding ? "sliding" : "full";
        const KvView view = target.pool()->last_view(p.sliding);
        if (view.layer < 0)
            refuse("drafter layer %d reads a %s cache, the target has none", l, kind);
        const KvSpec& s = view.store.spec;
        if (p.head_dim != s.head_dim)
            refuse("drafter layer %d (%s) has head size %d, the target's layer %d has %d", l, kind,
                   p.head_dim, view.layer, s.head_dim);
        if (p.n_kv_heads != s.n_kv_heads)
            refuse("drafter layer %d (%s) expects %d KV heads, the target's layer %d has %d", l,
                   kind, p.n_kv_heads, view.layer, s.n_kv_heads);
    }
}

void check_pair(const Model& assistant, const Runner& target, bool strict) {
    const HParams &a = assistant.hparams(), &t = target.model().hparams();
    if (a.drafts_for != t.arch_name())
        refuse("a Gemma 4 assistant drafts for %s targets, this one is %s", a.drafts_for.c_str(),
               t.arch_name());
    if (a.n_embd_out != t.n_embd)
        refuse("the drafter is for targets of width %d, this one has %d", a.n_embd_out, t.n_embd);
    if (a.n_vocab != t.n_vocab)
        refuse("the drafter's vocabulary has %d tokens, the target's %d", a.n_vocab, t.n_vocab);
    if (a.any_sliding() && a.window != t.window)
        refuse("the drafter's window is %d, the target's %d", a.window, t.window);
    check_views(a, target);
    if (strict && !a.centroid_head_problem.empty())
        refuse("the drafter's centroid head: %s", a.centroid_head_problem.c_str());
}

class AssistantDrafter final : public Drafter {
  public:
    AssistantDrafter(std::shared_ptr<Model> assistant, Runner& target, const PairOptions& o,
                     int n_rows)
        : model_(std::move(assistant)), n_rows_(n_rows) {
        check_pair(*model_, target, o.strict);
        const HParams& hp = model_->hparams();
        Backend& backend = model_->backend();
        in_.sliding = target.pool()->last_view_on(backend, true).store;
        in_.full = target.pool()->last_view_on(backend, false).store;
        in_.embedding = embedding(target.model());
        in_.dense_head = o.dense_head || hp.centroid_head == CentroidHead::none;
        n_embd_ = hp.n_embd_out, n_vocab_ = hp.n_vocab;
        width_ = draft_scores_width(hp, in_.dense_head);
        if (in_.dense_head && hp.centroid_head != CentroidHead::none) read_token_order();
        in_.rows = n_rows, in_.keeps_scores = n_rows == 1;
        allocate();
        chain(target);
        queue_ = &target.queue_on(backend);
        options_.flash = target.options().flash;
        for (int n = 1; n <= kDraftMax; n++)
            plan(n);  // what can't run is said now, and no round pays for a compilation
    }

    const char* kind() const override { return "mtp"; }
    const char* head() const override { return in_.dense_head ? "dense" : "centroid"; }
    const char* note() const override { return model_->hparams().centroid_head_problem.c_str(); }
    const char* backend() const override { return model_->backend().name(); }
    Json plan_json() override { return plan(1).to_json(); }
    bool needs_hidden() const override { return true; }
    ContextMemory memory() const override {
        ContextMemory m;
        for (const auto& plan : plans_) m.scratch += plan->scratch_bytes();
        m.outputs = buffer_->size() + scores_->size();
        return m;
    }

    bool start(const Context& target, const DraftRequest& r) override {
        if (!chained_ || is_stepwise(r) || !can_draft(target, r)) return false;
        rows_.assign(1, {&target, &r, nullptr, 0});
        set_inputs();
        enqueue(plan(r.n));
        if (model_->backend().is_host())
            finish(plan(r.n));  // it has run: the target must not begin after a draft that was
                                // broken off
        steps_ = r.n;
        return true;
    }

    void wait() override {
        if (steps_ > 0) (void)plan(steps_).wait();  // the next call reports the device's failure
    }

    void draft(const Context& target, const DraftRequest& r,
               std::vector<int32_t>& drafts) override {
        rows_.clear();
        if (can_draft(target, r)) rows_.push_back({&target, &r, &drafts, 0});
        draft_rows();
    }

    void draft_all(const std::vector<Entry>& entries) override {
        for (size_t i = 0; i < entries.size();) {
            rows_.clear();
            for (; i < entries.size() && rows_.size() < size_t(n_rows_); i++)
                if (can_draft(*entries[i].target, *entries[i].request))
                    rows_.push_back({entries[i].target, entries[i].request, entries[i].drafts, 0});
            draft_rows();
        }
    }

    void read_step(int i, float* logits, float* hidden) const override {
        if (n_rows_ > 1)
            fail(Status::invalid_argument, "a drafter of %d sequences keeps no scores of its steps",
                 n_rows_);
        if (i < 0 || i >= steps_)
            fail(Status::invalid_argument, "step %d, the last draft had %d", i, steps_);
        if (logits) {
            std::vector<float> copy;
            std::vector<int32_t> id_copy;
            const float* scores = row_of(in_.logits, i, copy);
            const int32_t* ids = scored_ids(i, id_copy);
            std::fill(logits, logits + n_vocab_, -INFINITY);
            for (int64_t k = 0; k < width_; k++) logits[ids ? ids[k] : k] = scores[k];
        }
        if (hidden) memcpy(hidden, hidden_of(0, i), size_t(n_embd_) * 4);
    }

  private:
    // The target's own table where this device reads it; elsewhere the rows in the target's file.
    Tensor embedding(const Model& target) {
        if (target.placement().front == &model_->backend()) return target.weights().token_embd;
        shared_table_ = share_table(target.file(), "token_embd.weight", model_->backend());
        return shared_table_.tensor;
    }

    // Tables may lie where only the device sees them; the host maps scores to tokens too.
    void read_token_order() {
        const Tensor& t = model_->weights().token_order;
        token_order_.resize(size_t(n_vocab_));
        model_->backend()
            .read(*t.buffer, t.offset, token_order_.size() * 4, token_order_.data())
            .value_or_throw("token order of the drafter");
    }

    // On the target's own queue its next run can follow without a word from the host: drafts go
    // straight to where it takes its tokens.
    void chain(const Runner& target) {
        static_assert(1 + kDraftMax <= Runner::kTokenRowsMin, "drafts have their rows");
        const Placement& p = target.model().placement();
        chained_ = n_rows_ == 1 && !p.is_split() && p.front == &model_->backend();
        if (chained_) in_.tokens = target.token_slots(1, kDraftMax);
    }

    // What every round reads lies in memory that the host sees; scores stay on the device until
    // somebody wants them.
    void allocate() {
        const size_t rows = size_t(n_rows_), n = kDraftMax * rows,
                     scored = in_.keeps_scores ? n : rows;
        allocate(buffer_, BufferKind::state,
                 {{&in_.token, DType::i32, 1, rows},
                  {&in_.hidden, DType::f32, n_embd_, rows},
                  {&in_.tokens, DType::i32, 1, n},
                  {&in_.probabilities, DType::f32, 1, n},
                  {&in_.hiddens, DType::f32, n_embd_, n}});
        allocate(scores_, BufferKind::scratch,
                 {{&in_.logits, DType::f32, width_, scored},
                  {&in_.ids, DType::i32, width_, in_.dense_head ? 0 : scored}});
    }

    struct TensorRequest {
        Tensor* tensor;
        DType dtype;
        int64_t width;
        size_t rows;
    };
    void allocate(std::unique_ptr<Buffer>& buffer, BufferKind kind,
                  const std::vector<TensorRequest>& requests) {
        size_t bytes = 0;
        for (const TensorRequest& r : requests) {
            *r.tensor = {r.dtype, Layout::rows, r.width, int64_t(r.rows), 1, nullptr, bytes};
            bytes += (size_t(r.width) * r.rows * 4 + 63) / 64 * 64;
        }
        buffer = model_->backend().allocate(bytes, kind).value_or_throw("drafter");
        for (const TensorRequest& r : requests) r.tensor->buffer = buffer.get();
    }

    Plan& plan(int n_steps) {
        std::unique_ptr<Plan>& plan = plans_[n_steps - 1];
        if (!plan) {
            in_.n_steps = n_steps;
            const Graph graph = build_draft_graph(*model_, in_);
            plan = model_->backend()
                       .compile(graph, *queue_, options_)
                       .value_or_throw(model_->file().path().c_str());
        }
        return *plan;
    }

    // A sequence in the run.
    struct Row {
        const Context* target;
        const DraftRequest* request;
        std::vector<int32_t>* drafts;
        int n;             // of its drafts so far, stepwise
        int n_passed = 0;  // of the caller's drafts before them
    };

    static bool can_draft(const Context& target, const DraftRequest& r) {
        return target.length() > 0 && r.hidden;  // else there is nothing to look at
    }
    // One by one with a bound, so that no step is made for nothing, and where the host has the next
    // token: it draws it, or the caller drafted it.
    static bool is_stepwise(const DraftRequest& r) {
        return r.p_min > 0 || r.sampler || r.n_prefix > 0;
    }

    void set_inputs() {
        for (size_t i = 0; i < rows_.size(); i++)
            set_input(int(i), rows_[i].request->last, rows_[i].request->hidden);
        steps_ = 0;
    }
    void set_input(int row, int32_t token, const float* hidden) {
        reinterpret_cast<int32_t*>(in_.token.host())[row] = token;
        memcpy(reinterpret_cast<float*>(in_.hidden.host()) + row * n_embd_, hidden,
               size_t(n_embd_) * 4);
    }

    void enqueue(Plan& plan) {
        StepState state = {};
        state.rows = state.out_rows = state.n_segments = int(rows_.size());
        for (int i = 0; i < state.rows; i++) {
            const Context& target = *rows_[size_t(i)].target;
            state.segments[i] = {i, 1, target.length(), target.kv().sequence()};
        }
        plan.run(state).value_or_throw();
    }
    static void finish(Plan& plan) { plan.wait().value_or_throw(); }
    void run(Plan& plan) {
        enqueue(plan);
        finish(plan);
    }

    void draft_rows() {
        if (rows_.empty()) return;
        int n = 0;
        bool stepwise = false;
        for (const Row& r : rows_)
            n = std::max(n, r.request->n), stepwise |= is_stepwise(*r.request);
        set_inputs();
        if (stepwise) return draft_stepwise();
        run(plan(n));
        steps_ = n;
        for (size_t i = 0; i < rows_.size(); i++)
            for (int step = 0; step < rows_[i].request->n; step++)
                rows_[i].drafts->push_back(token(int(i), step));
    }

    // Rows whose draft is complete leave, and the others move up.
    void draft_stepwise() {
        while (!rows_.empty()) {
            run(plan(1));
            size_t kept = 0;
            for (size_t i = 0; i < rows_.size(); i++) {
                Row r = rows_[i];
                const bool passes = r.n_passed < r.request->n_prefix;
                if (!passes && !step_of(r, int(i))) continue;
                const int32_t next = passes ? r.request->prefix[r.n_passed++] : r.drafts->back();
                set_input(int(kept), next, hidden_of(int(i), 0));
                rows_[kept++] = r;
            }
            rows_.resize(kept);
        }
    }

    // Takes a row's draft of the step that ran. False if its draft is complete.
    bool step_of(Row& row, int i) {
        const DraftRequest& r = *row.request;
        if (reinterpret_cast<const float*>(in_.probabilities.host())[i] < r.p_min) return false;
        int32_t t = token(i, 0);
        if (r.sampler) {
            const float* scores = row_of(in_.logits, i, scores_copy_);
            r.proposals->push_back(
                r.sampler->distribution({scores, scored_ids(i, ids_copy_), int(width_)}));
            t = r.sampler->draw(r.proposals->back());
        }
        row.drafts->push_back(t);
        return ++row.n < r.n;
    }

    int32_t token(int row, int step) const {
        return reinterpret_cast<const int32_t*>(in_.tokens.host())[step * n_rows_ + row];
    }
    const float* hidden_of(int row, int step) const {
        return reinterpret_cast<const float*>(in_.hiddens.host()) +
               (int64_t(step) * n_rows_ + row) * n_embd_;
    }
    // A row where it lies, or a copy of it where the host can't look.
    template <class T>
    const T* row_of(const Tensor& t, int row, std::vector<T>& copy) const {
        if (t.buffer->host()) return reinterpret_cast<const T*>(t.host()) + int64_t(row) * t.width;
        copy.resize(size_t(t.width));
        const size_t bytes = copy.size() * sizeof(T);
        model_->backend()
            .read(*t.buffer, t.offset + size_t(row) * bytes, bytes, copy.data())
            .value_or_throw("scores of the drafter");
        return copy.data();
    }

    // Which tokens a row of scores belongs to; null: those of 0 .. width - 1.
    const int32_t* scored_ids(int row, std::vector<int32_t>& copy) const {
        if (!in_.dense_head) return row_of(in_.ids, row, copy);
        return token_order_.empty() ? nullptr : token_order_.data();
    }

    std::shared_ptr<Model> model_;
    int n_rows_;
    DraftInputs in_ = {};
    std::vector<Row> rows_;  // of the run
    SharedTable shared_table_;
    std::vector<float> scores_copy_;
    std::vector<int32_t> ids_copy_;
    std::vector<int32_t> token_order_;  // of a dense head over a table in cluster order
    std::unique_ptr<Buffer> buffer_, scores_;
    Queue* queue_ = nullptr;
    CompileOptions options_;
    std::unique_ptr<Plan> plans_[kDraftMax];
    int64_t n_embd_ = 0, n_vocab_ = 0, width_ = 0;
    bool chained_ = false;
    int steps_ = 0;  // readable steps of the last draft
};

}  // namespace

void Drafter::read_step(int, float*, float*) const {
    fail(Status::invalid_argument, "a %s drafter has no steps to read", kind());
}

void Drafter::draft_all(const std::vector<Entry>& entries) {
    for (const Entry& e : entries) draft(*e.target, *e.request, *e.drafts);
}

std::unique_ptr<Drafter> make_assistant_drafter(std::shared_ptr<Model> assistant, Runner& target,
                                                const PairOptions& options, int n_rows) {
    return std::make_unique<AssistantDrafter>(std::move(assistant), target, options, n_rows);
}

}  // namespace pillion
