// Finds special tokens in text, from left to right, at each place the longest that starts there.
// Invariant: it always finds user-defined tokens; it finds control and unknown tokens only if the
// caller parses specials.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string_view>
#include <vector>

#include "tokenizer/vocabulary.h"

namespace pillion {

class SpecialTokens {
  public:
    // `blanks_for_marks`: the text has blanks where a token of the vocabulary may have ▁.
    SpecialTokens(const Vocabulary& vocabulary, bool blanks_for_marks);

    struct Hit {
        size_t begin, bytes;  // bytes 0: not found, and begin is the end of the text
        int32_t id;
    };
    // The first special token at or after `from`.
    Hit find(std::string_view text, size_t from, bool parse_special) const;

  private:
    struct Node {
        int32_t child = -1, sibling = -1;
        int32_t id = -1;  // token that ends at this node
        char byte = 0;
        bool always = false;  // user-defined
    };
    void add(std::string_view text, int32_t id, bool always);
    int32_t child_of(int32_t node, char byte) const;

    // a trie; nodes_[b] is the root of the texts that begin with byte b
    std::vector<Node> nodes_;
};

}  // namespace pillion
