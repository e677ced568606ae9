#include "runtime/context.h"

#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

// A run of more with outputs is a prompt: verifications and single tokens are shorter.
constexpr size_t kPromptRows = 16;

}  // namespace

Context::Context(std::shared_ptr<Model> model, const ContextOptions& options)
    : Context(std::make_shared<Runner>(std::move(model), options)) {}

Context::Context(std::shared_ptr<Runner> runner)
    : runner_(std::move(runner)),
      kv_(runner_->pool(), model().hparams().window, options().n_snapshots),
      outputs_(runner_->outputs()) {}

void Context::replica_on(Backend& backend) {
    if (runner_->pool()->has_replicas_on(backend)) return;
    if (runner_->is_shared()) {
        const KvView view = runner_->pool()->last_view_on(backend, true),
                     full = runner_->pool()->last_view_on(backend, false);
        if ((view.layer < 0 || view.store.buffer) && (full.layer < 0 || full.store.buffer)) return;
        fail(Status::pairing,
             "a drafter on %s reads copies of the batch's caches: the batch must be made with it",
             backend.name());
    }
    if (!runner_->add_replicas(backend)) return;
    kv_.replicas_changed();
    if (length() == 0) return;
    const std::vector<int32_t> held = tokens_;
    const int outputs = std::max(1, outputs_.rows());
    go_back(0);
    eval(held.data(), held.size(), outputs);
}

void Context::check_tokens(const int32_t* tokens, size_t n) const {
    const int n_vocab = model().hparams().n_vocab;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            fail(Status::invalid_argument, "token %zu is %d, the vocabulary has ids 0 to %d", i,
                 tokens[i], n_vocab - 1);
}

// Tokens and rows of media, whose values are needed where they are to be run, from `n_held` on.
void Context::check_text(const int32_t* tokens, size_t n, size_t n_held) const {
    for (size_t i = 0; i < n;) {
        const size_t begin = i;
        while (i < n && tokens[i] >= 0) i++;
        check_tokens(tokens + begin, i - begin);
        if (i < n) i += check_medium(tokens, n, i, n_held);
    }
}

// Returns how many tokens from tokens[i] on are rows of the same medium, in order.
size_t Context::check_medium(const int32_t* tokens, size_t n, size_t i, size_t n_held) const {
    const Medium m = model().media().find(tokens[i]);
    if (!m)
        fail(Status::invalid_argument,
             "token %zu is %d, which is no row of a medium that was added to this model", i,
             tokens[i]);
    size_t rows = 1;
    while (i + rows < n && rows < size_t(m.n_rows) && tokens[i + rows] == tokens[i] - int32_t(rows))
        rows++;
    if (!m.rows && i + rows > n_held)
        fail(Status::invalid_argument,
             "token %zu is %d, a row of a medium that was dropped: add it again", i, tokens[i]);
    runner_->expect_media();
    if (!m.is_block) return rows;
    if (tokens[i] != m.first || rows != size_t(m.n_rows))
        fail(Status::invalid_argument,
             "tokens %zu to %zu are rows %d to %zu of an image of %d rows that see one another: a "
             "text has all of them",
             i, i + rows - 1, m.index(tokens[i]), size_t(m.index(tokens[i])) + rows - 1, m.n_rows);
    if (m.n_rows > n_batch())
        fail(Status::invalid_argument,
             "an image of %d rows that see one another is read in one run, which takes n_batch %d",
             m.n_rows, n_batch());
    return rows;
}

// Where an image's rows see one another, none of them has an output: a run ends behind the image.
void Context::check_outputs(const int32_t* tokens, size_t n, int n_outputs) const {
    for (size_t i = n - size_t(n_outputs); i < n; i++)
        if (tokens[i] < 0 && model().media().find(tokens[i]).is_block)
            fail(Status::invalid_argument,
                 "an output of token %zu, a row of an image whose rows see one another: only "
                 "tokens behind it have outputs",
                 i);
}

