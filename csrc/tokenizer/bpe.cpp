#include "tokenizer/bpe.h"

#include "core/error.h"
#include "tokenizer/unicode.h"

namespace pillion {
namespace {

// 256 + the 68 bytes that are not printable.
constexpr uint32_t kAlphabetEnd = 0x144;

// GPT-2's alphabet: a printable Latin-1 byte maps to itself, the others to 256, 257, … in order.
bool stands_for_itself(uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<uint16_t, 256> make_alphabet() {
    std::array<uint16_t, 256> alphabet;
    uint16_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte)
        alphabet[byte] = stands_for_itself(byte) ? uint16_t(byte) : next++;
    return alphabet;
}

const std::array<uint16_t, 256>& alphabet() {
    static const std::array<uint16_t, 256> table = make_alphabet();
    return table;
}

std::array<int16_t, kAlphabetEnd> make_reverse_alphabet() {
    std::array<int16_t, kAlphabetEnd> reverse;
    reverse.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) reverse[alphabet()[byte]] = int16_t(byte);
    return reverse;
}

const std::array<int16_t, kAlphabetEnd>& reverse_alphabet() {
    static const std::array<int16_t, kAlphabetEnd> table = make_reverse_alphabet();
    return table;
}

size_t mix(int32_t left, int32_t right) {
    uint64_t key = uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    key *= 0x9E3779B97F4A7C15;
    key ^= key >> 32;
    key *= 0xD6E8FEB86659FD93;
    return size_t(key ^ key >> 32);
}

bool is_one_character(std::string_view text) {
    return !text.empty() && utf8_step_or_byte(text.data(), text.size()).bytes == text.size();
}

void check_merges_can_be_missing(const Vocabulary& vocabulary) {
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        const std::string_view text = vocabulary.text(id);
        if (vocabulary.type(id) != TokenType::normal || text.empty() || is_one_character(text))
            continue;
        fail(Status::file_corrupt,
             "tokenizer.ggml.merges is missing or empty; token %d (\"%.40s\") needs merges", id,
             std::string(text).c_str());
    }
}

}  // namespace

MergeTable::MergeTable(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges) {
    constexpr size_t kMergesMax = size_t(1) << 30;
    if (merges.size() > kMergesMax) {
        fail(Status::file_corrupt, "tokenizer.ggml.merges holds %zu merges, the limit is %zu",
             merges.size(), kMergesMax);
    }
    if (merges.empty()) check_merges_can_be_missing(vocabulary);
    size_t n_slots = 16;
    while (n_slots < merges.size() * 2) n_slots *= 2;
    slots_.assign(n_slots, Slot{-1, -1, 0, -1});
    // Half a million lines with three look-ups each take most of the loading time. In blocks their
    // cache misses overlap.
    constexpr size_t kBlock = 32;
    std::array<Line, kBlock> block;
    for (size_t rank = 0; rank < merges.size();) {
        size_t n = 0;
        for (; rank < merges.size() && n < kBlock; ++rank) {
            block[n].rank = uint32_t(rank);
            if (parse(merges[rank], vocabulary, block[n])) ++n;
        }
        for (size_t i = 0; i < n; ++i) look_up(vocabulary, block[i]);
        for (size_t i = 0; i < n; ++i) insert(block[i].slot);
    }
}

bool MergeTable::parse(std::string_view text, const Vocabulary& vocabulary, Line& line) {
    const size_t blank = text.find(' ', 1);  // from 1: a piece may begin with a blank
    if (blank == std::string_view::npos) return false;
    line.left = text.substr(0, blank);
    line.right = text.substr(blank + 1);
    line.joined.assign(line.left).append(line.right);
    line.left_hash = Vocabulary::hash(line.left);
    line.right_hash = Vocabulary::hash(line.right);
    line.joined_hash = Vocabulary::hash(line.joined);
    for (const uint64_t hash : {line.left_hash, line.right_hash, line.joined_hash})
        vocabulary.prefetch(hash);
    return true;
}

void MergeTable::look_up(const Vocabulary& vocabulary, Line& line) const {
    line.slot.left = vocabulary.find(line.left, line.left_hash);
    line.slot.right = vocabulary.find(line.right, line.right_hash);
    line.slot.merged = vocabulary.find(line.joined, line.joined_hash);
    line.slot.rank = line.rank;
    __builtin_prefetch(&slots_[mix(line.slot.left, line.slot.right) & (slots_.size() - 1)]);
    if (line.slot.merged >= 0 && !is_plain(vocabulary.type(line.slot.merged)))
        line.slot.merged = -1;
}

void MergeTable::insert(const Slot& merge) {
    if (merge.left < 0 || merge.right < 0 || merge.merged < 0) return;
    Slot& slot = slots_[slot_of(merge.left, merge.right)];
    if (slot.left < 0) slot = merge;  // of two equal lines the first counts
}

