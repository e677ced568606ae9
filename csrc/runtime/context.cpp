#include "runtime/context.h"

#include <math.h>
#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

constexpr int kDefaultContext = 4096, kDefaultBatch = 512, kDefaultOutputs = 16;
constexpr int kContextMax = 1 << 24;
// Rings have room for so many rows beside the window, however short runs are: a text that leaves
// the prompt a few tokens before its end (a chat template's beginning of an answer) still finds the
// window there.
constexpr int kRewindRows = 128;
// A run of more with outputs is a prompt: verifications and single tokens are shorter.
constexpr size_t kPromptRows = 16;

int pick_n_ctx(const Model& model, int asked) {
    if (asked < 0 || asked > kContextMax)
        fail(Status::invalid_argument, "n_ctx %d, allowed are 1 to %d", asked, kContextMax);
    return asked > 0 ? asked : std::min(model.hparams().n_ctx_train, kDefaultContext);
}

int pick_within(const char* name, int asked, int fallback, int limit) {
    if (asked < 0) fail(Status::invalid_argument, "%s %d must not be negative", name, asked);
    return std::min(asked > 0 ? asked : fallback, limit);
}

int check_snapshots(int asked) {
    if (asked < -1 || asked > KvSnapshots::kMost)
        fail(Status::invalid_argument, "n_snapshots %d, allowed are -1 (none) to %d", asked,
             KvSnapshots::kMost);
    return asked;
}

const Model& runnable(const Model& model) {
    model.backend();
    if (model.is_drafter())
        fail(
            Status::pairing,
            "%s is a Gemma 4 assistant: it has no cache of its own and needs a target to draft for",
            model.file().path().c_str());
    return model;
}

GraphInputs graph_inputs(int rows_max, int out_rows_max, const KvCache& kv, Buffer& tokens,
                         const Tensor& hidden, const Tensor& logits, const Tensor& argmax_tokens) {
    GraphInputs in = {};
    in.rows_max = rows_max, in.out_rows_max = out_rows_max;
    in.kv = kv.places();
    in.tokens.dtype = DType::i32, in.tokens.width = 1, in.tokens.rows = rows_max,
    in.tokens.buffer = &tokens;
    in.hidden = hidden, in.logits = logits, in.argmax_tokens = argmax_tokens;
    return in;
}

std::unique_ptr<Buffer> allocate(Backend& backend, BufferKind kind, size_t bytes,
                                 const char* what) {
    std::unique_ptr<Buffer> buffer;
    Reason reason;
    if (const Status s = backend.allocate(bytes, kind, buffer, reason); s != Status::ok)
        fail(s, "%s: %s", what, reason.text);
    return buffer;
}

}  // namespace

Context::Context(std::shared_ptr<Model> model, const ContextOptions& o)
    : model_(std::move(model)), n_ctx_(pick_n_ctx(runnable(*model_), o.n_ctx)),
      n_batch_(pick_within("n_batch", o.n_batch, kDefaultBatch, n_ctx_)),
      n_outputs_max_(pick_within("n_outputs", o.n_outputs, kDefaultOutputs, n_batch_)),
      n_threads_(pick_within("n_threads", o.n_threads, 0, 256)), flash_(o.flash),
      swa_full_(o.swa_full), n_snapshots_(check_snapshots(o.n_snapshots)),
      kv_(model_->hparams(), model_->placement(), o.kv_type, n_ctx_,
          std::max(n_batch_, kRewindRows), o.swa_full, n_snapshots_),
      places_(make_places()),
      token_buffer_(allocate(*model_->placement().front, BufferKind::state,
                             size_t(std::max(n_batch_, kTokenRowsMin)) * 4, "token buffer")),
      outputs_(make_outputs(n_outputs_max_)),
      activations_(o.collect_activations ? std::make_unique<ActivationStats>(model_->weights())
                                         : nullptr),
      plans_(*model_, places_,
             graph_inputs(n_batch_, n_outputs_max_, kv_, *token_buffer_, outputs_.hidden,
                          outputs_.logits, outputs_.argmax_tokens),
             compile_options()) {
    plans_.get(1);  // what can't run is said now, not at the first token
}

// By Part. Without a split front and back are the same.
std::vector<PartPlace> Context::make_places() {
    const Placement& p = model_->placement();
    return {{p.front, &queue_on(*p.front)}, {p.back, &queue_on(*p.back)}, {nullptr, nullptr}};
}

Queue& Context::queue_on(Backend& backend) {
    const size_t n = n_queues_.load();
    for (size_t i = 0; i < n; i++)
        if (queues_[i].backend == &backend) return *queues_[i].queue;
    PILLION_CHECK(n < kQueuesMax);
    queues_[n] = {&backend, backend.make_queue(n_threads_)};
    n_queues_.store(n + 1);  // from here on cancel() sees it
    return *queues_[n].queue;
}

