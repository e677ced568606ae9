#include "tokenizer/special_tokens.h"

#include "tokenizer/char_symbols.h"

namespace pillion {
namespace {

// Longer texts are ordinary text. Real special tokens have at most about fifty bytes, and the bound
// keeps a search linear in the text.
constexpr size_t kSpecialBytesMax = 256;

bool is_special(TokenType type) {
    return type == TokenType::control || type == TokenType::unknown ||
           type == TokenType::user_defined;
}

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, bool blanks_for_marks) : nodes_(256) {
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        const std::string_view text = vocabulary.text(id);
        if (!is_special(vocabulary.type(id)) || text.empty() || text.size() > kSpecialBytesMax)
            continue;
        add(blanks_for_marks ? unmark_blanks(text) : std::string(text), id,
            vocabulary.type(id) == TokenType::user_defined);
    }
}

int32_t SpecialTokens::child_of(int32_t node, char byte) const {
    int32_t child = nodes_[size_t(node)].child;
    while (child >= 0 && nodes_[size_t(child)].byte != byte) child = nodes_[size_t(child)].sibling;
    return child;
}

void SpecialTokens::add(std::string_view text, int32_t id, bool always) {
    int32_t node = uint8_t(text[0]);
    for (const char byte : text.substr(1)) {
        int32_t child = child_of(node, byte);
        if (child < 0) {
            child = int32_t(nodes_.size());
            Node fresh;
            fresh.byte = byte;
            fresh.sibling = nodes_[size_t(node)].child;
            nodes_.push_back(fresh);
            nodes_[size_t(node)].child = child;
        }
        node = child;
    }
    Node& last = nodes_[size_t(node)];
    if (last.id < 0) {  // of equal texts the lowest id
        last.id = id;
        last.always = always;
    }
}

SpecialTokens::Hit SpecialTokens::find(std::string_view text, size_t from,
                                       bool parse_special) const {
    for (size_t begin = from; begin < text.size(); ++begin) {
        Hit hit{begin, 0, -1};
        int32_t node = uint8_t(text[begin]);
        for (size_t at = begin + 1; node >= 0; ++at) {
            const Node& here = nodes_[size_t(node)];
            if (here.id >= 0 && (here.always || parse_special)) hit = {begin, at - begin, here.id};
            node = at < text.size() && here.child >= 0 ? child_of(node, text[at]) : -1;
        }
        if (hit.bytes > 0) return hit;
    }
    return {text.size(), 0, -1};
}

}  // namespace pillion
