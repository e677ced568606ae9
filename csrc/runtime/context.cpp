#include "runtime/context.h"

#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

// Rings have room for so many rows beside the window, however short runs are: a text that leaves
// the prompt a few tokens before its end (a chat template's beginning of an answer) still finds the
// window there.
constexpr int kRewindRows = 128;
// A run of more with outputs is a prompt: verifications and single tokens are shorter.
constexpr size_t kPromptRows = 16;

}  // namespace

Context::Context(std::shared_ptr<Model> model, const ContextOptions& o)
    : model_(std::move(model)), options_(checked_options(*model_, o)),
      kv_(model_->hparams(), model_->placement(), o.kv_type, n_ctx(),
          std::max(n_batch(), kRewindRows), o.swa_full, o.n_snapshots),
      queues_(options_.n_threads), places_(make_places()),
      token_buffer_(allocate(*model_->placement().front, BufferKind::state,
                             size_t(std::max(n_batch(), kTokenRowsMin)) * 4, "token buffer")),
      outputs_(*model_, options_.n_outputs),
      activations_(o.collect_activations ? std::make_unique<ActivationStats>(model_->weights())
                                         : nullptr),
      plans_(*model_, places_, graph_inputs(n_batch(), outputs_), compile_options()) {
    plans_.get(1);  // what can't run is said now, not at the first token
}

GraphInputs Context::graph_inputs(int rows_max, const Outputs& outputs) const {
    GraphInputs in = {};
    in.rows_max = rows_max, in.out_rows_max = outputs.rows_max();
    in.kv = kv_.places();
    in.tokens = {DType::i32, Layout::rows, 1, rows_max, 1, token_buffer_.get(), 0};
    outputs.connect(in);
    return in;
}

// By Part. Without a split front and back are the same.
std::vector<PartPlace> Context::make_places() {
    const Placement& p = model_->placement();
    return {{p.front, &queue_on(*p.front)}, {p.back, &queue_on(*p.back)}, {nullptr, nullptr}};
}

CompileOptions Context::compile_options() const {
    CompileOptions options;
    options.observer = activations_.get();
    options.flash = options_.flash;
    return options;
}

void Context::replica_on(Backend& backend) {
    if (kv_.has_replicas_on(backend)) return;
    kv_.add_replicas(backend);
    if (!kv_.has_replicas_on(backend)) return;  // it reads what there is
    try {
        places_[Part::drafter] = {&backend, &queue_on(backend)};
        plans_.set_kv(kv_.places());
        plans_.get(1);
    } catch (...) {         // the context goes on as it was
        plans_.set_kv({});  // plans go before what they write
        kv_.drop_replicas();
        plans_.set_kv(kv_.places());
        places_[Part::drafter] = {};
        throw;
    }
    if (length() == 0) return;
    const std::vector<int32_t> held = tokens_;
    const int outputs = std::max(1, outputs_.rows());
    go_back(0);
    eval(held.data(), held.size(), outputs);
}

void Context::check_tokens(const int32_t* tokens, size_t n) const {
    const int n_vocab = model_->hparams().n_vocab;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            fail(Status::invalid_argument, "token %zu is %d, the vocabulary has ids 0 to %d", i,
                 tokens[i], n_vocab - 1);
}

void Context::check_fits(size_t n) const {
    if (n > size_t(n_ctx()))
        fail(Status::context_full, "%zu tokens do not fit n_ctx %d", n, n_ctx());
}

// One run of up to n_batch rows.
void Context::run(const int32_t* tokens, int rows, int out_rows, PlanCache& plans) {
    memcpy(token_buffer_->host(), tokens, size_t(rows) * 4);
    start_and_wait(rows, out_rows, plans);
    kv_.end_write(rows);
    tokens_.insert(tokens_.end(), tokens, tokens + rows);
}

// The tokens lie in their buffer, or will when the queue comes to this run.
void Context::start_and_wait(int rows, int out_rows, PlanCache& plans) {
    StepState state = {};
    state.pos = kv_.length(), state.rows = rows, state.out_rows = out_rows;
    Plan& plan = plans.get(rows);
    kv_.begin_write(rows);
    Result<void> done = plan.run(state);
    if (done) done = plan.wait();
    if (!done && activations_) activations_->invalidate();
    done.value_or_throw();
}

size_t Context::rows_of_next_run(size_t n, int n_outputs) const {
    const size_t rows = std::min(n, size_t(n_batch()));
    return rows < n && n - rows < size_t(n_outputs) ? n - size_t(n_outputs) : rows;
}

void Context::run_chunks(const int32_t* tokens, size_t n, int n_outputs) {
    invalidate_outputs();
    while (n > 0) {
        const size_t rows = rows_of_next_run(n, n_outputs);
        const bool last = rows == n;
        run(tokens, int(rows), last ? n_outputs : 0, plans_);
        tokens += rows, n -= rows;
    }
    outputs_.set_rows(n_outputs);
}

// Back to an earlier length that the cache still serves.
void Context::drop_to(int length) {
    kv_.rewind(length);
    tokens_.resize(size_t(length));
    prompt_end_ = std::min(prompt_end_, length);
}

// As near to an earlier length, from below, as no run is needed for. From there the caller runs on,
// and the length wanted now is remembered: texts that parted there once may do so again.
int Context::go_back(int length) {
    const int nearest = kv_.nearest(length);
    tokens_.resize(size_t(nearest));
    prompt_end_ = std::min(prompt_end_, nearest);
    try {
        kv_.go_back(nearest);
    } catch (...) {
        tokens_.clear();
        throw;
    }
    if (nearest < length) kv_.expect_at(length);
    return nearest;
}

