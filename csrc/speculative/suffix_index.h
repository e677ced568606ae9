// Finds where the end of a text occurred in it before. It follows the text: new tokens are added
// and dropped ones taken out, each in constant time, so that a rewind, another prompt or a restored
// state needs no word to it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

namespace pillion {

class SuffixIndex {
  public:
    // longest: of the ends that it looks for, in tokens
    explicit SuffixIndex(int longest) : longest_(longest) {}

    // The text is `tokens`, then `last`.
    void follow(const std::vector<int32_t>& tokens, int32_t last);

    struct Match {
        int length = 0;  // of the end that occurred before; 0: none
        int next = 0;    // where the text went on then
    };
    // The longest end that occurred before, at its latest occurrence. Among very many occurrences
    // only the latest are compared.
    Match find() const;
    // Up to n tokens from `at` on. A row of a medium ends them: it is no token that could follow.
    void copy(int at, size_t n, std::vector<int32_t>& out) const;

  private:
    // Positions whose last tokens hash alike, the latest first.
    struct Chain {
        std::vector<int32_t> latest, before;  // by hash, by position; -1: none
    };
    static constexpr int kGrams = 3, kCandidates = 64;

    size_t bucket(int n, int end) const;
    void push(int32_t token);
    void pop();
    void link(int end);
    void grow();
    int common(int end, int other, int most) const;

    int longest_;
    std::vector<int32_t> text_;
    Chain chains_[kGrams];  // of 1 .. kGrams tokens
};

}  // namespace pillion
