// The interface of a drafter, which proposes tokens. A drafter may read the target (its tokens, its
// hidden row, its cache) and, once made, never changes it. Its proposals decide only the speed;
// drawn ones also which text of the target's distribution comes.
#pragma once
#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/context_report.h"
#include "runtime/sampler.h"
#include "speculative/draft_length.h"

namespace pillion {

constexpr int kDraftMax = 8;

struct DraftRequest {
    // chosen, not yet in the target's cache; will stand at the target's length
    int32_t last;
    // [n_embd] the target's hidden row (after the final norm) of the previous position; may be null
    const float* hidden;
    int n;        // wanted drafts, 1 .. kDraftMax
    float p_min;  // the draft stops at a token less likely than this
    // null: each draft is the most likely token; else the sampler draws it from its distribution
    // over the drafter's scores
    Sampler* sampler;
    // Receives the distribution of each drawn draft; stays empty without a sampler.
    std::vector<Distribution>* proposals;
    // A drafter that reads the text and is further behind than `window` reads only the last
    // `window` tokens.
    int window = INT_MAX;
    // [n_prefix] tokens that the caller drafted before those wanted; an assistant steps over them
    const int32_t* prefix = nullptr;
    int n_prefix = 0;
};

class Drafter {
  public:
    virtual ~Drafter() = default;
    virtual const char* kind() const = 0;            // "mtp", "model", "lookup"; "": nothing
    virtual const char* head() const { return ""; }  // "centroid", "dense"
    // a note for the user, such as why the head is dense
    virtual const char* note() const { return ""; }
    virtual bool needs_hidden() const { return false; }
    // where its model runs; "": it has no model
    virtual const char* backend() const { return ""; }
    // The tokens that it must read before a draft. For the last draft, the tokens that it read
    // before it; 0 if they were only those of the last round.
    virtual Unread unread(const Context&) const { return {}; }
    virtual DraftLength::Reading last_reading() const { return {}; }
    // Number of tokens of the text that it ran to follow it.
    virtual uint64_t n_read() const { return 0; }
    virtual Json plan_json() { return nullptr; }         // where each op of a step runs
    virtual ContextMemory memory() const { return {}; }  // its own, without weights
    // Enqueues a draft of exactly request.n tokens. The target's next run takes them from its
    // token_slots(1, n) (Context::eval_after_draft). False if this drafter, or this request, does
    // not support it; call draft() then.
    virtual bool start(const Context&, const DraftRequest&) { return false; }
    // Waits for a started draft. Needed if the target's run behind it was not waited for.
    virtual void wait() {}
    // Appends up to request.n tokens to `drafts`. Throws on failure; the target is then unchanged.
    virtual void draft(const Context& target, const DraftRequest& request,
                       std::vector<int32_t>& drafts) = 0;

    // For several targets of one batch. Those of one run are drafted for together where the drafter
    // can. Throws on failure, of which no entry has a draft then.
    struct Entry {
        const Context* target;
        const DraftRequest* request;
        std::vector<int32_t>* drafts;
    };
    virtual void draft_all(const std::vector<Entry>& entries);

    // Returns step `i` of the last draft, for tests: logits [n_vocab], -inf if not scored; hidden
    // [n_embd of the target].
    virtual void read_step(int i, float* logits, float* hidden) const;
};

// What guesses ahead of a target.
enum class DrafterKind {
    none,      // nothing: plain decoding
    lookup,    // the text so far
    model,     // a model with a cache of its own
    assistant  // a Gemma 4 assistant, which reads the target's cache
};
inline DrafterKind kind_of(const Model& drafter) {
    return drafter.is_drafter() ? DrafterKind::assistant : DrafterKind::model;
}

// Throws Error unless a drafter of this kind is this model (null: none).
void check_drafter_kind(DrafterKind kind, const Model* drafter);

struct PairOptions {
    bool dense_head = false, strict = false, sampled = false;
    bool lookup = false;  // an assistant's pair also drafts from the text
    int n_ngram = 3;
    float p_min = 0;
};

// Each throws Error{pairing} with both values if the two models do not fit. An assistant drafts for
// up to n_rows sequences of a runner at once. On another device it reads copies of the target's
// caches (Runner::add_replicas), which must be there.
std::unique_ptr<Drafter> make_assistant_drafter(std::shared_ptr<Model> assistant, Runner& target,
                                                const PairOptions& options, int n_rows = 1);
std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<Model> model, const Context& target);
std::unique_ptr<Drafter> make_lookup_drafter(int n_ngram);

}  // namespace pillion