// The length, or that before the block of media that it would cut.
int Context::before_block(int length) const {
    if (length <= 0 || length >= int(tokens_.size()) || tokens_[size_t(length)] >= 0) return length;
    const Medium m = model().media().find(tokens_[size_t(length)]);
    return m.is_block ? std::max(0, length - m.index(tokens_[size_t(length)])) : length;
}

size_t Context::rows_to_run(const int32_t* tokens, size_t n, size_t wanted, size_t most) const {
    const size_t rows = std::min({n, wanted, most});
    if (rows == n || rows == 0 || !tokens || tokens[rows] >= 0) return rows;
    const Medium m = model().media().find(tokens[rows]);
    if (!m.is_block) return rows;
    const size_t begin = rows - size_t(m.index(tokens[rows]));
    if (begin > 0) return begin;
    return size_t(m.n_rows) <= most ? size_t(m.n_rows) : 0;
}

void Context::check_fits(size_t n) const {
    if (n > size_t(n_ctx()))
        fail(Status::context_full, "%zu tokens do not fit n_ctx %d", n, n_ctx());
}

// One run of up to n_batch rows.
void Context::run(const int32_t* tokens, int rows, int out_rows, PlanCache& plans) {
    const RunPart part = {&kv_, tokens, rows, out_rows};
    runner_->run(&part, 1, plans);
    tokens_.insert(tokens_.end(), tokens, tokens + rows);
}

size_t Context::rows_of_next_run(const int32_t* tokens, size_t n, int n_outputs) const {
    const size_t most = size_t(n_batch()), rows = std::min(n, most);
    const size_t wanted = rows < n && n - rows < size_t(n_outputs) ? n - size_t(n_outputs) : rows;
    return rows_to_run(tokens, n, wanted, most);
}

