#include "speculative/pair.h"

#include <algorithm>
#include <chrono>

#include "core/log.h"
#include "speculative/accept.h"

namespace pillion {
namespace {

class Stopwatch {
  public:
    double lap_ms() {
        const auto now = std::chrono::steady_clock::now();
        const double ms = std::chrono::duration<double, std::milli>(now - start_).count();
        start_ = now;
        return ms;
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::unique_ptr<Drafter> make_drafter(std::shared_ptr<Model> drafter, Context& target, const PairOptions& o) {
    if (!drafter) return make_lookup_drafter(o.n_ngram);
    if (drafter->is_drafter()) {
        if (o.as_model)
            fail(Status::pairing, "%s is a Gemma 4 assistant, which has no cache of its own; it can't run as an ordinary draft model",
                 drafter->file().path().c_str());
        return make_mtp_drafter(std::move(drafter), target, o);
    }
    return make_model_drafter(std::move(drafter), target);
}

}  // namespace

Pair::Pair(std::shared_ptr<Context> target, std::shared_ptr<Model> drafter, const PairOptions& o)
    : target_(std::move(target)), drafter_(make_drafter(std::move(drafter), *target_, o)), p_min_(o.p_min), sampled_(o.sampled) {
    if (!(o.p_min >= 0 && o.p_min <= 1)) fail(Status::invalid_argument, "p_min %g is outside 0 to 1", double(o.p_min));
    if (o.n_ngram < 1 || o.n_ngram > 64) fail(Status::invalid_argument, "n_ngram %d, allowed are 1 to 64", o.n_ngram);
}

size_t Pair::set_tokens(const int32_t* tokens, size_t n) {
    last_ = -1;
    length_.begin_text();
    return target_->set_tokens(tokens, n);
}

// The token and the hidden row that the next draft starts from.
void Pair::remember(int32_t last, int hidden_row) {
    last_ = last;
    hidden_.clear();
    if (drafter_->needs_hidden()) {
        const float* row = target_->hidden(hidden_row);
        hidden_.assign(row, row + target_->model().hparams().n_embd);
    }
    generation_ = target_->generation();
}

RoundInfo Pair::step(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens, size_t n_end, std::vector<int32_t>& out) {
    if (n_draft < kDraftAuto || n_draft > kDraftMax)
        fail(Status::invalid_argument, "n_draft %d, allowed are 0 to %d and %d for auto", n_draft, kDraftMax, kDraftAuto);
    if (n_max < 1) fail(Status::invalid_argument, "a step returns at least one token, n_max is 0");
    const size_t before = out.size();
    RoundInfo info;
    if (!has_last()) {
        info = first_token(sampler, out);
    } else {
        const int length = target_->length();
        try {
            info = round(sampler, n_draft, n_max, end_tokens, n_end, out);
        } catch (...) {
            drafter_->settle();    // it may still write to where the next run takes its tokens
            // As if the round had not begun: the chosen token still waits for its place, nothing was returned.
            out.resize(before);
            if (target_->length() > length) target_->drop_last(target_->length() - length);
            if (target_->length() == length) generation_ = target_->generation();
            throw;
        }
    }
    info.ended = std::find(end_tokens, end_tokens + n_end, out.back()) != end_tokens + n_end;
    count(info, out.size() - before);
    return info;
}

// After a prompt: its logits are there, nothing has to run.
RoundInfo Pair::first_token(Sampler& sampler, std::vector<int32_t>& out) {
    if (target_->n_outputs() == 0)
        fail(Status::invalid_argument, "the context has no logits to go on from: run a prompt with at least one output first");
    const int row = target_->n_outputs() - 1;
    Stopwatch watch;
    const int32_t token = sample_output(sampler, *target_, row);
    sampler.accept(token);
    out.push_back(token);
    remember(token, row);
    RoundInfo info;
    info.accept_ms = watch.lap_ms();
    return info;
}

// Room: last and drafts must fit the context and the outputs, and no more tokens than wanted may come out.
DraftLength::Choice Pair::choose_length(int n_draft, size_t n_max) {
    const int room = target_->n_ctx() - target_->length() - 1;
    const int most = std::min({kDraftMax, room, target_->n_outputs_max() - 1, int(std::min<size_t>(n_max - 1, kDraftMax))});
    if (n_draft == 0) {
        stats_.state = PairStats::State::off, stats_.reason = "switched off for this call (n_draft 0)";
        return {};
    }
    if (target_->n_outputs_max() < 2) {
        stats_.state = PairStats::State::off, stats_.reason = "the context returns one output row, verifying a draft needs two (n_outputs, n_batch)";
        return {};
    }
    DraftLength::Choice choice = {n_draft, INT_MAX};
    if (n_draft == kDraftAuto) choice = length_.pick(drafter_->unread(*target_));
    if (choice.n > 0) stats_.state = PairStats::State::on, stats_.reason.clear();
    else stats_.state = PairStats::State::parked, stats_.reason = length_.why_not();
    choice.n = std::max(0, std::min(choice.n, most));
    return choice;
}

RoundInfo Pair::round(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens, size_t n_end, std::vector<int32_t>& out) {
    if (target_->length() >= target_->n_ctx())
        fail(Status::context_full, "the context is full: n_ctx %d", target_->n_ctx());
    RoundInfo info;
    Stopwatch watch;
    const auto [k, window] = choose_length(n_draft, n_max);
    rows_.assign(1, last_);
    proposals_.clear();
    Sampler* const draws = sampled_ && !sampler.is_greedy() ? &sampler : nullptr;
    const DraftRequest request = {
        last_, hidden_.empty() ? nullptr : hidden_.data(), k, p_min_, draws, &proposals_, window};
    const bool started = k > 0 && drafter_->start(*target_, request);
    if (k > 0 && !started) drafter_->draft(*target_, request, rows_);
    info.draft_ms = k > 0 ? watch.lap_ms() : 0;    // of a started draft on a device: the time to enqueue it

    if (started) target_->eval_chained(last_, k + 1, rows_);
    else target_->eval(rows_.data(), rows_.size(), int(rows_.size()));
    const int drafted = info.drafted = int(rows_.size()) - 1;
    info.verify_ms = watch.lap_ms();

    // Row i predicts what follows rows_[i]. What is chosen there stands; a draft that equals it was right.
    int m = 0;
    for (;; m++) {
        const int32_t token = choose_token(sampler, m);
        sampler.accept(token);
        out.push_back(token);
        const bool ends = std::find(end_tokens, end_tokens + n_end, token) != end_tokens + n_end;
        if (m == drafted || token != rows_[size_t(m) + 1] || ends) break;
    }
    const bool cut = m < drafted && out.back() == rows_[size_t(m) + 1];    // an accepted end token: what follows it is not kept
    info.accepted = m + (cut ? 1 : 0);
    target_->drop_last(drafted - m);
    remember(out.back(), m);
    info.accept_ms = watch.lap_ms();
    length_.update(drafted, info.accepted, info.draft_ms, info.verify_ms,
                   k > 0 ? drafter_->last_reading() : DraftLength::Reading());
    return info;
}

// The sampler's own choice: since a row's logits do not depend on the rows beside it, the tokens are those that plain steps would have
// chosen, by the same random numbers. Where the draft was drawn, rejection keeps the distribution, not the token.
int32_t Pair::choose_token(Sampler& sampler, int row) {
    if (size_t(row) >= proposals_.size()) return sample_output(sampler, *target_, row);
    const int n_vocab = target_->model().hparams().n_vocab;
    weights_.resize(size_t(n_vocab));
    const Distribution& p = sampler.distribution({target_->logits(row), nullptr, n_vocab});
    return accept_or_resample(sampler, p, proposals_[size_t(row)], rows_[size_t(row) + 1], weights_);
}

void Pair::draft_only(int32_t last, int n, std::vector<int32_t>& out) {
    if (n < 1 || n > kDraftMax) fail(Status::invalid_argument, "%d drafts, allowed are 1 to %d", n, kDraftMax);
    if (last < 0 || last >= target_->model().hparams().n_vocab)
        fail(Status::invalid_argument, "token %d, the vocabulary has %d", last, target_->model().hparams().n_vocab);
    // After a round the hidden row is that of the last kept position; otherwise the last output's.
    const float* hidden = nullptr;
    if (drafter_->needs_hidden() && target_->length() > 0) {
        if (generation_ == target_->generation() && !hidden_.empty()) hidden = hidden_.data();
        else if (target_->n_outputs() > 0) hidden = target_->hidden(target_->n_outputs() - 1);
        else fail(Status::invalid_argument, "the context has no hidden row to draft from: run a prompt with at least one output first");
    }
    drafter_->draft(*target_, {last, hidden, n, p_min_, nullptr, nullptr}, out);
}

std::string Pair::to_json() {
    const std::string backend = drafter_->backend();
    return std::string("{\"kind\": \"") + drafter_->kind() + "\", \"head\": \"" + drafter_->head() +
           "\", \"backend\": " + (backend.empty() ? "null" : "\"" + backend + "\"") +
           ", \"n_read\": " + std::to_string(drafter_->n_read()) +
           ", \"plan\": " + drafter_->plan_json() + "}";
}

void Pair::count(const RoundInfo& info, size_t n_tokens) {
    stats_.tokens += n_tokens;
    stats_.draft_ms += info.draft_ms, stats_.verify_ms += info.verify_ms, stats_.accept_ms += info.accept_ms;
    if (info.drafted == 0) return;
    stats_.rounds++;
    stats_.drafted += uint64_t(info.drafted), stats_.accepted += uint64_t(info.accepted);
    for (int i = 0; i < info.drafted; i++) stats_.drafted_at[i]++;
    for (int i = 0; i < info.accepted; i++) stats_.accepted_at[i]++;
}

}  // namespace pillion
