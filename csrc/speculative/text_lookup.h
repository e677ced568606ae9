// Drafts from the text so far, beside a drafter with a model: what followed the longest end that
// occurred before, and how likely it is to stand. Every round teaches it, also one that drafted
// otherwise: the tokens that came show whether its own would have stood.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "speculative/suffix_index.h"

namespace pillion {

class TextLookup {
  public:
    // Ends of more tokens are as good as ends of so many.
    static constexpr int kLongest = 32;

    // Looks for the end of `tokens`, then `last`; keeps up to n tokens that followed it.
    void look(const std::vector<int32_t>& tokens, int32_t last, size_t n);
    const std::vector<int32_t>& found() const { return found_; }
    // P(found token `position` stands | those before it did), by the length of the match.
    double acceptance(int position) const;
    // These tokens came. What was found is forgotten.
    void learn(const int32_t* tokens, size_t n);
    void forget() { found_.clear(); }

  private:
    // Decaying counts.
    struct Count { double hits = 0, tries = 0; };
    static constexpr int kSizes = 6;
    static int size_of(int length);

    SuffixIndex index_{kLongest};
    std::vector<int32_t> found_;
    int length_ = 0;  // of the match
    // by size of the match: the first token; those behind it
    Count counts_[kSizes][2];
};

}  // namespace pillion
