// SentencePiece BPE (tokenizer.ggml.model "llama"): adjacent pieces merge when their text is a
// token, the best score first. Invariant: tokens of type unused take part in merging and are split
// back into what they were merged from.
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
    bool add_space_prefix = true;  // a blank where a passage opens
    bool remove_extra_whitespaces =
        false;  // blanks at the ends of a passage dropped, runs of blanks made one
    int32_t unknown = -1;
};

class SentencePieceEncoder final : public Encoder {
  public:
    // Throws Error{file_corrupt} unless there is one score per token and none is NaN.
    SentencePieceEncoder(const Vocabulary& vocabulary, const std::vector<float>& scores,
                         const SentencePieceRules& rules);
    void encode(const Stretch& stretch, std::vector<int32_t>& ids) const override;

  private:
    struct Scratch;
    std::string normalize(const Stretch& stretch) const;
    void encode_word(std::string_view text, size_t begin, size_t end, Scratch& scratch,
                     std::vector<int32_t>& ids) const;
    void emit_unused(std::string_view text, Symbol unused, const Scratch& scratch,
                     std::vector<int32_t>& ids) const;

    const Vocabulary& vocabulary_;
    SentencePieceRules rules_;
    CharSymbols chars_;
    std::vector<uint32_t> orders_;  // by id; the higher the score the smaller
    bool has_unused_ = false;
};

}  // namespace pillion
