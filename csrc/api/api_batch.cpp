#include <string.h>

#include <algorithm>
#include <optional>

#include "api/handles.h"

using namespace pillion;
using namespace pillion::api;

namespace {

template <class F>
pillion_status with_batch(const pillion_batch* batch, F&& body) noexcept {
    return guard([&] {
        need(batch, "batch");
        batch->origin.check(batch->on_device, "this batch");
        const Claim claim(*batch->inside);
        body(*batch->batch);
    });
}

// The caller's entries, which may be longer or shorter than ours.
class Entries {
  public:
    Entries(pillion_batch_entry* entries, size_t n) : theirs_(entries) {
        if (n > 0) need(entries, "entries");
        if (n > size_t(BatchOptions::kMost))
            fail(Status::invalid_argument, "%zu entries, a batch takes at most %d", n,
                 BatchOptions::kMost);
        stride_ = n > 0 ? entries->struct_size : 0;
        for (size_t i = 0; i < n; i++)
            c_.push_back(read_config(at(i), pillion_batch_entry_init, "pillion_batch_entry"));
        for (size_t i = 0; i < n; i++)
            if (at(i)->struct_size != stride_)
                fail(Status::invalid_argument, "entry %zu has size %u, entry 0 has %zu", i,
                     at(i)->struct_size, stride_);
    }
    // Checks them and has their samplers to itself.
    void open(const pillion_batch* batch) {
        claims_.reserve(c_.size());
        for (size_t i = 0; i < c_.size(); i++) {
            const pillion_batch_entry& c = c_[i];
            BatchEntry e;
            const pillion_pair& pair = need(c.pair, "pair");
            if (pair.inside != batch->inside)
                fail(Status::invalid_argument, "the pair of entry %zu is not one of this batch", i);
            for (size_t j = 0; j < i; j++)
                if (c_[j].pair == c.pair || (c.sampler && c_[j].sampler == c.sampler))
                    fail(Status::invalid_argument,
                         "entries %zu and %zu have the same pair or the same sampler", j, i);
            e.pair = pair.pair.get();
            if (!c.tokens) need(c.sampler, "sampler");
            if (c.sampler)
                e.sampler = c.sampler->sampler.get(), claims_.emplace_back(c.sampler->inside);
            e.tokens = c.tokens, e.n_tokens = size_t(c.n_tokens), e.n_rows = size_t(c.n_rows);
            e.n_draft = c.n_draft, e.n_max = size_t(std::max(0, c.n_max));
            if (c.n_end > 0) need(c.end_tokens, "end_tokens");
            if (c.n_drafts < 0 || c.n_drafts > kDraftMax)
                fail(Status::invalid_argument, "%d drafts of entry %zu, allowed are 0 to %d",
                     c.n_drafts, i, kDraftMax);
            e.drafts.assign(c.drafts, c.drafts + c.n_drafts);
            ours_.push_back(std::move(e));
        }
    }
    std::vector<BatchEntry>& ours() { return ours_; }
    pillion_batch_entry& c(size_t i) { return c_[i]; }
    size_t size() const { return c_.size(); }

    void write_codes() {
        for (size_t i = 0; i < c_.size(); i++) {
            c_[i].code = int32_t(ours_[i].code);
            snprintf(c_[i].error, sizeof c_[i].error, "%s", ours_[i].error.c_str());
        }
    }
    void write() {
        for (size_t i = 0; i < c_.size(); i++) {
            const size_t n = std::min(stride_, sizeof c_[i]);
            c_[i].struct_size = uint32_t(stride_);
            memcpy(static_cast<void*>(at(i)), &c_[i], n);
        }
    }

