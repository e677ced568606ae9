// SentencePiece BPE (tokenizer.ggml.model "llama"): adjacent pieces merge if their text is a token,
// the best score first. Invariant: tokens of type unused take part in merging, and are split back
// into the pieces they were merged from.
#pragma once
#include <stdint.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/char_symbols.h"
#include "tokenizer/encoder.h"
#include "tokenizer/merge_symbols.h"
#include "tokenizer/vocabulary.h"

namespace pillion {

struct SentencePieceRules {
    bool add_space_prefix = true;  // puts a blank where a passage opens
    // drops blanks at the ends of a passage and makes runs of blanks one
    bool remove_extra_whitespaces = false;
    int32_t unknown = -1;
};

class SentencePieceEncoder final : public Encoder {
  public:
    // Throws Error{file_corrupt} unless every token has a score and no score is NaN.
    SentencePieceEncoder(const Vocabulary& vocabulary, const std::vector<float>& scores,
                         const SentencePieceRules& rules);
    void encode(const TextSpan& span, std::vector<int32_t>& ids) const override;

  private:
    struct Scratch;
    std::string normalize(const TextSpan& span) const;
    void encode_word(std::string_view text, size_t begin, size_t end, Scratch& scratch,
                     std::vector<int32_t>& ids) const;
    void emit_unused(std::string_view text, Symbol unused, const Scratch& scratch,
                     std::vector<int32_t>& ids) const;

    const Vocabulary& vocabulary_;
    SentencePieceRules rules_;
    CharSymbols chars_;
    std::vector<uint32_t> orders_;  // by id; the smaller, the higher the score
    bool has_unused_ = false;
};

}  // namespace pillion
