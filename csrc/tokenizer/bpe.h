// BPE by merge ranks: the table of merges and its two encoders, over characters (gemma4) and over
// bytes (gpt2). Invariant: merges are pairs of ids, so encoding builds and compares strings only
// for the first symbols.
#pragma once
#include <stdint.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/char_symbols.h"
#include "tokenizer/encoder.h"
#include "tokenizer/merge_symbols.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocabulary.h"

namespace pillion {

// (left id, right id) -> rank and merged id, in one flat hash table.
class MergeTable {
  public:
    // `merges`: lines "left right", best first. The table skips a line with a piece outside the
    // vocabulary, and a line whose result is outside it or is a control token. Throws
    // Error{file_corrupt} if there are no merges and some token is unreachable without them.
    MergeTable(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges);

    Merge find(int32_t left, int32_t right) const;

  private:
    struct Slot {
        int32_t left, right;  // left -1: empty
        uint32_t rank;
        int32_t merged;
    };
    // A line of the list, before it enters the table.
    struct Line {
        uint32_t rank;
        std::string_view left, right;
        std::string joined;
        uint64_t left_hash, right_hash, joined_hash;
        Slot slot;
    };
    static bool parse(std::string_view text, const Vocabulary& vocabulary, Line& line);
    void look_up(const Vocabulary& vocabulary, Line& line) const;
    void insert(const Slot& merge);
    size_t slot_of(int32_t left, int32_t right) const;

    std::vector<Slot> slots_;  // a power of two, at most half full
};

// BPE over characters. It splits the text only at runs of newlines; a newline run that is a token
// is taken whole. docs/gemma4.md section 6.
class Gemma4Encoder final : public Encoder {
  public:
    Gemma4Encoder(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges,
                  int32_t unknown);
    void encode(const TextSpan& span, std::vector<int32_t>& ids) const override;

  private:
    struct Scratch;
    void encode_run(std::string_view text, size_t begin, size_t end, Scratch& scratch,
                    std::vector<int32_t>& ids) const;

    CharSymbols chars_;
    MergeTable merges_;
};

// BPE over bytes, inside the words of a pre-tokenizer. Drops bytes without a token, as other
// implementations do.
class ByteBpeEncoder final : public Encoder {
  public:
    ByteBpeEncoder(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges,
                   const PreRule& rule);
    void encode(const TextSpan& span, std::vector<int32_t>& ids) const override;

  private:
    const Vocabulary& vocabulary_;
    const PreRule& rule_;
    MergeTable merges_;
    std::array<int32_t, 256> byte_ids_;
};

// Byte-level vocabularies write each byte as one printable character. Characters outside that
// alphabet stay as they are.
std::string bytes_to_alphabet(std::string_view bytes);
std::string alphabet_to_bytes(std::string_view token);

}  // namespace pillion
