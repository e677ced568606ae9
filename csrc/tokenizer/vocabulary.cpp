#include "tokenizer/vocabulary.h"

#include <string.h>

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace pillion {
namespace {

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

TokenType checked_type(int32_t number, std::string_view text) {
    if (number < int32_t(TokenType::normal) || number > int32_t(TokenType::byte))
        return TokenType::normal;
    const TokenType type = TokenType(number);
    return type == TokenType::byte && byte_token_value(text) < 0 ? TokenType::normal : type;
}

}  // namespace

int byte_token_value(std::string_view text) {
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
    const int high = hex_value(text[3]), low = hex_value(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Vocabulary::Vocabulary(const std::vector<std::string_view>& tokens,
                       const std::vector<int32_t>& types) {
    constexpr size_t kTokensMax = size_t(1) << 28;
    if (tokens.empty()) fail(Status::file_corrupt, "tokenizer.ggml.tokens is missing or empty");
    if (tokens.size() > kTokensMax) {
        fail(Status::file_corrupt, "tokenizer.ggml.tokens holds %zu tokens, the limit is %zu",
             tokens.size(), kTokensMax);
    }
    if (!types.empty() && types.size() != tokens.size()) {
        fail(Status::file_corrupt,
             "tokenizer.ggml.token_type holds %zu values, tokenizer.ggml.tokens %zu", types.size(),
             tokens.size());
    }
    uint64_t bytes = 0;
    for (const std::string_view token : tokens) bytes += token.size();
    if (bytes > std::numeric_limits<uint32_t>::max()) {
        fail(Status::file_corrupt, "tokenizer.ggml.tokens holds %llu bytes, the limit is 4 GiB",
             (unsigned long long)bytes);
    }
    arena_.reserve(size_t(bytes));
    starts_.reserve(tokens.size() + 1);
    types_.reserve(tokens.size());
    for (size_t id = 0; id < tokens.size(); ++id) {
        starts_.push_back(uint32_t(arena_.size()));
        arena_.append(tokens[id]);
        types_.push_back(types.empty() ? TokenType::normal : checked_type(types[id], tokens[id]));
        longest_bytes_ = std::max(longest_bytes_, tokens[id].size());
    }
    starts_.push_back(uint32_t(arena_.size()));
    index_tokens();
}

// Multiply and fold, eight bytes at a time. Hashes are compared only within one process, so byte
// order does not matter.
uint64_t Vocabulary::hash(std::string_view text) {
    constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
    uint64_t value = text.size() * kOdd;
    const char* at = text.data();
    size_t left = text.size();
    while (left > 0) {
        uint64_t word = 0;
        const size_t n = std::min<size_t>(left, 8);
        memcpy(&word, at, n);
        value = (value ^ word) * kOdd;
        value ^= value >> 29;
        at += n;
        left -= n;
    }
    value *= kOdd;
    return value ^ value >> 32;
}

void Vocabulary::index_tokens() {
    size_t n_slots = 16;
    while (n_slots < types_.size() * 2) n_slots *= 2;
    slots_.assign(n_slots, Slot{0, -1});
    for (int32_t id = 0; id < size(); ++id) {
        const std::string_view token = text(id);
        if (token.empty()) continue;
        const uint64_t key = hash(token);
        const uint32_t tag = uint32_t(key >> 32);
        size_t at = size_t(key) & (n_slots - 1);
        while (slots_[at].id >= 0 && !(slots_[at].tag == tag && text(slots_[at].id) == token))
            at = (at + 1) & (n_slots - 1);
        if (slots_[at].id < 0) slots_[at] = {tag, id};  // of equal texts the lower id stays
    }
}

int32_t Vocabulary::find(std::string_view token, uint64_t key) const {
    if (token.empty() || token.size() > longest_bytes_) return -1;
    const uint32_t tag = uint32_t(key >> 32);
    const size_t mask = slots_.size() - 1;
    for (size_t at = size_t(key) & mask;; at = (at + 1) & mask) {
        const Slot& slot = slots_[at];
        if (slot.id < 0) return -1;
        if (slot.tag == tag && text(slot.id) == token) return slot.id;
    }
}

void Vocabulary::mark_byte_tokens_by_text() {
    for (int32_t id = 0; id < size(); ++id) {
        if (type(id) == TokenType::normal && byte_token_value(text(id)) >= 0)
            set_type(id, TokenType::byte);
    }
}

std::array<int32_t, 256> Vocabulary::byte_tokens() const {
    std::array<int32_t, 256> ids;
    ids.fill(-1);
    for (int32_t id = size() - 1; id >= 0; --id) {
        if (type(id) == TokenType::byte)
            ids[size_t(byte_token_value(text(id)))] = id;  // downwards, so that the lowest id stays
    }
    return ids;
}

}  // namespace pillion
