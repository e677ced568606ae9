#include "speculative/batch.h"

#include <algorithm>

namespace pillion {
namespace {

// Logits of so many rows at most: 128 MB of them at Gemma 4's vocabulary.
constexpr int kOutputsMost = 128;

void check(const BatchOptions& o) {
    if (o.n_sequences < 1 || o.n_sequences > BatchOptions::kMost)
        fail(Status::invalid_argument, "n_sequences %d, allowed are 1 to %d", o.n_sequences,
             BatchOptions::kMost);
    if (o.n_positions < 0)
        fail(Status::invalid_argument, "n_positions %lld must not be negative",
             static_cast<long long>(o.n_positions));
}

int count_pages(const BatchOptions& batch, const ContextOptions& o) {
    constexpr int64_t kPage = KvPool::kPage;
    const int64_t each = (o.n_ctx + kPage - 1) / kPage, all = batch.n_sequences * each;
    if (batch.n_positions == 0) return int(all);
    return int(std::min(all, std::max(each, (batch.n_positions + kPage - 1) / kPage)));
}

// It makes a round, and nothing has gone wrong so far.
bool rounds_on(const BatchEntry& e) { return !e.tokens && e.code == Status::ok; }

}  // namespace

Batch::Batch(std::shared_ptr<Model> model, DrafterKind kind, std::shared_ptr<Model> drafter,
             const ContextOptions& options, const PairOptions& pair, const BatchOptions& batch)
    : model_(std::move(model)), drafter_model_(std::move(drafter)), kind_(kind), options_(options),
      pair_options_(pair), batch_(batch) {
    check(batch_);
    check_drafter_kind(kind_, drafter_model_.get());
    Backend* drafts_on = drafter_model_ ? &drafter_model_->backend() : nullptr;
    const Placement& placement = model_->placement();
    const bool is_batched = can_batch(placement, drafts_on);
    if (is_batched) few_rows_ = std::max(placement.front->few_rows(), placement.back->few_rows());
    const int most = few_rows_ > 0 ? few_rows_ : kOutputsMost;
    if (is_batched && options_.n_outputs == 0)
        options_.n_outputs = std::min(most, batch_.n_sequences * (kDraftMax + 1));
    options_ = checked_options(*model_, options_);
    if (!is_batched) return;
    if (few_rows_ > 0) options_.n_outputs = std::min(options_.n_outputs, few_rows_);
    runner_ = std::make_shared<Runner>(model_, options_, batch_.n_sequences,
                                       count_pages(batch_, options_));
    if (kind_ != DrafterKind::assistant) return;
    runner_->add_replicas(*drafts_on);
    drafter_ = make_assistant_drafter(drafter_model_, *runner_, pair_options_, batch_.n_sequences);
}

std::string Batch::why_in_turn() const {
    if (runner_) return "";
    return "a device of this model runs rows of one sequence at a time: the sequences run in turn";
}

std::shared_ptr<Context> Batch::make_context() {
    contexts_.erase(std::remove_if(contexts_.begin(), contexts_.end(),
                                   [](const auto& c) { return c.expired(); }),
                    contexts_.end());
    if (contexts_.size() >= size_t(batch_.n_sequences))
        fail(Status::context_full, "all %d sequences of the batch are in use", batch_.n_sequences);
    auto context =
        runner_ ? std::make_shared<Context>(runner_) : std::make_shared<Context>(model_, options_);
    contexts_.push_back(context);
    return context;
}

std::unique_ptr<Pair> Batch::make_pair(std::shared_ptr<Context> context) {
    if (runner_ && &context->runner() != runner_.get())
        fail(Status::invalid_argument, "the context is not one of this batch");
    if (drafter_) return std::make_unique<Pair>(std::move(context), kind_, drafter_, pair_options_);
    return std::make_unique<Pair>(std::move(context), kind_, drafter_model_, pair_options_);
}

void Batch::cancel_in_turn() {
    for (const auto& one : contexts_)
        if (const auto context = one.lock()) context->cancel();
}

void Batch::clear_cancel() {
    if (runner_) return runner_->clear_cancel();
    for (const auto& one : contexts_)
        if (const auto context = one.lock()) context->clear_cancel();
}

std::string Batch::to_json() const {
    return JsonObject()
        .add("batched", is_batched())
        .add("why", why_in_turn())
        .add("n_sequences", n_sequences())
        .add("n_ctx", options_.n_ctx)
        .add("n_batch", options_.n_batch)
        .add("n_outputs", options_.n_outputs)
        .add("few_rows", few_rows_)
        .add("n_pages", n_pages())
        .add("page", KvPool::kPage)
        .text();
}

// ---- draft ----

void Batch::draft(std::vector<BatchEntry>& entries) {
    for (BatchEntry& e : entries)
        e.code = Status::ok, e.error.clear(), e.drafts.clear(), e.has_run = false;
    if (!runner_) return draft_in_turn(entries);
    for (BatchEntry& e : entries)
        if (!e.tokens) try_entry(e, [&] { e.pair->open_round(*e.sampler, e.n_draft, e.n_max); });
    const std::vector<int> lengths = choose_lengths(entries);

    Stopwatch watch;
    std::vector<BatchEntry*> asked;
    std::vector<Drafter::Entry> requests;  // to the drafter of all
    for (size_t i = 0; i < entries.size(); i++) {
        BatchEntry& e = entries[i];
        if (!rounds_on(e)) continue;
        const DraftRequest* r =
            e.pair->request_draft(*e.sampler, lengths[i], e.n_max, e.n_draft == kDraftAuto);
        if (!r) {
            e.drafts = e.pair->drafts();  // of the text alone
            continue;
        }
        asked.push_back(&e);
        if (&e.pair->drafter() == drafter_.get())
            requests.push_back({&e.pair->target(), r, &e.pair->drafts()});
        else if (!try_entry(e, [&] {
                     e.pair->drafter().draft(e.pair->target(), *r, e.pair->drafts());
                 }))
            e.pair->abandon(e.sampler);
    }
    try {
        if (!requests.empty()) drafter_->draft_all(requests);
    } catch (...) {
        abandon(entries);
        throw;
    }
    stats_.last_draft_ms = asked.empty() ? 0 : watch.lap_ms();
    for (BatchEntry* e : asked) {
        if (e->code != Status::ok) continue;
        e->pair->has_drafted(stats_.last_draft_ms);
        e->drafts = e->pair->drafts();
    }
}

// One length for each entry; 0 for those that make no round.
std::vector<int> Batch::choose_lengths(const std::vector<BatchEntry>& entries) {
    std::vector<size_t> which;
    std::vector<RowBudget::Entry> asked;
    RowBudget::Limits limits;
    limits.most_rows = std::min(options_.n_outputs, options_.n_batch);
    size_t prompt_rows = 0;
    for (size_t i = 0; i < entries.size(); i++) {
        const BatchEntry& e = entries[i];
        if (e.tokens) prompt_rows += std::min(e.n_rows, e.n_tokens);
        if (!rounds_on(e)) continue;
        Pair& pair = *e.pair;
        const Pair::DraftLimits limit = pair.draft_limits(e.n_max);
        which.push_back(i);
        asked.push_back({&pair.acceptance(), &pair.budget_history(), limit.drafts ? limit.most : 0,
                         e.n_draft == kDraftAuto ? -1 : std::min(e.n_draft, limit.most),
                         pair.target().length()});
    }
    limits.other_rows = int(std::min(prompt_rows, size_t(options_.n_batch)));
    std::vector<int> lengths(entries.size(), 0), chosen;
    if (!asked.empty()) budget_.choose(asked, limits, chosen);
    for (size_t k = 0; k < which.size(); k++) {
        const int n_draft = entries[which[k]].n_draft;
        lengths[which[k]] = n_draft == kDraftAuto ? chosen[k] : n_draft;
    }
    return lengths;
}

void Batch::draft_in_turn(std::vector<BatchEntry>& entries) {
    for (BatchEntry& e : entries)
        if (!e.tokens)
            try_entry(e, [&] { e.drafts = e.pair->propose(*e.sampler, e.n_draft, e.n_max); });
}

void Batch::abandon(std::vector<BatchEntry>& entries) {
    for (BatchEntry& e : entries) e.pair->abandon(e.sampler);
}

// ---- run ----

void Batch::run(std::vector<BatchEntry>& entries) {
    stats_.last_rows = stats_.last_entries = 0;
    if (!runner_) return run_in_turn(entries);
    std::vector<Part> parts;
    for (BatchEntry& e : entries)
        if (rounds_on(e)) add_round(e, parts);
    size_t rows = 0;
    for (const Part& p : parts) rows += size_t(p.run.n_rows);
    const bool has_rounds = rows > 0;
    for (BatchEntry& e : entries) {
        if (!e.tokens || e.code != Status::ok) continue;
        const size_t n_batch = size_t(few_rows_ > 0 && has_rounds ? 0 : options_.n_batch);
        add_prompt(e, parts, n_batch - std::min(n_batch, rows));
        rows += e.n_ran;
    }
    if (!parts.empty()) run_parts(parts);
}

void Batch::add_round(BatchEntry& e, std::vector<Part>& parts) {
    const bool fits = try_entry(e, [&] {
        e.pair->set_rows(e.drafts.data(), e.drafts.size());
        const std::vector<int32_t>& rows = e.pair->rows();
        if (rows.empty()) {
            e.pair->has_run(0, /*alone=*/true);
            e.has_run = true;
            return;
        }
        check_pages(e.pair->target().kv(), int(rows.size()), parts);
        parts.push_back(
            {&e, e.pair->target().part(rows.data(), rows.size(), int(rows.size())), false});
    });
    if (!fits) e.pair->abandon(e.sampler);
}

void Batch::add_prompt(BatchEntry& e, std::vector<Part>& parts, size_t rows_left) {
    e.n_reused = e.n_ran = 0, e.n_left = e.n_tokens;
    try_entry(e, [&] {
        Context& target = e.pair->target();
        e.pair->begin_text();
        e.n_reused = target.begin_text(e.tokens, e.n_tokens, e.n_tokens);
        const size_t left = e.n_tokens - e.n_reused;
        const size_t rows = target.rows_to_run(e.tokens + e.n_reused, left, e.n_rows, rows_left);
        e.n_left = left;
        if (rows == 0) return;
        const bool completes = rows == left;
        check_pages(target.kv(), int(rows), parts);
        parts.push_back(
            {&e, target.part(e.tokens + e.n_reused, rows, completes ? 1 : 0), completes});
        e.n_ran = rows;
    });
}

// What the pool has must do for all parts.
void Batch::check_pages(const KvCache& kv, int rows, std::vector<Part>& parts) const {
    int needed = kv.pages_needed(rows);
    for (const Part& p : parts) needed += p.run.kv->pages_needed(p.run.n_rows);
    if (needed > n_free_pages())
        fail(Status::context_full,
             "the cache of the batch is full: %d of its %d pages of %d positions are free, the run "
             "needs %d",
             n_free_pages(), n_pages(), KvPool::kPage, needed);
}

void Batch::check_room(const std::vector<Part>& parts) const {
    int rows = 0, outputs = 0;
    for (const Part& p : parts) rows += p.run.n_rows, outputs += p.run.n_outputs;
    if (rows > options_.n_batch || outputs > options_.n_outputs)
        fail(Status::invalid_argument,
             "%d rows with %d outputs, a run of this batch takes %d with %d (n_batch, n_outputs)",
             rows, outputs, options_.n_batch, options_.n_outputs);
}

void Batch::run_parts(std::vector<Part>& parts) {
    std::vector<RunPart> runs;
    for (const Part& p : parts) runs.push_back(p.run);
    Stopwatch watch;
    try {
        check_room(parts);
        runner_->run(runs.data(), runs.size());
    } catch (...) {
        for (const Part& p : parts) {
            p.entry->n_ran = 0;
            if (!p.entry->tokens) p.entry->pair->run_failed();
        }
        throw;
    }
    const double ms = watch.lap_ms();
    int outputs = 0, rows = 0;
    for (const Part& p : parts) outputs += p.run.n_outputs, rows += p.run.n_rows;
    runner_->outputs().set_rows(outputs);
    int first = 0;
    for (const Part& p : parts) {
        BatchEntry& e = *p.entry;
        e.pair->target().has_run(p.run, first);
        first += p.run.n_outputs;
        if (!e.tokens) {
            e.pair->has_run(ms, parts.size() == 1);
            e.has_run = true;
            continue;
        }
        e.n_left -= e.n_ran;
        if (!p.completes || !e.sampler) continue;
        e.has_run = try_entry(e, [&] {
            e.pair->open_round(*e.sampler, e.n_draft, e.n_max);
            e.pair->set_rows(nullptr, 0);
            e.pair->has_run(0, /*alone=*/true);
        });
    }
    measured(parts, ms);
    stats_.runs++, stats_.rows += uint64_t(rows);
    stats_.last_rows = rows, stats_.last_entries = int(parts.size()), stats_.last_run_ms = ms;
}

void Batch::measured(const std::vector<Part>& parts, double run_ms) {
    RowBudget::Outcome o;
    for (const Part& p : parts) {
        if (p.entry->tokens) {
            o.other_rows += p.run.n_rows;
            continue;
        }
        const int drafted = int(p.entry->pair->drafts().size());
        o.n_entries++, o.rows += p.run.n_rows;
        o.positions += p.run.kv->length() - p.run.n_rows;
        o.steps = std::max(o.steps, drafted), o.n_drafting += drafted > 0;
    }
    o.run_ms = run_ms, o.draft_ms = o.steps > 0 ? stats_.last_draft_ms : 0;
    if (o.n_entries > 0) budget_.update(o);
}

void Batch::run_in_turn(std::vector<BatchEntry>& entries) {
    for (BatchEntry& e : entries) {
        if (e.code != Status::ok) continue;
        const bool ran = try_entry(e, [&] {
            if (!e.tokens) {
                e.pair->run(e.drafts.data(), e.drafts.size());
                e.has_run = true;
                return;
            }
            Context& target = e.pair->target();
            const size_t usable = target.usable(target.common(e.tokens, e.n_tokens));
            const bool completes = e.n_tokens - usable <= e.n_rows;
            if (completes) e.n_reused = e.pair->sync(e.tokens, e.n_tokens);
            else e.n_reused = target.read(e.tokens, e.n_tokens, e.n_rows);
            e.n_ran = size_t(target.length()) - e.n_reused;
            e.n_left = e.n_tokens - e.n_reused - e.n_ran;
            if (!completes || !e.sampler) return;
            e.pair->open_round(*e.sampler, e.n_draft, e.n_max);
            e.pair->run(nullptr, 0);
            e.has_run = true;
        });
        if (ran || (e.code != Status::cancelled && e.code != Status::device_lost)) continue;
        abandon(entries);  // as where one run has the rows of all
        throw Error(e.code, e.error);
    }
}

// ---- take ----

RoundInfo Batch::take(BatchEntry& e, const Choosing& choosing, std::vector<int32_t>& out) {
    const RoundInfo info = e.pair->take(choosing, out);
    e.has_run = false;
    return info;
}

}  // namespace pillion
