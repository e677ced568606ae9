// The next token from a row of logits. The order is the field's: bias and penalties on the logits, then top-k, top-p and min-p on the
// distribution at temperature 1, then the temperature, then the draw. temperature 0 takes the most likely token (lowest id
// among equals).
#pragma once
#include <stdint.h>

#include <utility>
#include <vector>

namespace pillion {

struct SamplerOptions {
    float temperature = 0.0f;      // 0: greedy
    int top_k = 0;                 // 0: off
    float top_p = 1.0f, min_p = 0.0f;
    float repeat_penalty = 1.0f, frequency_penalty = 0.0f, presence_penalty = 0.0f;
    int penalty_last_n = 64;       // -1: the whole text
    uint64_t seed = 0;
    std::vector<std::pair<int32_t, float>> bias;
};

// Candidates, best first, with probabilities that sum to 1.
using Distribution = std::vector<std::pair<int32_t, float>>;

// Logits of some tokens: those of `ids`, or of 0 .. n - 1 without.
struct Scores {
    const float* logits;
    const int32_t* ids;
    int n;
};

class Sampler {
  public:
    explicit Sampler(SamplerOptions options);    // throws Error{invalid_argument}

    // Whether this token, which has the largest logit, is what sample() would return: then nobody has to look at the logits, which may lie
    // on a device. Greedy, without penalties, and no bias that lowers it or raises another.
    bool takes(int32_t most_likely) const;
    int32_t sample(const float* logits, int n_vocab);
    // The distribution sample() draws from; valid until the next call.
    const Distribution& distribution(const Scores& scores);
    // A token of it, by the next random number; without one when there is no choice.
    int32_t draw(const Distribution& distribution);
    double uniform();              // the next random number, in [0, 1)
    void accept(int32_t token);    // feeds the penalties
    void reset();
    bool is_greedy() const { return o_.temperature == 0; }

  private:
    struct Candidate {
        float logit;
        int32_t token;
    };
    bool has_penalties() const;
    Scores adjust(const Scores& scores);
    void select(const Scores& scores);
    void truncate();

    SamplerOptions o_;
    std::vector<int32_t> history_;                  // accepted tokens, the last penalty_last_n matter
    uint64_t counter_ = 0;                          // random numbers drawn
    std::vector<float> adjusted_;
    std::vector<Candidate> candidates_;             // best first after select()
    Distribution distribution_;
};

}  // namespace pillion
