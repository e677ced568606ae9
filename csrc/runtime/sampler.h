// Chooses the next token from a row of logits. The order is the usual one: bias and penalties on
// the logits, then top-k, top-p and min-p on the distribution at temperature 1, then the
// temperature, then the draw. Temperature 0 takes the most likely token, the lowest id among
// equals.
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

// The allowed tokens: bit t % 32 of word t / 32 is token t. Null words allow all. Surplus bits have
// no effect.
struct TokenMask {
    const uint32_t* words = nullptr;
    static size_t n_words(int n_vocab) { return (size_t(n_vocab) + 31) / 32; }
    explicit operator bool() const { return words != nullptr; }
    bool allows(int32_t token) const {
        return !words || (words[uint32_t(token) / 32] >> (uint32_t(token) % 32) & 1) != 0;
    }
};

// Logits of the tokens in `ids`; without ids, of tokens 0 .. n - 1.
struct Scores {
    const float* logits;
    const int32_t* ids;
    int n;
    bool is_sorted = false;  // the ids ascend
};

class Sampler {
  public:
    explicit Sampler(SamplerOptions options);  // throws Error{invalid_argument}

    // True if sample() would return `most_likely`, the argmax of the logits: greedy, without
    // penalties, and without a bias that lowers it or raises another token. Lets the caller skip
    // reading logits from the device.
    bool argmax_suffices(int32_t most_likely) const;
    // Returns the next token. The mask acts before everything else, so a bias cannot bring a
    // refused token back. Throws Error{invalid_argument} if every allowed token has a logit of
    // -inf.
    int32_t sample(const float* logits, int n_vocab, TokenMask mask = {});
    // The distribution that sample() draws from; valid until the next call. A mask requires scores
    // of the whole vocabulary.
    const Distribution& distribution(const Scores& scores, TokenMask mask = {});
    // Draws a token by the next random number. Draws no number if only one token is possible.
    int32_t draw(const Distribution& distribution);
    double uniform();            // the next random number, in [0, 1)
    void accept(int32_t token);  // feeds the penalties
    void reset();
    bool is_greedy() const { return o_.temperature == 0; }
    // The sampler's state, so that a caller can undo a call that failed. A mark works only until
    // the next reset; after it go_back() throws Error{invalid_argument}.
    struct Mark { uint64_t accepted = 0, drawn = 0; };
    Mark mark() const { return {history_.size(), counter_}; }
    void go_back(const Mark& mark);
    // All that a text has changed in the sampler; the other options are the caller's. With it,
    // another sampler of the same options goes on as this one would.
    struct State {
        uint64_t seed = 0, drawn = 0;
        std::vector<int32_t> accepted;
    };
    State state() const { return {o_.seed, counter_, history_}; }
    void set_state(State state);

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
    std::vector<int32_t> history_;  // accepted tokens; the last penalty_last_n count
    uint64_t counter_ = 0;          // random numbers drawn
    std::vector<float> allowed_, adjusted_;
    std::vector<int32_t> allowed_ids_;
    std::vector<Candidate> candidates_;  // best first after select()
    Distribution distribution_;
};

}  // namespace pillion
