#include <string.h>

#include <algorithm>
#include <optional>

#include "api/handles.h"

using namespace pillion;
using namespace pillion::api;

static_assert(kDraftMax == PILLION_DRAFT_MAX && kDraftAuto == PILLION_DRAFT_AUTO,
              "pillion.h and speculative/ agree");
static_assert(int(DrafterKind::none) == PILLION_DRAFTER_NONE &&
                  int(DrafterKind::lookup) == PILLION_DRAFTER_LOOKUP &&
                  int(DrafterKind::model) == PILLION_DRAFTER_MODEL &&
                  int(DrafterKind::assistant) == PILLION_DRAFTER_ASSISTANT,
              "pillion.h and speculative/ agree");

namespace {

template <class F>
pillion_status with_pair(const pillion_pair* pair, F&& body) noexcept {
    return guard([&] {
        need(pair, "pair");
        pair->origin.check(pair->on_device(), "this pair");
        const Claim claim(*pair->inside);
        body(*pair->pair);
    });
}

void write_round(const RoundInfo& r, pillion_round_info* info, size_t size) {
    if (!info) return;
    const pillion_round_info i = {0,
                                  r.drafted,
                                  r.accepted,
                                  r.ended,
                                  float(r.draft_ms),
                                  float(r.verify_ms),
                                  float(r.accept_ms),
                                  r.forced};
    write_info(info, size, &i, sizeof i);
}

}  // namespace

PairOptions pillion::api::pair_options(const pillion_pair_config* config) {
    const pillion_pair_config c =
        read_config(config, pillion_pair_config_init, "pillion_pair_config");
    PairOptions o;
    o.dense_head = c.dense_head != 0, o.strict = c.strict != 0, o.sampled = c.sampled != 0;
    if (c.n_ngram != 0) o.n_ngram = c.n_ngram;
    o.p_min = c.p_min, o.lookup = c.lookup != 0;
    return o;
}

DrafterKind pillion::api::drafter_kind(int32_t kind) {
    if (kind < PILLION_DRAFTER_NONE || kind > PILLION_DRAFTER_ASSISTANT)
        fail(Status::invalid_argument, "kind %d, allowed are PILLION_DRAFTER_NONE (%d) to %d", kind,
             PILLION_DRAFTER_NONE, PILLION_DRAFTER_ASSISTANT);
    return DrafterKind(kind);
}

