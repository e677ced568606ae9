// The character level that gemma4 and SentencePiece share: blanks become ▁, text becomes one symbol
// per character, and a piece without a token becomes byte tokens. Invariant: cutting at word starts
// changes only the size of the heap, never a result. A cut lies where no token could span it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/merge_symbols.h"
#include "tokenizer/vocabulary.h"

namespace pillion {

// Writes every blank of `text` as ▁.
std::string mark_blanks(std::string_view text);
// Writes every ▁ of `text` as a blank.
std::string unmark_blanks(std::string_view text);

class CharSymbols {
  public:
    // Throws Error{file_corrupt} if a character could end up without a token: the vocabulary has
    // neither 256 byte tokens nor an unknown token.
    CharSymbols(const Vocabulary& vocabulary, int32_t unknown);

    // The end of the word that starts at `begin`, in a text with marked blanks: the next ▁ that no
    // token joins to the character before it, or the end of the text.
    size_t word_end(std::string_view text, size_t begin) const;

    // Makes one symbol per character of text[begin, end); an invalid byte is its own character.
    void split(std::string_view text, size_t begin, size_t end, std::vector<Symbol>& symbols) const;

    // The token of a piece, if a merge may lead to it; else -1. Control, unknown and byte tokens
    // never come from plain text.
    int32_t mergeable(std::string_view piece) const;

    // Appends the ids of the symbols that remain after merging.
    void emit(std::string_view text, const std::vector<Symbol>& symbols,
              std::vector<int32_t>& ids) const;
    // Appends `piece`, which has no token of its own, as byte tokens or as the unknown token.
    void emit_bytes(std::string_view piece, std::vector<int32_t>& ids) const;

  private:
    const Vocabulary& vocabulary_;
    int32_t unknown_;
    std::array<int32_t, 256> byte_tokens_;
    std::array<int32_t, 128> ascii_tokens_;
    // by the byte before: some token contains that byte followed by ▁
    std::array<bool, 256> joins_blank_{};
};

}  // namespace pillion
