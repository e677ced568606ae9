// The character level shared by gemma4 and SentencePiece: blanks become ▁, text becomes one symbol
// per character, and a piece that is no token is written as byte tokens. Invariant: cutting at word
// starts changes no result, only the size of the heap: a cut is made where no token could span it.
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

// Every blank of `text` as ▁.
std::string mark_blanks(std::string_view text);
// Every ▁ of `text` as a blank.
std::string unmark_blanks(std::string_view text);

class CharSymbols {
  public:
    // Throws Error{file_corrupt} if a character could end up with no token: neither 256 byte tokens
    // nor an unknown token.
    CharSymbols(const Vocabulary& vocabulary, int32_t unknown);

    // The end of the word that starts at `begin` of a text with marked blanks: the next ▁ that no
    // token joins to what stands before it, or the end of the text.
    size_t word_end(std::string_view text, size_t begin) const;

    // One symbol per character of text[begin, end); an invalid byte is a character of its own.
    void split(std::string_view text, size_t begin, size_t end, std::vector<Symbol>& symbols) const;

    // The token of a text of one piece, if a merge may lead to it: control, unknown and byte tokens
    // never come out of plain text.
    int32_t mergeable(std::string_view piece) const;

    // Appends the ids of the symbols left after merging.
    void emit(std::string_view text, const std::vector<Symbol>& symbols,
              std::vector<int32_t>& ids) const;
    // Appends `piece`, which is no token.
    void emit_bytes(std::string_view piece, std::vector<int32_t>& ids) const;

  private:
    const Vocabulary& vocabulary_;
    int32_t unknown_;
    std::array<int32_t, 256> byte_tokens_;
    std::array<int32_t, 128> ascii_tokens_;
    std::array<bool, 256>
        joins_blank_{};  // by the byte before: some token holds that byte followed by ▁
};

}  // namespace pillion
