// A target and its drafter: the round, and the only one who steps both back. The page to read first.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/sampler.h"
#include "speculative/draft_length.h"
#include "speculative/drafter.h"

namespace pillion {

constexpr int kDraftAuto = -1;

struct RoundInfo {
    int drafted = 0, accepted = 0;
    bool ended = false;            // the last token ends the generation
    double draft_ms = 0, verify_ms = 0, accept_ms = 0;
};

struct PairStats {
    enum class State { on = 1, parked = 2, off = 3 } state = State::on;    // until a step decides otherwise
    std::string reason;            // why parked or off
    uint64_t rounds = 0, tokens = 0, drafted = 0, accepted = 0;
    uint64_t drafted_at[kDraftMax] = {}, accepted_at[kDraftMax] = {};
    double draft_ms = 0, verify_ms = 0, accept_ms = 0;
};

class Pair {
  public:
    // drafter: null for prompt lookup. The target outlives the pair's steps: the caller shares it.
    Pair(std::shared_ptr<Context> target, std::shared_ptr<Model> drafter, const PairOptions& options);

    Context& target() { return *target_; }
    const Drafter& drafter() const { return *drafter_; }
    std::string to_json();
    const PairStats& stats() const { return stats_; }
    void reset_stats() { stats_ = PairStats(); }
    int preview_length() const { return length_.best(); }

    size_t set_tokens(const int32_t* tokens, size_t n);
    // Appends 1 .. n_max tokens to `out`. Throws; the pair is then as before the step, or (after a broken run) at a shorter length that
    // the target reports.
    RoundInfo step(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens, size_t n_end, std::vector<int32_t>& out);
    // What the drafter says after `last`, unverified.
    void draft_only(int32_t last, int n, std::vector<int32_t>& out);
    void read_step(int i, float* logits, float* hidden) const { drafter_->read_step(i, logits, hidden); }

  private:
    bool has_last() const { return last_ >= 0 && generation_ == target_->generation(); }
    RoundInfo first_token(Sampler& sampler, std::vector<int32_t>& out);
    RoundInfo round(Sampler& sampler, int n_draft, size_t n_max, const int32_t* end_tokens, size_t n_end, std::vector<int32_t>& out);
    DraftLength::Choice choose_length(int n_draft, size_t n_max);
    int32_t choose_token(Sampler& sampler, int row);
    void remember(int32_t last, int hidden_row);
    void count(const RoundInfo& info, size_t n_tokens);

    std::shared_ptr<Context> target_;
    std::unique_ptr<Drafter> drafter_;
    float p_min_;
    bool sampled_;                 // drafts are drawn, not the most likely
    DraftLength length_;
    PairStats stats_;
    int32_t last_ = -1;            // chosen, not yet in the cache
    std::vector<float> hidden_;    // of the position before `last_`; empty: unknown
    uint64_t generation_ = 0;      // of the target when last_ was chosen: someone else may have moved it since
    std::vector<int32_t> rows_;    // last and drafts
    std::vector<Distribution> proposals_;    // what they were drawn from, if they were
    std::vector<float> weights_;
};

}  // namespace pillion
