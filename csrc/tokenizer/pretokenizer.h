// Cuts text into words before byte-level BPE: the published regular expressions, written as code.
// Invariant: the words lie end to end and cover the text. An invalid UTF-8 byte is a character
// without a class.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pillion {

struct PreRule {
    const char* name;  // value of tokenizer.ggml.pre
    // a word that is a token is taken whole before any merge
    bool whole_words_first;
    bool adds_bos;  // default, if the file doesn't say
    void (*split)(std::string_view text, std::vector<std::string_view>& words);
};

// nullptr: unknown rule.
const PreRule* find_pre_rule(std::string_view name);
// "default, gpt-2, …", for error sentences.
std::string pre_rule_names();

// Replaces the content of `words`.
void split_words(const PreRule& rule, std::string_view text, std::vector<std::string_view>& words);

}  // namespace pillion
