#include "tokenizer/sentencepiece.h"

#include <string.h>

#include <cmath>

#include "core/error.h"

namespace pillion {
namespace {

// Unsigned numbers in the order of the scores, highest score first.
uint32_t order_of(float score) {
    const float positive_zero = score + 0.0f;  // -0 and 0 are one score
    uint32_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~ascending;
}

std::string collapse_blanks(const TextSpan& span) {
    std::string out;
    bool after_blank = span.opens;
    for (const char c : span.text) {
        if (c != ' ' || !after_blank) out += c;
        after_blank = c == ' ';
    }
    if (span.closes && !out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

}  // namespace

// Origin of an unused token: the pieces of its latest merge.
struct SentencePieceEncoder::Scratch {
    std::vector<Symbol> symbols;
    std::vector<MergeCandidate> heap;
    std::unordered_map<int32_t, std::pair<Symbol, Symbol>> unused_parts;
};

SentencePieceEncoder::SentencePieceEncoder(const Vocabulary& vocabulary,
                                           const std::vector<float>& scores,
                                           const SentencePieceRules& rules)
    : vocabulary_(vocabulary), rules_(rules), chars_(vocabulary, rules.unknown) {
    if (scores.size() != size_t(vocabulary.size())) {
        fail(Status::file_corrupt,
             "tokenizer.ggml.scores holds %zu values, tokenizer.ggml.tokens %d", scores.size(),
             vocabulary.size());
    }
    orders_.reserve(scores.size());
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        const float score = scores[size_t(id)];
        if (std::isnan(score))
            fail(Status::file_corrupt, "tokenizer.ggml.scores[%d] is not a number", id);
        orders_.push_back(order_of(score));
        has_unused_ = has_unused_ || vocabulary.type(id) == TokenType::unused;
    }
}

std::string SentencePieceEncoder::normalize(const TextSpan& span) const {
    std::string plain =
        rules_.remove_extra_whitespaces ? collapse_blanks(span) : std::string(span.text);
    const bool passage_is_empty = plain.empty() && span.closes;
    if (rules_.add_space_prefix && span.opens && !passage_is_empty) plain.insert(0, 1, ' ');
    return mark_blanks(plain);
}

void SentencePieceEncoder::encode(const TextSpan& span, std::vector<int32_t>& ids) const {
    const std::string marked = normalize(span);
    Scratch scratch;
    for (size_t at = 0; at < marked.size();) {
        const size_t end = chars_.word_end(marked, at);
        encode_word(marked, at, end, scratch, ids);
        at = end;
    }
}

void SentencePieceEncoder::encode_word(std::string_view text, size_t begin, size_t end,
                                       Scratch& scratch, std::vector<int32_t>& ids) const {
    chars_.split(text, begin, end, scratch.symbols);
    merge_symbols(scratch.symbols, scratch.heap, [&](const Symbol& left, const Symbol& right) {
        const int32_t id = chars_.mergeable(text.substr(left.begin, left.bytes + right.bytes));
        if (id < 0) return Merge{0, -1};
        if (has_unused_ && vocabulary_.type(id) == TokenType::unused)
            scratch.unused_parts[id] = {left, right};
        return Merge{orders_[size_t(id)], id};
    });
    if (!has_unused_) {
        chars_.emit(text, scratch.symbols, ids);
        return;
    }
    for (int32_t i = scratch.symbols.empty() ? -1 : 0; i >= 0;
         i = scratch.symbols[size_t(i)].next) {
        emit_unused(text, scratch.symbols[size_t(i)], scratch, ids);
    }
}

// Emits the symbol; for an unused token, emits the pieces it was merged from, recursively. Uses a
// stack, because a file may nest them deeply.
void SentencePieceEncoder::emit_unused(std::string_view text, Symbol symbol, const Scratch& scratch,
                                       std::vector<int32_t>& ids) const {
    std::vector<Symbol> stack{symbol};
    while (!stack.empty()) {
        const Symbol top = stack.back();
        stack.pop_back();
        if (top.id < 0) {
            chars_.emit_bytes(text.substr(top.begin, top.bytes), ids);
            continue;
        }
        const auto parts = vocabulary_.type(top.id) == TokenType::unused
                               ? scratch.unused_parts.find(top.id)
                               : scratch.unused_parts.end();
        if (parts == scratch.unused_parts.end()) {
            ids.push_back(top.id);
            continue;
        }
        stack.push_back(parts->second.second);
        stack.push_back(parts->second.first);
    }
}

}  // namespace pillion