bool Context::on_device() const {
    for (size_t i = 0, n = n_queues_.load(); i < n; i++)
        if (!queues_[i].backend->is_host()) return true;
    return false;
}

CompileOptions Context::compile_options() const {
    CompileOptions options;
    options.observer = activations_.get();
    options.flash = flash_;
    return options;
}

void Context::set_cancel(bool cancel) {
    for (size_t i = 0, n = n_queues_.load(); i < n; i++) queues_[i].queue->cancel.store(cancel);
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
    const int outputs = std::max(1, out_rows_);
    go_back(0);
    eval(held.data(), held.size(), outputs);
}

// Only what the layers give; scores and argmax_tokens come from a head.
Context::Outputs Context::make_hidden_rows(int rows) const {
    const HParams& hp = model_->hparams();
    Outputs out;
    out.rows = rows;
    const size_t bytes = size_t(rows) * size_t(hp.n_embd + 1) * 4;  // with the argmax_tokens behind
    out.buffer = allocate(model_->backend(), BufferKind::state, bytes, "outputs");
    out.hidden = {DType::f32, Layout::rows, hp.n_embd, rows, 1, out.buffer.get(), 0};
    return out;
}

Context::Outputs Context::make_outputs(int rows) const {
    const HParams& hp = model_->hparams();
    Outputs out = make_hidden_rows(rows);
    const size_t hidden = size_t(rows) * size_t(hp.n_embd) * 4,
                 logits = size_t(rows) * size_t(hp.n_vocab) * 4;
    out.scores = allocate(model_->backend(), BufferKind::scratch, logits, "logits");
    out.logits = {DType::f32, Layout::rows, hp.n_vocab, rows, 1, out.scores.get(), 0};
    out.argmax_tokens = {DType::i32, Layout::rows, 1, rows, 1, out.buffer.get(), hidden};
    return out;
}

void Context::check_tokens(const int32_t* tokens, size_t n) const {
    const int n_vocab = model_->hparams().n_vocab;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            fail(Status::invalid_argument, "token %zu is %d, the vocabulary has ids 0 to %d", i,
                 tokens[i], n_vocab - 1);
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
    Reason reason;
    Status s = plan.run(state, reason);
    if (s == Status::ok) s = plan.wait(reason);
    if (s != Status::ok && activations_) activations_->invalidate();
    if (s != Status::ok) fail(s, "%s", s == Status::cancelled ? "cancelled" : reason.text);
}

// All outputs lie in the last run.
// Rows of the next run when n tokens are left: all outputs come from the last one.
size_t Context::chunk_rows(size_t n, int n_outputs) const {
    const size_t rows = std::min(n, size_t(n_batch_));
    return rows < n && n - rows < size_t(n_outputs) ? n - size_t(n_outputs) : rows;
}

void Context::run_chunks(const int32_t* tokens, size_t n, int n_outputs) {
    invalidate_outputs();
    while (n > 0) {
        const size_t rows = chunk_rows(n, n_outputs);
        const bool last = rows == n;
        run(tokens, int(rows), last ? n_outputs : 0, plans_);
        tokens += rows, n -= rows;
    }
    out_rows_ = n_outputs;
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
    if (n_outputs < 0 || size_t(n_outputs) > n || n_outputs > n_outputs_max_)
        fail(Status::invalid_argument,
             "%d outputs asked of %zu tokens, this context gives at most %d", n_outputs, n,
             n_outputs_max_);
    check_tokens(tokens, n);
    const int before = kv_.length();
    if (n > size_t(n_ctx_ - before))
        fail(Status::context_full, "%zu tokens after position %d do not fit n_ctx %d", n, before,
             n_ctx_);
    if (n > kPromptRows && n_outputs > 0) expect_return(before + int(n));
    run_or_go_back(tokens, n, n_outputs);
}

void Context::run_or_go_back(const int32_t* tokens, size_t n, int n_outputs) {
    const int before = kv_.length();
    try {
        run_chunks(tokens, n, n_outputs);
    } catch (...) {
        out_rows_ = 0;
        // Back to the old length; where the rings have lost what that needs, the chunks already run
        // stay: they are valid rows.
        if (kv_.can_rewind(before)) drop_to(before);
        prompt_end_ = std::min(prompt_end_, kv_.length());
        throw;
    }
}

Tensor Context::token_slots(int first, int rows) const {
    PILLION_CHECK(first >= 0 && first + rows <= std::max(n_batch_, kTokenRowsMin));
    return {DType::i32, Layout::rows, 1, rows, 1, token_buffer_.get(), size_t(first) * 4};
}