  private:
    pillion_batch_entry* at(size_t i) const {
        return reinterpret_cast<pillion_batch_entry*>(reinterpret_cast<char*>(theirs_) +
                                                      i * stride_);
    }
    pillion_batch_entry* theirs_;
    size_t stride_ = 0;
    std::vector<pillion_batch_entry> c_;
    std::vector<BatchEntry> ours_;
    struct Held {
        explicit Held(Occupancy& o) : claim(std::make_unique<Claim>(o)) {}
        std::unique_ptr<Claim> claim;
    };
    std::vector<Held> claims_;
};

template <class F>
pillion_status with_entries(pillion_batch* batch, pillion_batch_entry* entries, size_t n,
                            F&& body) noexcept {
    return with_batch(batch, [&](Batch& b) {
        Entries all(entries, n);
        all.open(batch);
        body(b, all);
        all.write();
    });
}

void take_one(Batch& b, pillion_batch_entry& c, BatchEntry& e) {
    Choosing choosing;
    choosing.n_max = std::min(e.n_max, size_t(kDraftMax + 1));
    choosing.end_tokens = c.end_tokens, choosing.n_end = size_t(c.n_end);
    const pillion_choice choice = read_config(c.choice, pillion_choice_init, "pillion_choice");
    if (choice.n_mask_words > 0) need(choice.masks, "masks");
    if (choice.n_chosen > 0) need(choice.chosen, "chosen");
    choosing.masks = choice.masks, choosing.n_mask_words = size_t(choice.n_mask_words);
    choosing.chosen = choice.chosen, choosing.n_chosen = size_t(choice.n_chosen);
    choosing.sampler = choice.chosen ? nullptr : e.sampler;
    std::vector<int32_t> out;
    const RoundInfo r = b.take(e, choosing, out);
    c.n_out = int32_t(out.size());
    std::copy(out.begin(), out.end(), c.out);
    c.drafted = r.drafted, c.accepted = r.accepted, c.ended = r.ended, c.forced = r.forced;
    c.draft_ms = float(r.draft_ms), c.verify_ms = float(r.verify_ms);
    c.accept_ms = float(r.accept_ms);
    c.has_run = 0;
}

}  // namespace