void Context::run_chunks(const int32_t* tokens, size_t n, int n_outputs) {
    invalidate_outputs();
    while (n > 0) {
        const size_t rows = rows_of_next_run(tokens, n, n_outputs);
        const bool last = rows == n;
        run(tokens, int(rows), last ? n_outputs : 0, runner_->plans());
        tokens += rows, n -= rows;
    }
    runner_->outputs().set_rows(n_outputs);
    outputs_.set(0, n_outputs);
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
    const int nearest = int(usable(size_t(length)));
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

// Whether n tokens can follow, the last n_outputs with outputs.
void Context::check_eval(size_t n, int n_outputs) const {
    if (n == 0) fail(Status::invalid_argument, "eval needs at least one token");
    if (n_outputs < 0 || size_t(n_outputs) > n || n_outputs > outputs_.rows_max())
        fail(Status::invalid_argument,
             "%d outputs asked of %zu tokens, this context gives at most %d", n_outputs, n,
             outputs_.rows_max());
    if (n > size_t(n_ctx() - length()))
        fail(Status::context_full, "%zu tokens after position %d do not fit n_ctx %d", n, length(),
             n_ctx());
}

void Context::eval(const int32_t* tokens, size_t n, int n_outputs) {
    check_eval(n, n_outputs);
    check_text(tokens, n);
    check_outputs(tokens, n, n_outputs);
    if (n > kPromptRows && n_outputs > 0) expect_return(length() + int(n));
    run_or_go_back(tokens, n, n_outputs);
}

RunPart Context::part(const int32_t* tokens, size_t n, int n_outputs) {
    check_eval(n, n_outputs);
    check_text(tokens, n);
    check_outputs(tokens, n, n_outputs);
    invalidate_outputs();
    return {&kv_, tokens, int(n), n_outputs};
}

void Context::has_run(const RunPart& part, int first_output) {
    tokens_.insert(tokens_.end(), part.tokens, part.tokens + part.n_rows);
    outputs_.set(first_output, part.n_outputs);
}

size_t Context::share(const Context& other, size_t length) {
    if (&other.runner() != &runner() || !runner().is_shared())
        fail(Status::invalid_argument, "only contexts of one batch share what they hold");
    if (length > other.tokens_.size())
        fail(Status::invalid_argument, "%zu tokens of a context that holds %zu", length,
             other.tokens_.size());
    if (&other == this) return rewind(length), length;
    tokens_.clear();
    prompt_end_ = 0;
    invalidate_outputs();
    const auto kept = long(kv_.share(other.kv_, int(other.usable(length))));
    tokens_.assign(other.tokens_.begin(), other.tokens_.begin() + kept);
    return size_t(kept);
}

void Context::run_or_go_back(const int32_t* tokens, size_t n, int n_outputs) {
    const int before = kv_.length();
    try {
        run_chunks(tokens, n, n_outputs);
    } catch (...) {
        outputs_.clear();
        // Back to the old length; where the rings have lost what that needs, the chunks already run
        // stay: they are valid rows.
        if (kv_.can_rewind(before)) drop_to(before);
        prompt_end_ = std::min(prompt_end_, kv_.length());
        throw;
    }
}

void Context::eval_after_draft(int32_t first, int rows, std::vector<int32_t>& tokens) {
    PILLION_CHECK(rows >= 1 && rows <= outputs_.rows_max() && rows <= n_ctx() - length());
    check_tokens(&first, 1);
    int32_t* buffer = runner_->token_words();
    buffer[0] = first;
    invalidate_outputs();
    const RunPart part = {&kv_, nullptr, rows, rows};
    runner_->run(&part, 1);
    tokens.assign(buffer, buffer + rows);
    try {
        check_tokens(buffer, size_t(rows));
    } catch (...) {
        kv_.rewind(length() - rows);
        throw;
    }
    tokens_.insert(tokens_.end(), buffer, buffer + rows);
    runner_->outputs().set_rows(rows);
    outputs_.set(0, rows);
}

size_t Context::common(const int32_t* tokens, size_t n) const {
    size_t common = 0;
    while (common < tokens_.size() && common + 1 < n && tokens_[common] == tokens[common]) common++;
    return common;
}

size_t Context::usable(size_t common) const {
    int length = kv_.nearest(int(common));
    for (int cut = before_block(length); cut != length; cut = before_block(length))
        length = kv_.nearest(cut);
    return size_t(length);
}

// Back to the usable prefix of a text that will be run from there.
size_t Context::begin_text(const int32_t* tokens, size_t n, size_t prompt) {
    if (n == 0) fail(Status::invalid_argument, "sync needs at least one token");
    check_fits(n);
    const int same = int(common(tokens, n));
    check_text(tokens, n, usable(size_t(same)));
    check_outputs(tokens, n, 1);
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
    const size_t rows =
        rows_to_run(tokens + kept, n - kept, std::min(n_rows, n - 1 - kept), size_t(n_batch()));
    if (rows > 0) run_or_go_back(tokens + kept, rows, 0);
    return kept;
}

void Context::rewind(size_t length) {
    if (length > tokens_.size())
        fail(Status::invalid_argument, "rewind to %zu, the context holds only %zu tokens", length,
             tokens_.size());
    if (before_block(int(length)) != int(length))
        fail(Status::invalid_argument,
             "rewind to %zu, which is inside an image whose rows see one another; it begins at %d",
             length, before_block(int(length)));
    invalidate_outputs();
    const std::vector<int32_t> dropped(tokens_.begin() + long(usable(length)),
                                       tokens_.begin() + long(length));
    check_text(dropped.data(), dropped.size());  // rows of media may be gone
    go_back(int(length));
    if (!dropped.empty()) eval(dropped.data(), dropped.size(), 0);
}

void Context::restore(std::vector<int32_t> tokens, int prompt_end,
                      const std::function<void(KvCache&)>& fill) {
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
    outputs_.clear();
    generation_++;
}

void Context::run_all(const int32_t* tokens, size_t n, Outputs& outputs,
                      const std::function<void(size_t first)>& look) {
    check_tokens(tokens, n);
    check_fits(n);
    go_back(0);
    invalidate_outputs();
    const int rows_max = outputs.rows_max();
    const std::unique_ptr<PlanCache> plans = runner_->make_plans(outputs);
    for (size_t i = 0; i < n; i += size_t(rows_max)) {
        const int rows = int(std::min(size_t(rows_max), n - i));
        run(tokens + i, rows, rows, *plans);
        outputs.set_rows(rows);
        look(i);
    }
}

}  // namespace pillion
