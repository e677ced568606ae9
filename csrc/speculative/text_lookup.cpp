#include "speculative/text_lookup.h"

#include <algorithm>

namespace pillion {
namespace {

// Guesses before anything is measured, by size of the match, and imagined tries that hold them. A
// first guess is low: a lookup must show in its text that it is right.
constexpr double kGuess[][2] = {{0.1, 0.5}, {0.2, 0.6}, {0.3, 0.6},
                                {0.4, 0.7}, {0.6, 0.8}, {0.8, 0.9}};
constexpr double kPrior = 2;
// A count's weight after one more try.
constexpr double kForget = 0.97;

}  // namespace

// Matches of 1, 2, 3 to 4, 5 to 8, 9 to 16 and more tokens.
int TextLookup::size_of(int length) {
    int size = 0;
    while (length > 1 && size < kSizes - 1) length = (length + 1) / 2, size++;
    return size;
}

void TextLookup::look(const std::vector<int32_t>& tokens, int32_t last, size_t n) {
    index_.follow(tokens, last);
    const SuffixIndex::Match match = index_.find();
    found_.clear(), length_ = match.length;
    if (length_ > 0) index_.copy(match.next, n, found_);
}

double TextLookup::acceptance(int position) const {
    const int size = size_of(length_), later = position > 0;
    const Count& c = counts_[size][later];
    return (c.hits + kPrior * kGuess[size][later]) / (c.tries + kPrior);
}

void TextLookup::learn(const int32_t* tokens, size_t n) {
    for (size_t i = 0; i < std::min(n, found_.size()); i++) {
        Count& c = counts_[size_of(length_)][i > 0];
        c.hits *= kForget, c.tries = c.tries * kForget + 1;
        if (tokens[i] != found_[i]) break;
        c.hits++;
    }
    found_.clear();
}

}  // namespace pillion
