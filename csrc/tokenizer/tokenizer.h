// Converts text to token ids and back. It reads the metadata of a tokenizer (TokenizerData), from
// any source. Families: "gemma4" (merge ranks over characters), "llama" (SentencePiece scores),
// "gpt2" (merge ranks over bytes). Invariants: a Tokenizer is immutable after create(), so any
// number of threads may share one; encoding accepts any bytes. docs/gemma4.md section 6.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/encoder.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/vocabulary.h"

namespace pillion {

// The tokenizer.ggml.* keys. An id of -1: the file does not say. Views must live only until
// create() returns.
struct TokenizerData {
    std::string model;  // tokenizer.ggml.model
    std::string pre;    // tokenizer.ggml.pre; empty: gpt2 takes "default"
    std::vector<std::string_view> tokens;
    std::vector<float> scores;             // empty, or one per token; "llama" needs them
    std::vector<int32_t> types;            // empty, or one per token
    std::vector<std::string_view> merges;  // "left right", best first
    int32_t bos = -1, eos = -1, eot = -1, eom = -1, unk = -1, pad = -1, mask = -1;
    std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
    std::vector<int32_t> eos_ids;          // further ids that end a generation
    std::vector<int32_t> suppress_tokens;  // never to be sampled
};

class Tokenizer {
  public:
    // Throws Error: unsupported_model for an unknown family or pre-tokenizer, file_corrupt for
    // impossible data.
    static std::unique_ptr<Tokenizer> create(const TokenizerData& data);
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    // add_special: BOS in front and EOS behind, if the model adds them. parse_special: "<bos>" in
    // the text is the token. The text may hold any bytes. Throws Error{invalid_argument} from 256
    // MiB on.
    std::vector<int32_t> encode(std::string_view text, bool add_special, bool parse_special) const;

    // The text of all ids: their token_bytes() end to end, without the first blank if
    // strips_leading_space(). The bytes are raw; replace_invalid_utf8() makes them valid UTF-8.
    // Throws Error{invalid_argument} for an id outside the vocabulary.
    std::string decode(const int32_t* ids, size_t n, bool print_special) const;
    // The bytes that a token prints, possibly parts of a character: feed them to a Utf8Stream.
    std::string token_bytes(int32_t id, bool print_special) const;
    // Encoding puts a blank in front of the text. A stream of pieces must drop its first byte if
    // that is a blank.
    bool strips_leading_space() const { return strips_leading_space_; }

    int32_t size() const { return vocabulary_.size(); }
    // The vocabulary's spelling of a token.
    std::string_view token_text(int32_t id) const;
    TokenType token_type(int32_t id) const;
    bool is_control(int32_t id) const;  // prints nothing unless asked
    // Finds a token by the vocabulary's spelling; -1: not found.
    int32_t find(std::string_view text) const { return vocabulary_.find(text); }

    bool is_end_of_generation(int32_t id) const;  // false outside the vocabulary
    const std::vector<int32_t>& end_of_generation() const {
        return end_of_generation_;
    }  // ascending
    const std::vector<int32_t>& suppress_tokens() const { return suppress_tokens_; }

    // -1: the model has no such token; same below
    int32_t bos() const { return ids_.bos; }
    int32_t eos() const { return ids_.eos; }
    int32_t eot() const { return ids_.eot; }
    int32_t unk() const { return ids_.unk; }
    int32_t pad() const { return ids_.pad; }
    int32_t mask() const { return ids_.mask; }
    bool adds_bos() const { return adds_bos_; }
    bool adds_eos() const { return adds_eos_; }
    const std::string& model() const { return model_; }
    const std::string& pre() const { return pre_; }  // the rule in use

  private:
    enum class Family { gemma4, sentencepiece, byte_level };
    struct Ids { int32_t bos, eos, eot, eom, unk, pad, mask; };

    Tokenizer(const TokenizerData& data, Family family);
    static Family family_of(const TokenizerData& data);
    void take_ids(const TokenizerData& data);
    void set_gemma4_types();
    void make_encoder(const TokenizerData& data);
    void collect_end_of_generation(const TokenizerData& data);
    void check_id(int32_t id) const;

    std::string model_, pre_;
    Family family_;
    Vocabulary vocabulary_;
    Ids ids_;
    bool adds_bos_ = false, adds_eos_ = false, strips_leading_space_ = false;
    std::vector<int32_t> end_of_generation_, suppress_tokens_;
    std::unique_ptr<const Encoder> encoder_;  // refers to vocabulary_
    std::unique_ptr<const SpecialTokens> specials_;
};

}  // namespace pillion