void Context::eval_after_draft(int32_t first, int rows, std::vector<int32_t>& tokens) {
    PILLION_CHECK(rows >= 1 && rows <= n_outputs_max_ && rows <= n_ctx_ - length());
    check_tokens(&first, 1);
    int32_t* buffer = reinterpret_cast<int32_t*>(token_buffer_->host());
    buffer[0] = first;
    invalidate_outputs();
    start_and_wait(rows, rows, plans_);
    tokens.assign(buffer, buffer + rows);
    check_tokens(buffer, size_t(rows));
    kv_.end_write(rows);
    tokens_.insert(tokens_.end(), buffer, buffer + rows);
    out_rows_ = rows;
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
    if (n > size_t(n_ctx_)) fail(Status::context_full, "%zu tokens do not fit n_ctx %d", n, n_ctx_);
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

void Context::drop_last(int n_rows) {
    PILLION_CHECK(n_rows >= 0 && n_rows <= length() && kv_.can_rewind(length() - n_rows));
    generation_++;
    drop_to(length() - n_rows);
}

const Tensor& Context::output(int row, const Tensor& t) const {
    if (row < 0 || row >= out_rows_)
        fail(Status::invalid_argument, "output row %d, the last eval gave %d", row, out_rows_);
    return t;
}

const float* Context::logits(int row) const {
    const Tensor& t = output(row, outputs_.logits);
    if (t.buffer->host()) return reinterpret_cast<const float*>(t.host()) + row * t.width;
    const size_t n = size_t(outputs_.rows);
    if (!fetched_.buffer)
        fetched_.buffer =
            allocate(model_->backend(), BufferKind::state, n * size_t(t.width) * 4, "logits");
    fetched_.rows.resize(n);
    float* to = reinterpret_cast<float*>(fetched_.buffer->host()) + int64_t(row) * t.width;
    if (!fetched_.rows[size_t(row)]) fetch_logits(outputs_, row, to);
    fetched_.rows[size_t(row)] = 1;
    return to;
}

void Context::fetch_logits(const Outputs& outputs, int row, float* to) const {
    const Tensor& t = outputs.logits;
    const size_t bytes = size_t(t.width) * 4;
    Reason reason;
    if (const Status s =
            model_->backend().read(*t.buffer, t.offset + size_t(row) * bytes, bytes, to, reason);
        s != Status::ok)
        fail(s, "logits: %s", reason.text);
}

void Context::invalidate_outputs() {
    out_rows_ = 0;
    generation_++;
    std::fill(fetched_.rows.begin(), fetched_.rows.end(), uint8_t(0));
}

const float* Context::hidden(int row) const {
    const Tensor& t = output(row, outputs_.hidden);
    return reinterpret_cast<const float*>(t.host()) + row * t.width;
}

int32_t Context::argmax(int row) const {
    return reinterpret_cast<const int32_t*>(output(row, outputs_.argmax_tokens).host())[row];
}

// Empty, for a text whose rows all have outputs.
void Context::start_over(const int32_t* tokens, size_t n) {
    check_tokens(tokens, n);
    if (n > size_t(n_ctx_)) fail(Status::context_full, "%zu tokens do not fit n_ctx %d", n, n_ctx_);
    go_back(0);
    invalidate_outputs();
}

void Context::score(const int32_t* tokens, size_t n, float* logprobs) {
    if (n < 2) fail(Status::invalid_argument, "score needs at least two tokens");
    start_over(tokens, n);
    // Logits of many rows at once, within 64 MB of them.
    const size_t n_vocab = size_t(model_->hparams().n_vocab);
    const int rows_max = int(
        std::min<size_t>({size_t(n_batch_), n, std::max<size_t>(8, (64u << 20) / (n_vocab * 4))}));
    const Outputs out = make_outputs(rows_max);
    PlanCache plans(*model_, places_,
                    graph_inputs(rows_max, rows_max, kv_, *token_buffer_, out.hidden, out.logits,
                                 out.argmax_tokens),
                    compile_options());
    std::vector<float> fetched(out.scores->host() ? 0 : n_vocab);
    for (size_t i = 0; i < n; i += size_t(rows_max)) {
        const int rows = int(std::min(size_t(rows_max), n - i));
        run(tokens + i, rows, rows, plans);
        for (int r = 0; r < rows && i + size_t(r) + 1 < n; r++) {
            const float* row = fetched.data();
            if (fetched.empty())
                row = reinterpret_cast<const float*>(out.logits.host()) + size_t(r) * n_vocab;
            else fetch_logits(out, r, fetched.data());
            logprobs[i + size_t(r)] =
                float(double(row[tokens[i + size_t(r) + 1]]) - log_sum_exp(row, n_vocab));
        }
    }
}

void Context::embed(const int32_t* tokens, size_t n, float* mean) {
    if (n == 0) fail(Status::invalid_argument, "embed needs at least one token");
    start_over(tokens, n);
    const int rows_max = int(std::min(n, size_t(n_batch_)));
    const Outputs out = make_hidden_rows(rows_max);
    GraphInputs inputs = graph_inputs(rows_max, rows_max, kv_, *token_buffer_, out.hidden, {}, {});
    inputs.hidden_only = true;
    PlanCache plans(*model_, places_, inputs, compile_options());
    const size_t n_embd = size_t(out.hidden.width);
    // Row after row in double: the sum does not depend on how the runs were cut.
    std::vector<double> sum(n_embd, 0.0);
    for (size_t i = 0; i < n; i += size_t(rows_max)) {
        const int rows = int(std::min(size_t(rows_max), n - i));
        run(tokens + i, rows, rows, plans);
        const float* row = reinterpret_cast<const float*>(out.hidden.host());
        for (int r = 0; r < rows; r++, row += n_embd)
            for (size_t j = 0; j < n_embd; j++) sum[j] += double(row[j]);
    }
    for (size_t j = 0; j < n_embd; j++) mean[j] = float(sum[j] / double(n));
}

Work Context::work(size_t n, int n_outputs) const {
    if (n == 0 || n > size_t(n_ctx_ - length()) || n_outputs < 0 || size_t(n_outputs) > n ||
        n_outputs > n_outputs_max_)
        fail(Status::invalid_argument,
             "work of %zu tokens with %d outputs after position %d, n_ctx is %d and at most %d "
             "outputs are possible",
             n, n_outputs, length(), n_ctx_, n_outputs_max_);
    Work sum;
    for (int pos = length(); n > 0;) {
        const size_t rows = chunk_rows(n, n_outputs);
        const Work w = work_of(plans_.graph(int(rows)), int(rows), rows == n ? n_outputs : 0, pos);
        sum.multiply_adds += w.multiply_adds, sum.weight_bytes += w.weight_bytes,
            sum.kv_bytes += w.kv_bytes;
        pos += int(rows), n -= rows;
    }
    return sum;
}

MachineLimits Context::limits() {
    MachineLimits limits;
    Reason reason;
    if (const Status s = model_->backend().measure_limits(queue(), limits, reason); s != Status::ok)
        fail(s, "%s", reason.text);
    return limits;
}

ContextMemory Context::memory() const {
    ContextMemory m;
    const std::vector<LayerParams>& layers = model_->hparams().layers;
    for (size_t l = 0; l < layers.size(); l++) {
        if (!layers[l].owns_kv) continue;
        const KvSpec& spec = kv_.spec(int(l));
        ContextMemory::Kv& kv = kv_.is_sliding(int(l)) ? m.sliding : m.full;
        kv.layers++, kv.positions = spec.capacity, kv.bytes += kv_.layer_bytes(int(l));
    }
    m.snapshots = kv_.snapshots().bytes();
    m.scratch = plans_.scratch_bytes();
    m.outputs = outputs_.buffer->size() + outputs_.scores->size() + token_buffer_->size();
    return m;
}

std::string Context::to_json() {
    JsonArray kv;
    const std::vector<LayerParams>& layers = model_->hparams().layers;
    for (size_t l = 0; l < layers.size(); l++) {
        if (!layers[l].owns_kv) continue;
        const KvSpec& s = kv_.spec(int(l));
        kv.add(JsonObject()
                   .add("layer", l)
                   .add("store", kv_.is_ring(int(l)) ? "ring" : "full")
                   .add("type", s.type == KvType::q8_0 ? "q8_0" : "f16")
                   .add("positions", s.capacity)
                   .add("bytes", kv_.layer_bytes(int(l))));
    }
    return JsonObject()
        .add("n_ctx", n_ctx_)
        .add("n_batch", n_batch_)
        .add("n_threads", queue().n_threads())
        .add("length", length())
        .add("kv_bytes", kv_.bytes())
        .add("n_snapshots", kv_.snapshots().count())
        .add("snapshot_bytes", kv_.snapshots().bytes())
        .add("output_bytes", memory().outputs)
        .add("scratch_bytes", plans_.scratch_bytes())
        .add("kv", kv)
        .add("backend", model_->backend().name())
        .add("plan", placement_json())
        .text();
}

// The argmax, made where the row lies, is the largest of all logits; if the mask allows it, it is
// the largest of the allowed ones too, and the row stays where it is. Of a row of NaN the argmax is
// token 0, so that one is looked at.
int32_t sample_output(Sampler& sampler, const Context& context, int row, TokenMask mask) {
    const int32_t best = context.argmax(row);
    if (best > 0 && sampler.argmax_suffices(best) && mask.allows(best)) return best;
    return sampler.sample(context.logits(row), context.model().hparams().n_vocab, mask);
}

double log_sum_exp(const float* x, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = std::max(max, x[i]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += double(expf(x[i] - max));
    return double(max) + log(sum);
}

}  // namespace pillion