size_t MergeTable::slot_of(int32_t left, int32_t right) const {
    const size_t mask = slots_.size() - 1;
    size_t at = mix(left, right) & mask;
    while (slots_[at].left >= 0 && (slots_[at].left != left || slots_[at].right != right))
        at = (at + 1) & mask;
    return at;
}

Merge MergeTable::find(int32_t left, int32_t right) const {
    if (left < 0 || right < 0) return {0, -1};
    const Slot& slot = slots_[slot_of(left, right)];
    return {slot.rank, slot.merged};
}

struct Gemma4Encoder::Scratch {
    std::vector<Symbol> symbols;
    std::vector<MergeCandidate> heap;
};

Gemma4Encoder::Gemma4Encoder(const Vocabulary& vocabulary,
                             const std::vector<std::string_view>& merges, int32_t unknown)
    : chars_(vocabulary, unknown), merges_(vocabulary, merges) {}

void Gemma4Encoder::encode(const TextSpan& span, std::vector<int32_t>& ids) const {
    const std::string marked = mark_blanks(span.text);
    Scratch scratch;
    for (size_t at = 0; at < marked.size();) {
        const bool newlines = marked[at] == '\n';
        const size_t hit = newlines ? marked.find_first_not_of('\n', at) : marked.find('\n', at);
        const size_t end = hit == std::string::npos ? marked.size() : hit;
        const int32_t whole =
            newlines ? chars_.mergeable(std::string_view(marked).substr(at, end - at)) : -1;
        if (whole >= 0) ids.push_back(whole);
        else encode_run(marked, at, end, scratch, ids);
        at = end;
    }
}

void Gemma4Encoder::encode_run(std::string_view text, size_t begin, size_t end, Scratch& scratch,
                               std::vector<int32_t>& ids) const {
    const std::string_view run = text.substr(0, end);
    while (begin < end) {
        const size_t word_end = chars_.word_end(run, begin);
        chars_.split(run, begin, word_end, scratch.symbols);
        merge_symbols(scratch.symbols, scratch.heap,
                      [this](const Symbol& left, const Symbol& right) {
                          return merges_.find(left.id, right.id);
                      });
        chars_.emit(run, scratch.symbols, ids);
        begin = word_end;
    }
}

ByteBpeEncoder::ByteBpeEncoder(const Vocabulary& vocabulary,
                               const std::vector<std::string_view>& merges, const PreRule& rule)
    : vocabulary_(vocabulary), rule_(rule), merges_(vocabulary, merges) {
    for (size_t byte = 0; byte < 256; ++byte) {
        const char c = char(byte);
        byte_ids_[byte] = vocabulary.find(bytes_to_alphabet({&c, 1}));
    }
}

void ByteBpeEncoder::encode(const TextSpan& span, std::vector<int32_t>& ids) const {
    std::vector<std::string_view> words;
    split_words(rule_, span.text, words);
    std::vector<Symbol> symbols;
    std::vector<MergeCandidate> heap;
    for (const std::string_view word : words) {
        if (rule_.whole_words_first) {
            const int32_t id = vocabulary_.find(bytes_to_alphabet(word));
            if (id >= 0 && is_plain(vocabulary_.type(id))) {
                ids.push_back(id);
                continue;
            }
        }
        symbols.clear();
        for (const char c : word) {
            const int32_t id = byte_ids_[uint8_t(c)];
            if (id >= 0) append_symbol(symbols, id, 0, 1);
        }
        merge_symbols(symbols, heap, [this](const Symbol& left, const Symbol& right) {
            return merges_.find(left.id, right.id);
        });
        for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[size_t(i)].next)
            ids.push_back(symbols[size_t(i)].id);
    }
}

std::string bytes_to_alphabet(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size() + bytes.size() / 2);
    for (const char c : bytes) {
        const uint16_t letter = alphabet()[uint8_t(c)];
        if (letter < 128) {
            out += char(letter);
            continue;
        }
        out += char(0xC0 | letter >> 6);
        out += char(0x80 | (letter & 0x3F));
    }
    return out;
}

std::string alphabet_to_bytes(std::string_view token) {
    std::string out;
    for (size_t at = 0; at < token.size();) {
        const Utf8Step step = utf8_step_or_byte(token.data() + at, token.size() - at);
        const int16_t byte =
            step.code_point < kAlphabetEnd ? reverse_alphabet()[step.code_point] : int16_t(-1);
        // One character outside the alphabet: the token was not written in it.
        if (byte < 0) return std::string(token);
        out += char(byte);
        at += step.bytes;
    }
    return out;
}

}  // namespace pillion
