#include "tokenizer/pretokenizer.h"

#include <utility>

#include "tokenizer/unicode.h"

namespace pillion {
namespace {

using Words = std::vector<std::string_view>;

// One character and its classes. The end of the text is a character of zero bytes without a class.
struct Char {
    uint32_t code_point = kInvalidByte;
    uint32_t bytes = 0;
    uint32_t flags = 0;

    bool is(uint32_t classes) const { return (flags & classes) != 0; }
    bool is_end() const { return bytes == 0; }
    bool is_newline() const { return code_point == '\r' || code_point == '\n'; }
    // [^\s\p{L}\p{N}]
    bool is_rest() const { return !is_end() && !is(kWhitespace | kLetter | kNumber); }
};

// Reads the characters of a text at byte offsets.
class Reader {
  public:
    explicit Reader(std::string_view text) : text_(text) {}

    Char at(size_t offset) const {
        if (offset >= text_.size()) return {};
        const Utf8Step step = utf8_step_or_byte(text_.data() + offset, text_.size() - offset);
        return {step.code_point, step.bytes, unicode_flags(step.code_point)};
    }

    // End of the run of characters from `offset` that `fits` accepts.
    template <class Fits>
    size_t run_end(size_t offset, const Fits& fits) const {
        for (Char c = at(offset); !c.is_end() && fits(c); c = at(offset)) offset += c.bytes;
        return offset;
    }
    size_t class_end(size_t offset, uint32_t classes) const {
        return run_end(offset, [classes](const Char& c) { return c.is(classes); });
    }
    size_t rest_end(size_t offset) const {
        return run_end(offset, [](const Char& c) { return c.is_rest(); });
    }
    size_t size() const { return text_.size(); }

