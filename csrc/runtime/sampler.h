// The next token from a row of logits. The order is the field's: bias and penalties on the logits,
// then top-k, top-p and min-p on the distribution at temperature 1, then the temperature, then the
// draw. temperature 0 takes the most likely token (lowest id among equals).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <utility>
#include <vector>

namespace pillion {

constexpr float kTemperatureMost = 1e6f;
constexpr float kRepeatPenaltyLeast = 1e-3f, kRepeatPenaltyMost = 1e3f;

struct SamplerOptions {
    float temperature = 0.0f;  // 0: greedy
    int top_k = 0;             // 0: off
    float top_p = 1.0f, min_p = 0.0f;
    float repeat_penalty = 1.0f, frequency_penalty = 0.0f, presence_penalty = 0.0f;
    int penalty_last_n = 64;  // -1: the whole text
    uint64_t seed = 0;
    std::vector<std::pair<int32_t, float>> bias;
};

// Candidates, best first, with probabilities that sum to 1.
using Distribution = std::vector<std::pair<int32_t, float>>;

// Which tokens may be chosen: bit t % 32 of word t / 32 is token t; null words: all. What stands
// behind the last token plays no part.
struct TokenMask {
    const uint32_t* words = nullptr;
    static size_t n_words(int n_vocab) { return (size_t(n_vocab) + 31) / 32; }
    explicit operator bool() const { return words != nullptr; }
    bool allows(int32_t token) const {
        return !words || (words[uint32_t(token) / 32] >> (uint32_t(token) % 32) & 1) != 0;
    }
};

// Logits of some tokens: those of `ids`, or of 0 .. n - 1 without.
struct Scores {
    const float* logits;
    const int32_t* ids;
    int n;
    bool is_sorted = false;  // the ids ascend
};

class Sampler {
  public:
    explicit Sampler(SamplerOptions options);  // throws Error{invalid_argument}

    // Whether this token, which has the largest logit, is what sample() would return: then nobody
    // has to look at the logits, which may lie on a device. Greedy, without penalties, and no bias
    // that lowers it or raises another.
    bool argmax_suffices(int32_t most_likely) const;
    // A token that the mask refuses is out before anything else looks at the logits: no bias brings
    // it back. Throws Error{invalid_argument} where no token with a logit above -inf is left.
    int32_t sample(const float* logits, int n_vocab, TokenMask mask = {});
    // The distribution sample() draws from; valid until the next call. A mask goes with scores of
    // the whole vocabulary.
    const Distribution& distribution(const Scores& scores, TokenMask mask = {});
    // A token of it, by the next random number; without one when there is no choice.
    int32_t draw(const Distribution& distribution);
    double uniform();            // the next random number, in [0, 1)
    void accept(int32_t token);  // feeds the penalties
    void reset();
    bool is_greedy() const { return o_.temperature == 0; }
    // How far it has come, to take back what a call did that failed. Only forward from a mark: a
    // reset in between makes go_back() throw Error{invalid_argument}.
    struct Mark { uint64_t accepted = 0, drawn = 0; };
    Mark mark() const { return {history_.size(), counter_}; }
    void go_back(const Mark& mark);

  private:
    struct Candidate {
        float logit;
        int32_t token;
    };
    bool has_penalties() const;
    void check_biases(int n_vocab) const;
    Scores allowed(const Scores& scores, TokenMask mask);
    Scores adjust(const Scores& scores);
    int best(const Scores& scores) const;
    void select(const Scores& scores);
    void truncate();

    SamplerOptions o_;
    std::vector<int32_t> history_;  // accepted tokens, the last penalty_last_n matter
    uint64_t counter_ = 0;          // random numbers drawn
    std::vector<float> allowed_, adjusted_;
    std::vector<int32_t> allowed_ids_;
    std::vector<Candidate> candidates_;  // best first after select()
    Distribution distribution_;
};

}  // namespace pillion