extern "C" {

void pillion_choice_init(pillion_choice* choice, size_t size) { init_config(choice, size); }

void pillion_pair_config_init(pillion_pair_config* config, size_t size) {
    init_config(config, size);
}

pillion_status pillion_pair_new(pillion_context* target, int32_t kind, pillion_model* drafter,
                                const pillion_pair_config* config, pillion_pair** pair) {
    return guard([&] {
        need(target, "target"), need(pair, "pair");
        const PairOptions o = pair_options(config);
        const DrafterKind which = drafter_kind(kind);
        target->origin.check(target->context->on_device(), "the target");
        const Claim claim(*target->inside);
        target->context->clear_cancel();  // a drafter elsewhere may have to run the text again
        auto handle = std::make_unique<pillion_pair>();
        const auto model = drafter ? drafter->shared->to_run() : nullptr;
        handle->pair = std::make_unique<Pair>(target->context, which, model, o);
        handle->inside = target->inside;
        handle->drafter_on_device = model && on_device(*model);
        *pair = handle.release();
    });
}

pillion_status pillion_pair_json(const pillion_pair* pair, char* out, size_t capacity,
                                 size_t* needed) {
    return with_pair(pair, [&](Pair& p) { write_text(p.to_json(), out, capacity, needed); });
}

void pillion_pair_free(pillion_pair* pair) {
    if (pair && can_free(pair->origin, pair->on_device(), *pair->inside)) delete pair;
}

pillion_status pillion_pair_step(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                 size_t n_max, const int32_t* end_tokens, size_t n_end,
                                 int32_t* tokens, size_t capacity, size_t* n,
                                 pillion_round_info* info, size_t info_size) {
    return with_pair(pair, [&](Pair& p) {
        need(sampler, "sampler"), need(tokens, "tokens"), need(n, "n");
        if (n_end > 0) need(end_tokens, "end_tokens");
        if (capacity < 1)
            fail(Status::buffer_too_small,
                 "a step returns at least one token, the buffer has room for none");
        const Claim claim(sampler->inside);
        p.target().clear_cancel();
        std::vector<int32_t> out;
        const RoundInfo r =
            p.step(*sampler->sampler, n_draft, std::min(n_max, capacity), end_tokens, n_end, out);
        std::copy(out.begin(), out.end(), tokens);
        *n = out.size();
        write_round(r, info, info_size);
    });
}

pillion_status pillion_pair_room(const pillion_pair* pair, size_t* n) {
    return with_pair(pair, [&](Pair& p) { need(n, "n") = size_t(p.next_room()); });
}

pillion_status pillion_pair_propose(pillion_pair* pair, pillion_sampler* sampler, int32_t n_draft,
                                    size_t n_max, int32_t* drafts, size_t capacity, size_t* n) {
    return with_pair(pair, [&](Pair& p) {
        need(sampler, "sampler"), need(drafts, "drafts"), need(n, "n");
        if (capacity < size_t(kDraftMax))
            fail(Status::buffer_too_small,
                 "a proposal has up to %d drafts, the buffer has room for %zu", kDraftMax,
                 capacity);
        const Claim claim(sampler->inside);
        p.target().clear_cancel();
        const std::vector<int32_t>& found = p.propose(*sampler->sampler, n_draft, n_max);
        std::copy(found.begin(), found.end(), drafts);
        *n = found.size();
    });
}

pillion_status pillion_pair_run(pillion_pair* pair, const int32_t* drafts, size_t n,
                                size_t* first_row) {
    return with_pair(pair, [&](Pair& p) {
        if (n > 0) need(drafts, "drafts");
        p.target().clear_cancel();
        p.run(drafts, n);
        if (first_row) *first_row = size_t(p.first_row());
    });
}

pillion_status pillion_pair_take(pillion_pair* pair, pillion_sampler* sampler, size_t n_max,
                                 const int32_t* end_tokens, size_t n_end,
                                 const pillion_choice* choice, int32_t* tokens, size_t capacity,
                                 size_t* n, pillion_round_info* info, size_t info_size) {
    return with_pair(pair, [&](Pair& p) {
        need(tokens, "tokens"), need(n, "n");
        if (n_end > 0) need(end_tokens, "end_tokens");
        if (capacity < 1)
            fail(Status::buffer_too_small,
                 "a round returns at least one token, the buffer has room for none");
        const pillion_choice c = read_config(choice, pillion_choice_init, "pillion_choice");
        if (c.n_mask_words > 0) need(c.masks, "masks");
        if (c.n_chosen > 0) need(c.chosen, "chosen");
        if (!c.chosen) need(sampler, "sampler");
        std::optional<Claim> claim;
        Choosing choosing;
        if (!c.chosen) claim.emplace(sampler->inside), choosing.sampler = sampler->sampler.get();
        choosing.n_max = std::min(n_max, capacity);
        choosing.end_tokens = end_tokens, choosing.n_end = n_end;
        choosing.masks = c.masks, choosing.n_mask_words = size_t(c.n_mask_words);
        choosing.chosen = c.chosen, choosing.n_chosen = size_t(c.n_chosen);
        std::vector<int32_t> out;
        const RoundInfo r = p.take(choosing, out);
        std::copy(out.begin(), out.end(), tokens);
        *n = out.size();
        write_round(r, info, info_size);
    });
}

pillion_status pillion_pair_abandon(pillion_pair* pair, pillion_sampler* sampler) {
    return with_pair(pair, [&](Pair& p) {
        std::optional<Claim> claim;
        if (sampler) claim.emplace(sampler->inside);
        p.abandon(sampler ? sampler->sampler.get() : nullptr);
    });
}

pillion_status pillion_pair_sync(pillion_pair* pair, const int32_t* tokens, size_t n,
                                 size_t* n_reused) {
    return with_pair(pair, [&](Pair& p) {
        if (n > 0) need(tokens, "tokens");
        p.target().clear_cancel();
        const size_t reused = p.sync(tokens, n);
        if (n_reused) *n_reused = reused;
    });
}

pillion_status pillion_pair_get_stats(const pillion_pair* pair, pillion_pair_stats* stats,
                                      size_t size) {
    return with_pair(pair, [&](Pair& p) {
        const PairStats& s = p.stats();
        pillion_pair_stats o = {};
        o.state = int32_t(s.state);
        o.rounds = s.rounds, o.tokens = s.tokens, o.drafted = s.drafted, o.accepted = s.accepted;
        std::copy(s.drafted_at, s.drafted_at + kDraftMax, o.drafted_at);
        std::copy(s.accepted_at, s.accepted_at + kDraftMax, o.accepted_at);
        o.forced = s.forced;
        o.draft_ms = s.draft_ms, o.verify_ms = s.verify_ms, o.accept_ms = s.accept_ms;
        o.n_draft = p.preview_length();
        snprintf(o.kind, sizeof o.kind, "%s", p.kind());
        snprintf(o.head, sizeof o.head, "%s", p.drafter().head());
        snprintf(o.reason, sizeof o.reason, "%s",
                 s.reason.empty() ? p.drafter().note() : s.reason.c_str());
        write_info(stats, size, &o, sizeof o);
    });
}

pillion_status pillion_pair_reset_stats(pillion_pair* pair) {
    return with_pair(pair, [&](Pair& p) { p.reset_stats(); });
}

pillion_status pillion_pair_draft(pillion_pair* pair, int32_t last, int32_t n, int32_t* tokens,
                                  size_t capacity, size_t* n_drafted) {
    return with_pair(pair, [&](Pair& p) {
        p.target().clear_cancel();
        std::vector<int32_t> out;
        p.draft_only(last, n, out);
        write_tokens(out.data(), out.size(), tokens, capacity, n_drafted);
    });
}

pillion_status pillion_pair_draft_row(const pillion_pair* pair, int32_t step, float* logits,
                                      float* hidden) {
    return with_pair(pair, [&](Pair& p) { p.read_step(step, logits, hidden); });
}

}  // extern "C"
