#include "tokenizer/char_symbols.h"

#include "core/error.h"
#include "tokenizer/unicode.h"

namespace pillion {
namespace {

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    size_t at = 0;
    for (;;) {
        const size_t hit = text.find(from, at);
        out.append(text.substr(at, hit == std::string_view::npos ? hit : hit - at));
        if (hit == std::string_view::npos) return out;
        out.append(to);
        at = hit + from.size();
    }
}

}  // namespace

std::string mark_blanks(std::string_view text) { return replace_all(text, " ", kBlankMark); }
std::string unmark_blanks(std::string_view text) { return replace_all(text, kBlankMark, " "); }

CharSymbols::CharSymbols(const Vocabulary& vocabulary, int32_t unknown)
    : vocabulary_(vocabulary), unknown_(unknown), byte_tokens_(vocabulary.byte_tokens()) {
    for (size_t byte = 0; byte < byte_tokens_.size() && unknown < 0; ++byte) {
        if (byte_tokens_[byte] < 0) {
            fail(Status::file_corrupt,
                 "tokenizer: no token <0x%02X> and no unknown token for what the vocabulary lacks",
                 unsigned(byte));
        }
    }
    for (size_t c = 0; c < ascii_tokens_.size(); ++c) {
        const char text = char(c);
        ascii_tokens_[c] = mergeable({&text, 1});
    }
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        if (!is_plain(vocabulary.type(id))) continue;
        const std::string_view text = vocabulary.text(id);
        for (size_t hit = text.find(kBlankMark, 1); hit != std::string_view::npos;
             hit = text.find(kBlankMark, hit + 1)) {
            joins_blank_[uint8_t(text[hit - 1])] = true;
        }
    }
}

size_t CharSymbols::word_end(std::string_view text, size_t begin) const {
    for (size_t hit = text.find(kBlankMark, begin + 1); hit != std::string_view::npos;
         hit = text.find(kBlankMark, hit + 1)) {
        if (!joins_blank_[uint8_t(text[hit - 1])]) return hit;
    }
    return text.size();
}

void CharSymbols::split(std::string_view text, size_t begin, size_t end,
                        std::vector<Symbol>& symbols) const {
    symbols.clear();
    for (size_t at = begin; at < end;) {
        const Utf8Step step = utf8_step_or_byte(text.data() + at, end - at);
        const int32_t id = step.code_point < 128 ? ascii_tokens_[step.code_point]
                                                 : mergeable(text.substr(at, step.bytes));
        append_symbol(symbols, id, uint32_t(at), step.bytes);
        at += step.bytes;
    }
}

int32_t CharSymbols::mergeable(std::string_view piece) const {
    const int32_t id = vocabulary_.find(piece);
    return id >= 0 && is_plain(vocabulary_.type(id)) ? id : -1;
}

void CharSymbols::emit(std::string_view text, const std::vector<Symbol>& symbols,
                       std::vector<int32_t>& ids) const {
    for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[size_t(i)].next) {
        const Symbol& symbol = symbols[size_t(i)];
        if (symbol.id >= 0) ids.push_back(symbol.id);
        else emit_bytes(text.substr(symbol.begin, symbol.bytes), ids);
    }
}

void CharSymbols::emit_bytes(std::string_view piece, std::vector<int32_t>& ids) const {
    const size_t start = ids.size();
    for (const char c : piece) {
        const int32_t id = byte_tokens_[uint8_t(c)];
        if (id >= 0) {
            ids.push_back(id);
            continue;
        }
        ids.resize(start);  // all of its bytes or none
        if (start == 0 || ids.back() != unknown_)
            ids.push_back(unknown_);  // a run of unknown characters becomes one token
        return;
    }
}

}  // namespace pillion
