// The token strings of one model: one arena, one flat hash table, and types. Encoders and decoders
// interpret the tokens. Invariants: ids are 0 … size() - 1; of tokens with equal text find()
// returns the lowest; a token of type byte has the text <0xNN>.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace pillion {

// GGUF's numbers (tokenizer.ggml.token_type).
enum class TokenType : int32_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
};

// True if plain text may become such a token. The others come only from special handling, so text
// cannot forge a control token.
inline bool is_plain(TokenType type) {
    return type == TokenType::normal || type == TokenType::user_defined ||
           type == TokenType::unused;
}

// ▁ U+2581, a blank in SentencePiece style vocabularies
inline constexpr std::string_view kBlankMark = "\xE2\x96\x81";

class Vocabulary {
  public:
    // Copies the tokens. `types` is empty (all normal) or as long as `tokens`; an unknown type
    // counts as normal. Throws Error{file_corrupt} for an empty or too long list, another length of
    // `types`, and more than 4 GiB of text.
    Vocabulary(const std::vector<std::string_view>& tokens, const std::vector<int32_t>& types);

    int32_t size() const { return int32_t(types_.size()); }
    bool holds(int32_t id) const { return id >= 0 && id < size(); }
    // Requires a valid id.
    std::string_view text(int32_t id) const {
        return std::string_view(arena_).substr(starts_[size_t(id)],
                                               starts_[size_t(id) + 1] - starts_[size_t(id)]);
    }
    TokenType type(int32_t id) const { return types_[size_t(id)]; }
    void set_type(int32_t id, TokenType type) { types_[size_t(id)] = type; }

    // -1: not found. The empty text is never found.
    int32_t find(std::string_view text) const { return find(text, hash(text)); }
    // In three steps, for long lists: the cache misses of many prefetched look-ups overlap.
    static uint64_t hash(std::string_view text);
    void prefetch(uint64_t hash) const {
        __builtin_prefetch(&slots_[size_t(hash) & (slots_.size() - 1)]);
    }
    int32_t find(std::string_view text, uint64_t hash) const;
    size_t longest_bytes() const { return longest_bytes_; }

    // For files without types: turns every normal token whose text is <0xNN> into a byte token.
    // Call it before byte_tokens().
    void mark_byte_tokens_by_text();
    // The id of each byte's token; -1 if the byte has no token.
    std::array<int32_t, 256> byte_tokens() const;

  private:
    struct Slot {
        uint32_t tag;  // high half of the hash
        int32_t id;    // -1: empty
    };
    void index_tokens();

    std::string arena_;
    std::vector<uint32_t> starts_;  // size() + 1 offsets
    std::vector<TokenType> types_;
    std::vector<Slot> slots_;  // a power of two, at most half full
    size_t longest_bytes_ = 0;
};

// The value of "<0xNN>"; -1 for another text.
int byte_token_value(std::string_view text);

}  // namespace pillion