void Context::expect_return(int prompt_end) {
    prompt_end_ = prompt_end;
    kv_.expect(prompt_end);
}

void Context::eval(const int32_t* tokens, size_t n, int n_outputs) {
    if (n == 0) fail(Status::invalid_argument, "eval needs at least one token");
    if (n_outputs < 0 || size_t(n_outputs) > n || n_outputs > outputs_.rows_max())
        fail(Status::invalid_argument,
             "%d outputs asked of %zu tokens, this context gives at most %d", n_outputs, n,
             outputs_.rows_max());
    check_tokens(tokens, n);
    const int before = kv_.length();
    if (n > size_t(n_ctx() - before))
        fail(Status::context_full, "%zu tokens after position %d do not fit n_ctx %d", n, before,
             n_ctx());
    if (n > kPromptRows && n_outputs > 0) expect_return(before + int(n));
    run_or_go_back(tokens, n, n_outputs);
}

void Context::run_or_go_back(const int32_t* tokens, size_t n, int n_outputs) {
    const int before = kv_.length();
    try {
        run_chunks(tokens, n, n_outputs);
    } catch (...) {
        outputs_.set_rows(0);
        // Back to the old length; where the rings have lost what that needs, the chunks already run
        // stay: they are valid rows.
        if (kv_.can_rewind(before)) drop_to(before);
        prompt_end_ = std::min(prompt_end_, kv_.length());
        throw;
    }
}

Tensor Context::token_slots(int first, int rows) const {
    PILLION_CHECK(first >= 0 && first + rows <= std::max(n_batch(), kTokenRowsMin));
    return {DType::i32, Layout::rows, 1, rows, 1, token_buffer_.get(), size_t(first) * 4};
}

void Context::eval_after_draft(int32_t first, int rows, std::vector<int32_t>& tokens) {
    PILLION_CHECK(rows >= 1 && rows <= outputs_.rows_max() && rows <= n_ctx() - length());
    check_tokens(&first, 1);
    int32_t* buffer = reinterpret_cast<int32_t*>(token_buffer_->host());
    buffer[0] = first;
    invalidate_outputs();
    start_and_wait(rows, rows, plans_);
    tokens.assign(buffer, buffer + rows);
    check_tokens(buffer, size_t(rows));
    kv_.end_write(rows);
    tokens_.insert(tokens_.end(), buffer, buffer + rows);
    outputs_.set_rows(rows);
}

size_t Context::common(const int32_t* tokens, size_t n) const {
    size_t common = 0;
    while (common < tokens_.size() && common + 1 < n && tokens_[common] == tokens[common]) common++;
    return common;
}

size_t Context::usable(size_t common) const { return size_t(kv_.nearest(int(common))); }

// Back to the usable prefix of a text that will be run from there.
size_t Context::begin_text(const int32_t* tokens, size_t n, size_t prompt) {
    if (n == 0) fail(Status::invalid_argument, "sync needs at least one token");
    check_tokens(tokens, n);
    check_fits(n);
    const int same = int(common(tokens, n));
    invalidate_outputs();
    const size_t kept = size_t(go_back(same));
    expect_return(int(prompt > 0 ? prompt : n));
    return kept;
}

size_t Context::sync(const int32_t* tokens, size_t n, size_t prompt) {
    const size_t kept = begin_text(tokens, n, prompt);
    run_or_go_back(tokens + kept, n - kept, 1);
    return kept;
}

size_t Context::read(const int32_t* tokens, size_t n, size_t n_rows) {
    const size_t kept = begin_text(tokens, n, n);
    const size_t rows = std::min(n_rows, n - 1 - kept);
    if (rows > 0) run_or_go_back(tokens + kept, rows, 0);
    return kept;
}

void Context::rewind(size_t length) {
    if (length > tokens_.size())
        fail(Status::invalid_argument, "rewind to %zu, the context holds only %zu tokens", length,
             tokens_.size());
    invalidate_outputs();
    const std::vector<int32_t> dropped(tokens_.begin() + kv_.nearest(int(length)),
                                       tokens_.begin() + long(length));
    go_back(int(length));
    if (!dropped.empty()) eval(dropped.data(), dropped.size(), 0);
}

void Context::restore(std::vector<int32_t> tokens, int prompt_end,
                      const std::function<void(KvCache&)>& fill) {
    check_tokens(tokens.data(), tokens.size());
    check_fits(tokens.size());
    invalidate_outputs();
    go_back(0);
    try {
        fill(kv_);
    } catch (...) {
        kv_.clear();
        throw;
    }
    tokens_ = std::move(tokens);
    expect_return(std::min(prompt_end, length()));
}

void Context::drop_last(int n_rows) {
    PILLION_CHECK(n_rows >= 0 && n_rows <= length() && kv_.can_rewind(length() - n_rows));
    generation_++;
    drop_to(length() - n_rows);
}

void Context::invalidate_outputs() {
    outputs_.set_rows(0);
    generation_++;
}

void Context::run_all(const int32_t* tokens, size_t n, Outputs& outputs,
                      const std::function<void(size_t first)>& look) {
    check_tokens(tokens, n);
    check_fits(n);
    go_back(0);
    invalidate_outputs();
    const int rows_max = outputs.rows_max();
    PlanCache plans(*model_, places_, graph_inputs(rows_max, outputs), compile_options());
    for (size_t i = 0; i < n; i += size_t(rows_max)) {
        const int rows = int(std::min(size_t(rows_max), n - i));
        run(tokens + i, rows, rows, plans);
        outputs.set_rows(rows);
        look(i);
    }
}

}  // namespace pillion
