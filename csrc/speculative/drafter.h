// Who proposes tokens. A drafter may read the target (its tokens, its hidden row, its cache) and
// never changes it. What it proposes decides speed only, never text.
#pragma once
#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/context.h"
#include "runtime/sampler.h"
#include "speculative/draft_length.h"

namespace pillion {

constexpr int kDraftMax = 8;

struct DraftRequest {
    int32_t last;  // chosen, not yet in the target's cache; will stand at the target's length
    const float* hidden;  // the target's hidden row (after the final norm) of the position before;
                          // may be null
    int n;                // drafts wanted, 1 .. kDraftMax
    float p_min;          // stop at a draft less likely than this
    Sampler* sampler;     // null: the most likely token each time; else drawn from its distribution
                          // over the drafter's scores
    // gets what each draft was drawn from; stays empty where nothing was drawn
    // A drafter that reads the text and is further behind than that reads only so much of its end.
    std::vector<Distribution>* proposals;
    int window = INT_MAX;
};

class Drafter {
  public:
    virtual ~Drafter() = default;
    virtual const char* kind() const = 0;            // "mtp", "model", "lookup"; "": nothing
    virtual const char* head() const { return ""; }  // "ordered", "dense"
    virtual const char* note() const {
        return "";
    }  // what a user should know, such as why the head is dense
    virtual bool needs_hidden() const { return false; }
    virtual const char* backend() const { return ""; }  // where its model runs; "": it has none
    // What it would have to read before a draft; and what it read before the last one, 0 tokens
    // where they were only the last round's.
    virtual Unread unread(const Context&) const { return {}; }
    virtual DraftLength::Reading last_reading() const { return {}; }
    // Tokens of the text that it has run to follow it.
    virtual uint64_t n_read() const { return 0; }
    virtual std::string plan_json() { return "null"; }   // where each op of a step runs
    virtual ContextMemory memory() const { return {}; }  // of its own, beside weights
    // Enqueues a draft of exactly request.n tokens, which the target's next run takes from its
    // token_slots(1, n) (Context::eval_after_draft). False: this drafter, or this request, can't;
    // then draft().
    virtual bool start(const Context&, const DraftRequest&) { return false; }
    // Until nothing of a started draft runs any more: when the target's run behind it was not
    // waited for.
    virtual void wait() {}
    // Appends up to request.n tokens to `drafts`. Throws on failure; the target is as it was.
    virtual void draft(const Context& target, const DraftRequest& request,
                       std::vector<int32_t>& drafts) = 0;

    // Step `i` of the last draft, for tests: logits [n_vocab], -inf where not scored; hidden
    // [target's n_embd].
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

struct PairOptions {
    bool dense_head = false, strict = false, sampled = false;
    int n_ngram = 3;
    float p_min = 0;
};

// Each checks at birth that the two fit: Error{pairing} with both values. An assistant on another
// device gets its copies of the target's caches here.
std::unique_ptr<Drafter> make_mtp_drafter(std::shared_ptr<Model> assistant, Context& target,
                                          const PairOptions& options);
std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<Model> model, const Context& target);
std::unique_ptr<Drafter> make_lookup_drafter(int n_ngram);

}  // namespace pillion
