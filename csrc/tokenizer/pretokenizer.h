// How text is cut into words before byte-level BPE: the published regular expressions, written out
// as code. Invariant: the words lie end to end and cover the text; a byte that is no UTF-8 is a
// character of no class.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pillion {

struct PreRule {
    const char* name;        // tokenizer.ggml.pre
    bool whole_words_first;  // a word that is a token is taken whole before any merge
    bool adds_bos;           // where the file doesn't say
    void (*split)(std::string_view text, std::vector<std::string_view>& words);
};

// nullptr: not known.
const PreRule* find_pre_rule(std::string_view name);
// "default, gpt-2, …", for error sentences.
std::string pre_rule_names();

// Replaces what `words` held.
void split_words(const PreRule& rule, std::string_view text, std::vector<std::string_view>& words);

}  // namespace pillion