extern "C" {

void pillion_batch_config_init(pillion_batch_config* config, size_t size) {
    init_config(config, size);
}
void pillion_batch_entry_init(pillion_batch_entry* entry, size_t size) { init_config(entry, size); }

pillion_status pillion_batch_new(pillion_model* model, int32_t kind, pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_pair_config* pair,
                                 const pillion_batch_config* config, pillion_batch** batch) {
    return guard([&] {
        need(model, "model"), need(batch, "batch");
        const pillion_batch_config c =
            read_config(config, pillion_batch_config_init, "pillion_batch_config");
        BatchOptions o;
        if (c.n_sequences != 0) o.n_sequences = c.n_sequences;
        o.n_positions = c.n_positions;
        const auto target = model->shared->to_run();
        const auto drafts = drafter ? drafter->shared->to_run() : nullptr;
        auto handle = std::make_unique<pillion_batch>();
        handle->batch = std::make_unique<Batch>(target, drafter_kind(kind), drafts,
                                                context_options(context), pair_options(pair), o);
        handle->on_device = on_device(*target) || (drafts && on_device(*drafts));
        *batch = handle.release();
    });
}

void pillion_batch_free(pillion_batch* batch) {
    if (batch && can_free(batch->origin, batch->on_device, *batch->inside)) delete batch;
}

pillion_status pillion_batch_context(pillion_batch* batch, pillion_context** context) {
    return with_batch(batch, [&](Batch& b) {
        need(context, "context");
        auto handle = std::make_unique<pillion_context>();
        handle->context = b.make_context();
        handle->inside = batch->inside;
        *context = handle.release();
    });
}

pillion_status pillion_batch_pair(pillion_batch* batch, pillion_context* context,
                                  pillion_pair** pair) {
    return with_batch(batch, [&](Batch& b) {
        need(context, "context"), need(pair, "pair");
        if (context->inside != batch->inside)
            fail(Status::invalid_argument, "the context is not one of this batch");
        auto handle = std::make_unique<pillion_pair>();
        handle->pair = b.make_pair(context->context);
        handle->inside = batch->inside;
        handle->drafter_on_device = batch->on_device;
        *pair = handle.release();
    });
}

pillion_status pillion_context_share(pillion_context* context, pillion_context* from, size_t length,
                                     size_t* n) {
    return with_context(context, [&](Context& c) {
        need(from, "from");
        if (from->inside != context->inside)
            fail(Status::invalid_argument, "only contexts of one batch share what they hold");
        const size_t kept = c.share(*from->context, length);
        if (n) *n = kept;
    });
}

pillion_status pillion_batch_draft(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    return with_entries(batch, entries, n, [&](Batch& b, Entries& all) {
        b.clear_cancel();
        b.draft(all.ours());
        all.write_codes();
        for (size_t i = 0; i < n; i++) {
            const std::vector<int32_t>& drafts = all.ours()[i].drafts;
            all.c(i).n_drafts = int32_t(drafts.size()), all.c(i).has_run = 0;
            std::copy(drafts.begin(), drafts.end(), all.c(i).drafts);
        }
    });
}

pillion_status pillion_batch_run(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    return with_entries(batch, entries, n, [&](Batch& b, Entries& all) {
        b.clear_cancel();
        for (size_t i = 0; i < n; i++) all.ours()[i].code = Status(all.c(i).code);
        b.run(all.ours());
        for (size_t i = 0; i < n; i++) {
            const BatchEntry& e = all.ours()[i];
            pillion_batch_entry& c = all.c(i);
            if (!e.error.empty()) {
                c.code = int32_t(e.code);
                snprintf(c.error, sizeof c.error, "%s", e.error.c_str());
            }
            c.has_run = e.has_run, c.first_row = uint64_t(e.has_run ? e.pair->first_row() : 0);
            c.n_reused = e.n_reused, c.n_ran = e.n_ran, c.n_left = e.n_left;
        }
    });
}

pillion_status pillion_batch_take(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    return with_entries(batch, entries, n, [&](Batch& b, Entries& all) {
        for (size_t i = 0; i < n; i++) {
            pillion_batch_entry& c = all.c(i);
            BatchEntry& e = all.ours()[i];
            if (!c.has_run || c.code != PILLION_OK) continue;
            c.n_out = 0;
            if (!Batch::try_entry(e, [&] { take_one(b, c, e); })) {
                c.code = int32_t(e.code);
                snprintf(c.error, sizeof c.error, "%s", e.error.c_str());
            }
        }
    });
}

pillion_status pillion_batch_abandon(pillion_batch* batch, pillion_batch_entry* entries, size_t n) {
    return with_entries(batch, entries, n, [&](Batch& b, Entries& all) {
        b.abandon(all.ours());
        for (size_t i = 0; i < n; i++) all.c(i).has_run = 0, all.c(i).n_drafts = 0;
    });
}

pillion_status pillion_batch_cancel(pillion_batch* batch) {
    return guard([&] { need(batch, "batch").batch->cancel(); });
}

pillion_status pillion_batch_get_stats(const pillion_batch* batch, pillion_batch_stats* stats,
                                       size_t size) {
    return with_batch(batch, [&](Batch& b) {
        const BatchStats& s = b.stats();
        const pillion_batch_stats o = {0,
                                       b.is_batched(),
                                       b.n_sequences(),
                                       b.n_pages(),
                                       b.n_free_pages(),
                                       KvPool::kPage,
                                       s.last_rows,
                                       s.last_entries,
                                       s.last_draft_ms,
                                       s.last_run_ms,
                                       s.runs,
                                       s.rows};
        write_info(stats, size, &o, sizeof o);
    });
}

pillion_status pillion_batch_json(const pillion_batch* batch, char* out, size_t capacity,
                                  size_t* needed) {
    return with_batch(batch, [&](Batch& b) { write_text(b.to_json(), out, capacity, needed); });
}

}  // extern "C"
