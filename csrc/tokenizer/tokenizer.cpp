#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/char_symbols.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/sentencepiece.h"

namespace pillion {
namespace {

// Offsets have 32 bits, and a blank grows to three bytes, so this leaves room. A context holds far
// less.
constexpr size_t kTextBytesMax = size_t(256) << 20;

constexpr std::string_view kGemma4ToolResponse = "<|tool_response>";
constexpr std::string_view kGemma4EndOfTurn = "<turn|>";
// of HTML; an ordinary token in Gemma's vocabulary
constexpr std::string_view kStrikeEnd = "</s>";

// Converters give these tokens different types, so their texts decide.
constexpr std::string_view kGemma4Control[] = {
    "<pad>",     "<eos>",     "<bos>",    "<unk>",    "<mask>",    "<|turn>",   "<turn|>",
    "<|think|>", "<|tool>",   "<tool|>",  "<|image>", "<image|>",  "<|image|>", "<|audio>",
    "<audio|>",  "<|audio|>", "<|video>", "<video|>", "<|video|>",
};
constexpr std::string_view kGemma4Printed[] = {
    "<|channel>",       "<channel|>",       "<|tool_call>", "<tool_call|>",
    "<|tool_response>", "<tool_response|>", "<|\"|>",
};

// End-of-generation texts of common chat formats, for files that only say that the token is
// special. A model may be tuned to another format than the first one of its vocabulary.
constexpr std::string_view kEndTexts[] = {
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_turn>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|eom|>",
    "<EOT>",
    "<|endoftext|>",
    "<|end_of_turn|>",
    "<end_of_utterance>",
};
// ends an answer, or a part of it if these two exist
constexpr std::string_view kPartEnd = "<|end|>";
constexpr std::string_view kAnswerEnds[] = {"<|return|>", "<|call|>"};

int32_t checked_id(int32_t id, int32_t size, const char* key) {
    if (id >= -1 && id < size) return id;
    fail(Status::file_corrupt, "tokenizer.ggml.%s is %d, the vocabulary has %d tokens", key, id,
         size);
}

bool prints_nothing(TokenType type) {
    return type == TokenType::control || type == TokenType::unknown;
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::create(const TokenizerData& data) {
    return std::unique_ptr<Tokenizer>(new Tokenizer(data, family_of(data)));
}

Tokenizer::Family Tokenizer::family_of(const TokenizerData& data) {
    if (data.model == "gemma4") return Family::gemma4;
    if (data.model == "llama") return Family::sentencepiece;
    if (data.model == "gpt2") return Family::byte_level;
    fail(Status::unsupported_model,
         "tokenizer.ggml.model \"%.64s\" is not supported (gemma4, llama, gpt2)",
         data.model.c_str());
}

Tokenizer::Tokenizer(const TokenizerData& data, Family family)
    : model_(data.model), pre_(data.pre), family_(family), vocabulary_(data.tokens, data.types) {
    if (!data.scores.empty() && data.scores.size() != data.tokens.size()) {
        fail(Status::file_corrupt,
             "tokenizer.ggml.scores holds %zu values, tokenizer.ggml.tokens %zu",
             data.scores.size(), data.tokens.size());
    }
    take_ids(data);
    if (data.types.empty() && family_ != Family::byte_level) vocabulary_.mark_byte_tokens_by_text();
    if (family_ == Family::gemma4) set_gemma4_types();
    make_encoder(data);
    specials_ = std::make_unique<SpecialTokens>(vocabulary_, /*blanks_for_marks=*/family_ ==
                                                                 Family::sentencepiece);
    collect_end_of_generation(data);

    if (adds_bos_ && ids_.bos < 0)
        fail(Status::file_corrupt, "tokenizer: a BOS token is to be added, but there is none");
    if (adds_eos_ && ids_.eos < 0)
        fail(Status::file_corrupt, "tokenizer: an EOS token is to be added, but there is none");
}

void Tokenizer::take_ids(const TokenizerData& data) {
    const auto take = [&](int32_t id, const char* key, std::string_view usual_text) {
        id = checked_id(id, size(), key);
        return id < 0 ? vocabulary_.find(usual_text) : id;
    };
    const bool gemma = family_ == Family::gemma4, sentencepiece = family_ == Family::sentencepiece;
    ids_.bos = take(data.bos, "bos_token_id", gemma ? "<bos>" : sentencepiece ? "<s>" : "");
    ids_.eos = take(data.eos, "eos_token_id", gemma ? "<eos>" : sentencepiece ? "</s>" : "");
    ids_.unk = take(data.unk, "unknown_token_id", gemma || sentencepiece ? "<unk>" : "");
    ids_.pad = take(data.pad, "padding_token_id", gemma ? "<pad>" : "");
    ids_.mask = take(data.mask, "mask_token_id", gemma ? "<mask>" : "");
    ids_.eot = take(data.eot, "eot_token_id", gemma ? kGemma4EndOfTurn : std::string_view());
    ids_.eom = take(data.eom, "eom_token_id", "");
    for (const int32_t id : data.suppress_tokens) {
        if (checked_id(id, size(), "suppress_tokens") >= 0) suppress_tokens_.push_back(id);
    }
}

void Tokenizer::set_gemma4_types() {
    const auto set = [this](int32_t id, TokenType type) {
        if (id >= 0) vocabulary_.set_type(id, type);
    };
    const int32_t strike_end = find(kStrikeEnd);
    for (const int32_t id : {ids_.bos, ids_.eos, ids_.pad, ids_.mask}) set(id, TokenType::control);
    for (const std::string_view text : kGemma4Control) set(find(text), TokenType::control);
    for (const std::string_view text : kGemma4Printed) set(find(text), TokenType::user_defined);
    if (strike_end >= 0 && token_type(strike_end) != TokenType::user_defined)
        set(strike_end, TokenType::normal);
}

void Tokenizer::make_encoder(const TokenizerData& data) {
    adds_eos_ = data.add_eos.value_or(false);
    switch (family_) {
        case Family::gemma4: {
            if (!pre_.empty() && pre_ != "gemma4" && pre_ != "default") {
                fail(Status::unsupported_model,
                     "tokenizer.ggml.pre \"%.64s\" is not supported for gemma4 (gemma4, default)",
                     pre_.c_str());
            }
            pre_ = "gemma4";
            // Overrides the file: converters write false because the chat template has it.
            adds_bos_ = true;
            encoder_ = std::make_unique<Gemma4Encoder>(vocabulary_, data.merges, ids_.unk);
            break;
        }
        case Family::sentencepiece: {
            adds_bos_ = data.add_bos.value_or(ids_.bos >= 0);
            SentencePieceRules rules;
            rules.add_space_prefix = data.add_space_prefix.value_or(true);
            rules.remove_extra_whitespaces = data.remove_extra_whitespaces.value_or(false);
            rules.unknown = ids_.unk;
            strips_leading_space_ = rules.add_space_prefix;
            encoder_ = std::make_unique<SentencePieceEncoder>(vocabulary_, data.scores, rules);
            break;
        }
        case Family::byte_level: {
            if (pre_.empty()) pre_ = "default";
            const PreRule* rule = find_pre_rule(pre_);
            if (rule == nullptr) {
                fail(Status::unsupported_model,
                     "tokenizer.ggml.pre \"%.64s\" is not supported (%s)", pre_.c_str(),
                     pre_rule_names().c_str());
            }
            adds_bos_ = data.add_bos.value_or(rule->adds_bos && ids_.bos >= 0);
            encoder_ = std::make_unique<ByteBpeEncoder>(vocabulary_, data.merges, *rule);
            break;
        }
    }
}

void Tokenizer::collect_end_of_generation(const TokenizerData& data) {
    std::vector<int32_t>& ends = end_of_generation_;
    const auto add = [&](int32_t id) {
        if (id >= 0) ends.push_back(id);
    };
    const auto add_special = [&](std::string_view text) {
        const int32_t id = find(text);
        if (id >= 0 && token_type(id) != TokenType::normal) add(id);
    };
    for (const int32_t id : data.eos_ids) add(checked_id(id, size(), "eos_token_ids"));
    add(ids_.eot);
    add(ids_.eom);
    for (const std::string_view text : kEndTexts) add_special(text);
    if (find(kAnswerEnds[0]) < 0 || find(kAnswerEnds[1]) < 0) add_special(kPartEnd);
    for (const std::string_view text : kAnswerEnds) add_special(text);
    const int32_t strike_end = find(kStrikeEnd);
    if (strike_end >= 0 && token_type(strike_end) == TokenType::control) add(strike_end);
    if (family_ == Family::gemma4) {  // for any token types
        for (const std::string_view text :
             {std::string_view("<eos>"), kGemma4EndOfTurn, kGemma4ToolResponse})
            add(find(text));
        ends.erase(std::remove(ends.begin(), ends.end(), strike_end), ends.end());
    }
    add(ids_.eos);
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special,
                                       bool parse_special) const {
    if (text.size() > kTextBytesMax) {
        fail(Status::invalid_argument, "the text has %zu bytes, the limit is %zu", text.size(),
             kTextBytesMax);
    }
    // SentencePiece reads a ▁ of the text as a blank, also in user-defined tokens
    std::string unmarked;
    if (family_ == Family::sentencepiece && text.find(kBlankMark) != std::string_view::npos) {
        unmarked = unmark_blanks(text);
        text = unmarked;
    }
    std::vector<int32_t> ids;
    if (add_special && adds_bos_) ids.push_back(ids_.bos);
    bool opens = true;
    for (size_t at = 0; at < text.size();) {
        const SpecialTokens::Hit hit = specials_->find(text, at, parse_special);
        const bool closes = hit.bytes == 0 || vocabulary_.type(hit.id) != TokenType::user_defined;
        encoder_->encode({text.substr(at, hit.begin - at), opens, closes}, ids);
        if (hit.bytes > 0) ids.push_back(hit.id);
        at = hit.begin + hit.bytes;
        opens = closes;
    }
    if (add_special && adds_eos_) ids.push_back(ids_.eos);
    return ids;
}

std::string Tokenizer::decode(const int32_t* ids, size_t n, bool print_special) const {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += token_bytes(ids[i], print_special);
    if (strips_leading_space_ && !text.empty() && text.front() == ' ') text.erase(0, 1);
    return text;
}

std::string Tokenizer::token_bytes(int32_t id, bool print_special) const {
    check_id(id);
    const std::string_view text = vocabulary_.text(id);
    const TokenType type = vocabulary_.type(id);
    if (prints_nothing(type)) return print_special ? std::string(text) : std::string();
    if (type == TokenType::byte) return std::string(1, char(byte_token_value(text)));
    if (family_ != Family::byte_level) return unmark_blanks(text);
    return type == TokenType::user_defined ? std::string(text) : alphabet_to_bytes(text);
}

void Tokenizer::check_id(int32_t id) const {
    if (!vocabulary_.holds(id))
        fail(Status::invalid_argument, "token id %d is outside the vocabulary of %d tokens", id,
             size());
}

std::string_view Tokenizer::token_text(int32_t id) const {
    check_id(id);
    return vocabulary_.text(id);
}

TokenType Tokenizer::token_type(int32_t id) const {
    check_id(id);
    return vocabulary_.type(id);
}

bool Tokenizer::is_control(int32_t id) const { return prints_nothing(token_type(id)); }

bool Tokenizer::is_end_of_generation(int32_t id) const {
    return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), id);
}

}  // namespace pillion
