#include "speculative/pair.h"

#include <algorithm>

#include "core/log.h"
#include "runtime/scoring.h"
#include "speculative/accept.h"

namespace pillion {

void check_drafter_kind(DrafterKind kind, const Model* drafter) {
    const bool takes_model = kind == DrafterKind::model || kind == DrafterKind::assistant;
    if (takes_model && !drafter)
        fail(Status::invalid_argument, "a drafter of this kind is a model, drafter is NULL");
    if (!takes_model && drafter)
        fail(Status::invalid_argument, "a drafter of this kind has no model, but %s was given",
             drafter->file().path().c_str());
    if (!drafter || kind == kind_of(*drafter)) return;
    if (drafter->is_drafter())
        fail(Status::pairing,
             "%s is a Gemma 4 assistant, which has no cache of its own; it can't run as an "
             "ordinary draft model",
             drafter->file().path().c_str());
    fail(Status::pairing, "%s is a %s model and no Gemma 4 assistant: it drafts as a model",
         drafter->file().path().c_str(), drafter->hparams().arch_name());
}

namespace {

// Drafts of the text must promise this factor over the drafter's.
constexpr double kLookupMargin = 1.02;

void check_length(int n_draft, size_t n_max) {
    if (n_draft < kDraftAuto || n_draft > kDraftMax)
        fail(Status::invalid_argument, "n_draft %d, allowed are 0 to %d and %d for auto", n_draft,
             kDraftMax, kDraftAuto);
    if (n_max < 1) fail(Status::invalid_argument, "a step returns at least one token, n_max is 0");
}

// Nothing guesses ahead.
class NoDrafter final : public Drafter {
  public:
    const char* kind() const override { return ""; }
    void draft(const Context&, const DraftRequest&, std::vector<int32_t>&) override {}
};

std::shared_ptr<Drafter> make_drafter(DrafterKind kind, std::shared_ptr<Model> drafter,
                                      Context& target, const PairOptions& o) {
    check_drafter_kind(kind, drafter.get());
    switch (kind) {
        case DrafterKind::none: break;
        case DrafterKind::lookup: return make_lookup_drafter(o.n_ngram);
        case DrafterKind::model: return make_model_drafter(std::move(drafter), target);
        case DrafterKind::assistant:
            target.replica_on(drafter->backend());
            return make_assistant_drafter(std::move(drafter), target.runner(), o);
    }
    return nullptr;
}

}  // namespace

Pair::Pair(std::shared_ptr<Context> target, DrafterKind kind, std::shared_ptr<Model> drafter,
           const PairOptions& o)
    : Pair(target, kind, make_drafter(kind, std::move(drafter), *target, o), o) {}

Pair::Pair(std::shared_ptr<Context> target, DrafterKind kind, std::shared_ptr<Drafter> drafter,
           const PairOptions& o)
    : target_(std::move(target)), kind_(kind),
      drafter_(drafter ? std::move(drafter) : std::make_shared<NoDrafter>()), p_min_(o.p_min),
      sampled_(o.sampled) {
    if (!(o.p_min >= 0 && o.p_min <= 1))
        fail(Status::invalid_argument, "p_min %g is outside 0 to 1", double(o.p_min));
    if (o.n_ngram < 1 || o.n_ngram > 64)
        fail(Status::invalid_argument, "n_ngram %d, allowed are 1 to 64", o.n_ngram);
    if (o.lookup && kind_ != DrafterKind::assistant)
        fail(Status::invalid_argument, "lookup goes with an assistant as drafter, this is %s",
             kind_ == DrafterKind::none ? "none" : drafter_->kind());
    if (o.lookup) lookup_ = std::make_unique<TextLookup>();
    reset_stats();
}

void Pair::reset_stats() {
    stats_ = PairStats();
    if (kind_ != DrafterKind::none) return;
    stats_.state = PairStats::State::off, stats_.reason = "there is no drafter";
}

void Pair::begin_text() {
    last_ = -1;
    open_ = {};
    length_.begin_text();
}

size_t Pair::sync(const int32_t* tokens, size_t n) {
    begin_text();
    return target_->sync(tokens, n);
}

// ---- the round in one call ----

RoundInfo Pair::step(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens,
                     size_t n_end, std::vector<int32_t>& out) {
    check_length(n_draft, n_max);
    refuse_open_run();
    const size_t before = out.size();
    Choosing choosing;
    choosing.sampler = &sampler, choosing.n_max = n_max;
    choosing.end_tokens = end_tokens, choosing.n_end = n_end;
    begin(&sampler);
    const Open open = open_;
    try {
        ask_drafter(sampler, n_draft, n_max, /*may_chain=*/true);
        if (open_.started) verify_chained();
        else verify(drafts_.data(), drafts_.size());
        return close(choosing, choose_rows(choosing, out), before, out);
    } catch (...) {
        // It may still write where the next run reads its tokens.
        drafter_->wait();
        // Restores the state before the round: no token is returned and no random number is drawn.
        out.resize(before);
        sampler.go_back(open.mark);
        open_ = {};
        if (!open.first) drop_run(open.length);
        throw;
    }
}

// ---- the round in three calls ----

const std::vector<int32_t>& Pair::propose(Sampler& sampler, int n_draft, size_t n_max) {
    check_length(n_draft, n_max);
    refuse_open_run();
    begin(&sampler);
    try {
        ask_drafter(sampler, n_draft, n_max, /*may_chain=*/false);
    } catch (...) {
        sampler.go_back(open_.mark);
        open_ = {};
        throw;
    }
    return drafts_;
}

void Pair::run(const int32_t* drafts, size_t n) {
    refuse_open_run();
    if (open_.stage == Open::Stage::proposed && !is_open(Open::Stage::proposed)) {
        open_ = {};
        fail(Status::invalid_argument,
             "the context was changed since the drafts were proposed: propose again");
    }
    if (open_.stage != Open::Stage::proposed) {
        begin(nullptr);
        drafts_.clear(), proposals_.clear();
    }
    try {
        verify(drafts, n);
    } catch (...) {
        run_failed();
        throw;
    }
}

RoundInfo Pair::take(const Choosing& choosing, std::vector<int32_t>& out) {
    if (open_.stage != Open::Stage::run)
        fail(Status::invalid_argument,
             "no round has been run: run drafts, or none, and then take the tokens");
    if (!is_open(Open::Stage::run)) {
        open_ = {};
        fail(Status::invalid_argument, "the context was changed since the run: its rows are gone");
    }
    check_choosing(choosing);
    const size_t before = out.size();
    Sampler* const sampler = choosing.chosen ? nullptr : choosing.sampler;
    const Sampler::Mark mark = sampler ? sampler->mark() : Sampler::Mark();
    try {
        return close(choosing, choose_rows(choosing, out), before, out);
    } catch (...) {
        out.resize(before);
        if (sampler) sampler->go_back(mark);
        throw;
    }
}

void Pair::abandon(Sampler* sampler) {
    const Open open = open_;
    const bool was_run = is_open(Open::Stage::run);
    open_ = {};
    if (was_run && !open.first) drop_run(open.length);
    if (sampler && open.stage != Open::Stage::none && open.sampler == sampler)
        sampler->go_back(open.mark);
}

// ---- shared parts ----

// Throws if a run is open: its round would be lost, and its rows would stay in the cache.
void Pair::refuse_open_run() const {
    if (is_open(Open::Stage::run))
        fail(Status::invalid_argument,
             "a round was run and its tokens were not taken yet: take or abandon them first");
}

void Pair::begin(const Sampler* sampler) {
    open_ = {};
    const bool first = !has_last();
    if (first && target_->outputs().rows() == 0)
        fail(
            Status::invalid_argument,
            "the context has no logits to go on from: run a prompt with at least one output first");
    if (!first && target_->length() >= target_->n_ctx())
        fail(Status::context_full, "the context is full: n_ctx %d", target_->n_ctx());
    open_.first = first;
    open_.length = target_->length();
    open_.generation = target_->generation();
    open_.sampler = sampler;
    if (sampler) open_.mark = sampler->mark();
    if (lookup_) look_up();
}

// Looks for drafts in the text, and keeps them for this round if they promise more than the
// drafter's: in its place as far as they go, and the drafter goes on behind them.
void Pair::look_up() {
    length_.expect(nullptr, 0);
    lookup_->forget();
    if (open_.first) return;
    lookup_->look(target_->tokens(), last_, size_t(kDraftMax));
    const int n = int(lookup_->found().size());
    if (n == 0) return;
    const double without = length_.best_rate();
    double chances[kDraftMax];
    for (int i = 0; i < n; i++) chances[i] = lookup_->acceptance(i);
    length_.expect(chances, n);
    if (length_.best_rate() > kLookupMargin * without) open_.looked_up = n;
    else length_.expect(nullptr, 0);
}

// Takes up to k drafts from the text. True if the drafter goes on behind them.
bool Pair::draft_from_text(int k, bool draws) {
    const std::vector<int32_t>& found = lookup_->found();
    open_.looked_up = std::min(k, open_.looked_up);
    drafts_.assign(found.begin(), found.begin() + open_.looked_up);
    // Drawn from a distribution of one token, for the rejection.
    for (size_t i = 0; draws && i < drafts_.size(); i++) proposals_.push_back({{drafts_[i], 1.0f}});
    return open_.looked_up < k && !hidden_.empty();
}

// Undoes a run. If even that fails (after a broken run), the chosen token is lost and the target
// reports a shorter length.
void Pair::drop_run(int length) {
    if (target_->length() > length) target_->drop_last(target_->length() - length);
    if (target_->length() == length) generation_ = target_->generation();
}

int Pair::room() const {
    if (!has_last()) return 0;
    return std::max(0, std::min({kDraftMax, target_->n_ctx() - target_->length() - 1,
                                 target_->outputs().rows_max() - 1}));
}

// Limits the draft: the last token and the drafts must fit context and outputs, and the round must
// return at most the wanted tokens.
DraftLength::Choice Pair::choose_length(int n_draft, size_t n_max, bool joint) {
    const int most = draft_limits(n_max).most;
    if (kind_ == DrafterKind::none) return {};
    if (n_draft == 0 && !joint) {
        stats_.state = PairStats::State::off,
        stats_.reason = "switched off for this call (n_draft 0)";
        return {};
    }
    if (target_->outputs().rows_max() < 2) {
        stats_.state = PairStats::State::off,
        stats_.reason =
            "the context returns one output row, verifying a draft needs two (n_outputs, n_batch)";
        return {};
    }
    DraftLength::Choice choice = {n_draft, INT_MAX};
    if (n_draft == kDraftAuto) choice = length_.choose(drafter_->unread(*target_));
    if (choice.n > 0) stats_.state = PairStats::State::on, stats_.reason.clear();
    else
        stats_.state = PairStats::State::paused,
        stats_.reason =
            joint ? "drafts would not pay off beside the other sequences" : length_.why_not();
    choice.n = std::max(0, std::min(choice.n, most));
    return choice;
}

const DraftRequest* Pair::request_draft(Sampler& sampler, int n_draft, size_t n_max, bool joint) {
    drafts_.clear(), proposals_.clear();
    open_.stage = Open::Stage::proposed;
    if (open_.first) return nullptr;
    const auto [k, window] = choose_length(n_draft, n_max, joint);
    open_.wanted = k;
    if (k == 0) return nullptr;
    Sampler* const draws = sampled_ && !sampler.is_greedy() ? &sampler : nullptr;
    request_ = {last_, hidden_.empty() ? nullptr : hidden_.data(), k, p_min_, draws, &proposals_,
                window};
    if (open_.looked_up == 0) return &request_;
    if (!draft_from_text(k, draws != nullptr)) return nullptr;
    request_.n = k - open_.looked_up;
    request_.prefix = lookup_->found().data(), request_.n_prefix = open_.looked_up;
    return &request_;
}

void Pair::ask_drafter(Sampler& sampler, int n_draft, size_t n_max, bool may_chain) {
    Stopwatch watch;
    if (!request_draft(sampler, n_draft, n_max, /*joint=*/false)) {
        open_.draft_ms = drafts_.empty() ? 0 : watch.lap_ms();
        return;
    }
    open_.started = may_chain && drafter_->start(*target_, request_);
    if (!open_.started) drafter_->draft(*target_, request_, drafts_);
    // For a draft started on a device: the time to enqueue it.
    open_.draft_ms = watch.lap_ms();
}

void Pair::open_round(Sampler& sampler, int n_draft, size_t n_max) {
    check_length(n_draft, n_max);
    refuse_open_run();
    begin(&sampler);
}

Pair::DraftLimits Pair::draft_limits(size_t n_max) {
    return {std::min(room(), int(std::min<size_t>(n_max - 1, kDraftMax))),
            kind_ != DrafterKind::none};
}

void Pair::set_rows(const int32_t* drafts, size_t n) {
    rows_.clear();
    const int n_vocab = target_->model().hparams().n_vocab;
    if (n > size_t(room()))
        fail(Status::invalid_argument,
             open_.first
                 ? "%zu drafts right after a prompt, where %d can be run: its logits are there"
                 : "%zu drafts, this run has room for %d (of outputs, of the context, of a round)",
             n, room());
    for (size_t i = 0; i < n; i++)
        if (drafts[i] < 0 || drafts[i] >= n_vocab)
            fail(Status::invalid_argument, "draft %zu is token %d, the vocabulary has %d", i,
                 drafts[i], n_vocab);
    if (open_.first) return;
    rows_.assign(1, last_);
    rows_.insert(rows_.end(), drafts, drafts + n);
}

void Pair::verify(const int32_t* drafts, size_t n) {
    set_rows(drafts, n);
    Stopwatch watch;
    if (!rows_.empty()) target_->eval(rows_.data(), rows_.size(), int(rows_.size()));
    has_run(open_.first ? 0 : watch.lap_ms(), /*alone=*/true);
}

void Pair::verify_chained() {
    Stopwatch watch;
    target_->eval_after_draft(last_, open_.wanted + 1, rows_);
    drafts_.assign(rows_.begin() + 1, rows_.end());
    has_run(watch.lap_ms(), /*alone=*/true);
}

void Pair::run_failed() {
    if (!open_.first) drop_run(open_.length);
    if (target_->length() == open_.length) open_.generation = target_->generation();
}

void Pair::has_run(double verify_ms, bool alone) {
    open_.alone = alone;
    open_.stage = Open::Stage::run;
    open_.generation = target_->generation();
    open_.verify_ms = verify_ms;
    const size_t most = std::min(drafts_.size(), n_drafts());
    size_t kept = 0;
    while (kept < most && drafts_[kept] == rows_[kept + 1]) kept++;
    open_.kept = int(kept);
}

void Pair::check_choosing(const Choosing& c) const {
    if (c.n_max < 1)
        fail(Status::invalid_argument, "a round returns at least one token, n_max is 0");
    const int n_vocab = target_->model().hparams().n_vocab;
    const size_t rows = n_drafts() + 1, words = TokenMask::n_words(n_vocab);
    if (c.masks && c.n_mask_words != rows * words)
        fail(Status::invalid_argument,
             "masks of %zu words, those of %zu rows of %d tokens have %zu", c.n_mask_words, rows,
             n_vocab, rows * words);
    if (!c.chosen) return;
    if (c.n_chosen == 0)
        fail(Status::invalid_argument, "a round returns at least one token, none was chosen");
    for (size_t i = 0; i < c.n_chosen; i++)
        if (c.chosen[i] < 0 || c.chosen[i] >= n_vocab)
            fail(Status::invalid_argument, "chosen token %zu is %d, the vocabulary has %d", i,
                 c.chosen[i], n_vocab);
}

// Chooses the tokens of the rows; row i predicts the token after rows_[i]. A chosen token stands,
// and a draft that equals it was right. Returns the last row that counts.
int Pair::choose_rows(const Choosing& c, std::vector<int32_t>& out) {
    open_.choosing.lap_ms();
    for (size_t m = 0;; m++) {
        const int32_t token = c.chosen ? c.chosen[m] : choose_token(c, int(m));
        if (!c.chosen) c.sampler->accept(token);
        out.push_back(token);
        const bool ends =
            std::find(c.end_tokens, c.end_tokens + c.n_end, token) != c.end_tokens + c.n_end;
        if (m == n_drafts() || token != rows_[m + 1] || ends || m + 1 == c.n_max) return int(m);
        if (c.chosen && m + 1 == c.n_chosen) return int(m);
    }
}

// The sampler's own choice. A row's logits do not depend on the rows beside it, so the tokens equal
// those of plain steps, by the same random numbers. For a drawn draft, rejection keeps the
// distribution instead of the token. This includes the first draft that was not run: which drafts
// are left out depends on the drafts themselves, so the token of that row must compensate for it.
int32_t Pair::choose_token(const Choosing& c, int row) {
    const int n_vocab = target_->model().hparams().n_vocab;
    TokenMask mask;
    if (c.masks) mask.words = c.masks + size_t(row) * TokenMask::n_words(n_vocab);
    if (size_t(row) >= proposals_.size() || row > open_.kept)
        return sample_output(*c.sampler, *target_, first_row() + row, mask);
    weights_.resize(size_t(n_vocab));
    const Distribution& p =
        c.sampler->distribution({target_->outputs().logits(row), nullptr, n_vocab}, mask);
    return accept_or_resample(*c.sampler, p, proposals_[size_t(row)], drafts_[size_t(row)],
                              weights_);
}

// Keeps the rows up to `last_row` and the data that the next draft starts from.
RoundInfo Pair::close(const Choosing& c, int last_row, size_t before,
                      const std::vector<int32_t>& out) {
    const int run = int(n_drafts());
    // The text ended with an accepted draft, whose row is not kept.
    const bool cut = last_row < run && out.back() == rows_[size_t(last_row) + 1];
    const int accepted = last_row + (cut ? 1 : 0);
    RoundInfo info;
    info.drafted = int(drafts_.size());
    info.accepted = std::min(accepted, open_.kept), info.forced = accepted - info.accepted;
    remember_hidden(first_row() + last_row);
    if (!open_.first) target_->drop_last(run - last_row);
    last_ = out.back(), generation_ = target_->generation();
    info.ended = std::find(c.end_tokens, c.end_tokens + c.n_end, last_) != c.end_tokens + c.n_end;
    info.draft_ms = open_.draft_ms, info.verify_ms = open_.verify_ms;
    info.accept_ms = open_.choosing.lap_ms();
    if (lookup_ && !open_.first) lookup_->learn(out.data() + before, out.size() - before);
    if (!open_.first && !open_.alone) length_.count(info.drafted, info.accepted, open_.looked_up);
    else if (!open_.first)
        length_.update({info.drafted, info.accepted, open_.kept, 1 + run, info.draft_ms,
                        info.verify_ms,
                        open_.wanted > 0 ? drafter_->last_reading() : DraftLength::Reading(),
                        open_.looked_up});
    count(info, out.size() - before);
    open_ = {};
    return info;
}

// Stores the hidden row that the next draft starts from.
void Pair::remember_hidden(int row) {
    hidden_.clear();
    if (!drafter_->needs_hidden()) return;
    const float* hidden = target_->outputs().hidden(row);
    hidden_.assign(hidden, hidden + target_->model().hparams().n_embd);
}

void Pair::draft_only(int32_t last, int n, std::vector<int32_t>& out) {
    refuse_open_run();
    if (n < 1 || n > kDraftMax)
        fail(Status::invalid_argument, "%d drafts, allowed are 1 to %d", n, kDraftMax);
    if (last < 0 || last >= target_->model().hparams().n_vocab)
        fail(Status::invalid_argument, "token %d, the vocabulary has %d", last,
             target_->model().hparams().n_vocab);
    // After a round, hidden_ is the row of the last kept position; otherwise use the last output's
    // row.
    const float* hidden = nullptr;
    if (drafter_->needs_hidden() && target_->length() > 0) {
        if (generation_ == target_->generation() && !hidden_.empty()) hidden = hidden_.data();
        else if (target_->outputs().rows() > 0)
            hidden = target_->outputs().hidden(target_->outputs().rows() - 1);
        else
            fail(Status::invalid_argument,
                 "the context has no hidden row to draft from: run a prompt with at least one "
                 "output first");
    }
    drafter_->draft(*target_, {last, hidden, n, p_min_, nullptr, nullptr}, out);
}

std::string Pair::to_json() {
    const std::string backend = drafter_->backend();
    return JsonObject()
        .add("kind", kind())
        .add("head", drafter_->head())
        .add("backend", backend.empty() ? Json(nullptr) : Json(backend))
        .add("n_read", drafter_->n_read())
        .add("plan", drafter_->plan_json())
        .text();
}

void Pair::count(const RoundInfo& info, size_t n_tokens) {
    stats_.tokens += n_tokens;
    stats_.draft_ms += info.draft_ms, stats_.verify_ms += info.verify_ms,
        stats_.accept_ms += info.accept_ms;
    stats_.forced += uint64_t(info.forced);
    if (info.drafted == 0) return;
    stats_.rounds++;
    stats_.drafted += uint64_t(info.drafted), stats_.accepted += uint64_t(info.accepted);
    for (int i = 0; i < info.drafted; i++) stats_.drafted_at[i]++;
    for (int i = 0; i < info.accepted; i++) stats_.accepted_at[i]++;
}

}  // namespace pillion