  private:
    std::string_view text_;
};

// Cuts `text` into words: next(reader, begin) returns the end of the word at `begin`.
template <class Next>
void cut(std::string_view text, Words& words, const Next& next) {
    const Reader reader(text);
    for (size_t at = 0; at < text.size();) {
        const size_t end = next(reader, at);
        words.push_back(text.substr(at, end - at));
        at = end;
    }
}

// Cuts `text` into the matches of `match` and the spans between them. match(reader, begin)
// returns the end of a match, or `begin` without one.
template <class Match>
void isolate(std::string_view text, Words& words, const Match& match) {
    cut(text, words, [&](const Reader& reader, size_t begin) {
        size_t at = begin;
        while (at < reader.size()) {
            const size_t end = match(reader, at);
            if (end > at) return at > begin ? at : end;
            at += reader.at(at).bytes;
        }
        return at;
    });
}

// Replaces each word by the words that `split` makes of it.
template <class Split>
void split_again(Words& words, const Split& split) {
    Words finer;
    for (const std::string_view word : words) split(word, finer);
    words = std::move(finer);
}

// 's|'t|'re|'ve|'m|'ll|'d; `fold`: capitals too, and the long s, which folds to s. Returns `begin`
// without a match.
size_t contraction_end(const Reader& reader, size_t begin, bool fold) {
    constexpr uint32_t kLongS = 0x17F;
    const auto letter = [&](const Char& c) {
        if (fold && c.code_point == kLongS) return uint32_t('s');
        return fold && c.code_point >= 'A' && c.code_point <= 'Z' ? c.code_point + ('a' - 'A')
                                                                  : c.code_point;
    };
    if (reader.at(begin).code_point != '\'') return begin;
    const Char first = reader.at(begin + 1);
    const uint32_t a = letter(first);
    const size_t after_first = begin + 1 + first.bytes;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return after_first;
    const Char second = reader.at(after_first);
    const uint32_t b = letter(second);
    const bool two = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
    return two ? after_first + second.bytes : begin;
}

// \s+(?!\S)|\s+ at a whitespace character: the whole run, without its last character if text
// follows.
size_t whitespace_end(const Reader& reader, size_t begin) {
    size_t end = begin, last = begin;
    for (Char c = reader.at(end); c.is(kWhitespace); c = reader.at(end)) {
        last = end;
        end += c.bytes;
    }
    return end == reader.size() || last == begin ? end : last;
}

// \s*[\r\n]+ : up to the last line break of the whitespace run. Returns `begin` without a match.
size_t line_break_end(const Reader& reader, size_t begin) {
    size_t at = begin, end = begin;
    for (Char c = reader.at(at); c.is(kWhitespace); c = reader.at(at)) {
        at += c.bytes;
        if (c.is_newline()) end = at;
    }
    return end;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2_word_end(const Reader& reader, size_t begin) {
    if (const size_t end = contraction_end(reader, begin, /*fold=*/false); end > begin) return end;
    const Char first = reader.at(begin);
    const size_t body = first.code_point == ' ' ? begin + 1 : begin;
    const Char c = reader.at(body);
    if (c.is(kLetter)) return reader.class_end(body, kLetter);
    if (c.is(kNumber)) return reader.class_end(body, kNumber);
    if (c.is_rest()) return reader.rest_end(body);
    return whitespace_end(reader, begin);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t llama3_word_end(const Reader& reader, size_t begin, int digits) {
    if (const size_t end = contraction_end(reader, begin, /*fold=*/true); end > begin) return end;
    const Char first = reader.at(begin);
    if (first.is(kLetter)) return reader.class_end(begin, kLetter);
    const size_t second = begin + first.bytes;
    if (!first.is_newline() && !first.is(kNumber) && reader.at(second).is(kLetter))
        return reader.class_end(second, kLetter);
    if (first.is(kNumber)) {
        size_t end = second;
        for (int n = 1; n < digits && reader.at(end).is(kNumber); ++n) end += reader.at(end).bytes;
        return end;
    }
    const size_t body = first.code_point == ' ' ? second : begin;
    if (reader.at(body).is_rest()) {
        return reader.run_end(reader.rest_end(body), [](const Char& c) { return c.is_newline(); });
    }
    if (const size_t end = line_break_end(reader, begin); end > begin) return end;
    return whitespace_end(reader, begin);
}

void split_gpt2(std::string_view text, Words& words) { cut(text, words, gpt2_word_end); }

void split_llama3(std::string_view text, Words& words) {
    cut(text, words, [](const Reader& reader, size_t begin) {
        return llama3_word_end(reader, begin, /*digits=*/3);
    });
}

void split_qwen2(std::string_view text, Words& words) {
    cut(text, words, [](const Reader& reader, size_t begin) {
        return llama3_word_end(reader, begin, /*digits=*/1);
    });
}

// \p{N}, then gpt-2's rule between.
void split_smollm(std::string_view text, Words& words) {
    isolate(text, words, [](const Reader& reader, size_t at) {
        const Char c = reader.at(at);
        return c.is(kNumber) ? at + c.bytes : at;
    });
    split_again(words, split_gpt2);
}

// [\p{P}\$\+<=>\^~\|]+
size_t punctuation_end(const Reader& reader, size_t at) {
    return reader.run_end(at, [](const Char& c) {
        const bool listed =
            c.code_point < 128 &&
            std::string_view("$+<=>^~|").find(char(c.code_point)) != std::string_view::npos;
        return listed || c.is(kPunctuation);
    });
}

// [0-9][0-9][0-9]
size_t three_digits_end(const Reader& reader, size_t at) {
    for (size_t i = 0; i < 3; ++i) {
        const uint32_t c = reader.at(at + i).code_point;
        if (c < '0' || c > '9') return at;
    }
    return at + 3;
}

// Four cuts, each inside the words of the previous one: punctuation, gpt-2's rule, \p{N}+, three
// digits.
void split_default(std::string_view text, Words& words) {
    isolate(text, words, punctuation_end);
    split_again(words, split_gpt2);
    split_again(words, [](std::string_view word, Words& finer) {
        isolate(word, finer,
                [](const Reader& reader, size_t at) { return reader.class_end(at, kNumber); });
    });
    split_again(words, [](std::string_view word, Words& finer) {
        isolate(word, finer, three_digits_end);
    });
}

constexpr PreRule kRules[] = {
    {"default", false, false, split_default}, {"gpt-2", false, false, split_gpt2},
    {"phi-2", false, false, split_gpt2},      {"llama-bpe", true, true, split_llama3},
    {"llama-v3", true, true, split_llama3},   {"llama3", true, true, split_llama3},
    {"qwen2", false, false, split_qwen2},     {"deepseek-r1-qwen", false, false, split_qwen2},
    {"smollm", false, false, split_smollm},   {"starcoder", false, false, split_smollm},
    {"refact", false, false, split_smollm},
};

}  // namespace

const PreRule* find_pre_rule(std::string_view name) {
    for (const PreRule& rule : kRules) {
        if (name == rule.name) return &rule;
    }
    return nullptr;
}

std::string pre_rule_names() {
    std::string names;
    for (const PreRule& rule : kRules)
        names += (names.empty() ? "" : ", ") + std::string(rule.name);
    return names;
}

void split_words(const PreRule& rule, std::string_view text, std::vector<std::string_view>& words) {
    words.clear();
    rule.split(text, words);
}

}  // namespace pillion
