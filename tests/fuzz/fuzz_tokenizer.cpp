// Fuzzes the tokenizers: the input is first a vocabulary, then a text. For any input, create()
// returns a Tokenizer or throws Error, and encode() and decode() return the text if the family
// promises that.
//   libFuzzer:  clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc
//               tests/fuzz/fuzz_tokenizer.cpp csrc/tokenizer/*.cpp csrc/core/error.cpp
//   without it: g++ -DPILLION_FUZZ_MAIN -fsanitize=address,undefined …; ./a.out [RUNS] [SEED]
//               replays a seeded set of inputs
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "seeded.h"
#include "tokenizer/char_symbols.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace {

using pillion::Error;
using pillion::Status;
using pillion::Tokenizer;
using pillion::TokenizerData;

const char* const kModels[] = {"gemma4", "llama", "gpt2", "t5"};
const char* const kRules[] = {"",       "default", "gpt-2",  "llama-bpe",
                              "smollm", "qwen2",   "gemma4", "nonsense"};
// What a random string would seldom hit. Of a vocabulary's texts; also pieces of the text to
// encode.
const char* const kPieces[] = {
    "\xE2\x96\x81",
    " ",
    "a",
    "b",
    "ab",
    "aa",
    "aaaa",
    "\n",
    "\n\n",
    "<bos>",
    "<eos>",
    "<turn|>",
    "</s>",
    "<unk>",
    "<s>",
    "<|tool_response>",
    "<0x-1>",
    "<0xZZ>",
    "<0x1FF>",
    "<0x41>",
    "<0xE2>",
    "\xC4\xA0",
    "\xC4\xA0"
    "a",
    "\xC4\x8A",
    "\xE2\x96\x81\xE2\x96\x81",
    "\xE2\x96\x81"
    "a",
    "a\xE2\x96\x81",
    "  ",
    "<|im_end|>",
    "\xF0\x9F\x99\x82",
    "\xF0\x9F",
    "\xED\xA0\x80",
    "'s",
    "'LL",
    "123",
    "\xD9\xA3",
    "\r\n",
    "\t",
    "\xC3\xA9",
    "e\xCC\x81",
};

long n_created = 0;  // for main(): a set of inputs that makes no tokenizer tests nothing

class Input {
  public:
    Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    bool empty() const { return at_ == end_; }
    uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
    int32_t number() { return int32_t(uint32_t(byte()) | uint32_t(byte()) << 8) - 8; }
    template <size_t N>
    const char* pick(const char* const (&list)[N]) {
        return list[byte() % N];
    }
    // A few listed pieces or raw bytes.
    std::string text() {
        std::string out;
        for (int n = byte() % 8; n > 0; --n) {
            const uint8_t kind = byte();
            if (kind < 180) out += pick(kPieces);
            else if (kind < 250) out += char(byte());
            else out.append(size_t(byte()) * 16, char(byte()));
        }
        return out;
    }

  private:
    const uint8_t *at_, *end_;
};

[[noreturn]] void broken(const char* what) {
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

struct Source {
    std::vector<std::string> tokens, merges;
    TokenizerData data;
};

void add_tokens(Input& in, Source& out) {
    const uint8_t how = in.byte();
    for (int n = how % 64; n > 0; --n) {
        out.tokens.push_back(in.text());
        out.data.types.push_back(in.byte() % 9 - 1);
        out.data.scores.push_back(float(in.number()) / 8);
    }
    if (how & 64) {  // an alphabet, so that vocabularies live
        for (int b = 0; b < 256; ++b) {
            char text[8];
            snprintf(text, sizeof text, "<0x%02X>", unsigned(b));
            out.tokens.push_back(text);
            out.data.types.push_back(6);
            out.data.scores.push_back(0);
        }
        for (const char* piece : kPieces) {
            out.tokens.push_back(piece);
            out.data.types.push_back(1);
            out.data.scores.push_back(-float(strlen(piece)));
        }
    }
    if (in.byte() < 8) out.data.types.resize(in.byte());
    if (in.byte() < 8) out.data.scores.resize(in.byte());
    if (in.byte() < 16) out.data.types.clear();
}

void add_settings(Input& in, Source& out) {
    TokenizerData& data = out.data;
    const uint8_t bits = in.byte();
    if (bits & 1) data.add_bos = in.byte() & 1;
    if (bits & 2) data.add_eos = in.byte() & 1;
    if (bits & 4) data.add_space_prefix = in.byte() & 1;
    if (bits & 8) data.remove_extra_whitespaces = in.byte() & 1;
    const auto likely_id = [&] {
        return in.byte() > 250 || out.tokens.empty() ? in.number()
                                                     : int32_t(in.byte() % out.tokens.size());
    };
    if (bits & 16) data.eos_ids.push_back(likely_id());
    if (bits & 32) data.suppress_tokens.push_back(likely_id());
    for (int32_t* id :
         {&data.bos, &data.eos, &data.eot, &data.eom, &data.unk, &data.pad, &data.mask}) {
        const uint8_t how = in.byte();
        if (how < 200 && !out.tokens.empty()) *id = int32_t(how % out.tokens.size());
        else if (how > 253) *id = in.number();
    }
}

Source read_source(Input& in) {
    Source out;
    out.data.model = in.pick(kModels);
    out.data.pre = in.pick(kRules);
    add_tokens(in, out);
    for (int n = in.byte() % 64; n > 0; --n) {
        const uint8_t kind = in.byte();
        if (kind < 200 && !out.tokens.empty()) {
            const std::string& left = out.tokens[in.byte() % out.tokens.size()];
            out.merges.push_back(left + ' ' + out.tokens[in.byte() % out.tokens.size()]);
        } else {
            out.merges.push_back(in.text());
        }
    }
    add_settings(in, out);
    out.data.tokens.assign(out.tokens.begin(), out.tokens.end());
    out.data.merges.assign(out.merges.begin(), out.merges.end());
    return out;
}

void check_ids(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool print_special) {
    pillion::Utf8Stream stream;
    std::string streamed;
    for (const int32_t id : ids) {
        if (id < 0 || id >= tokenizer.size()) broken("an id outside the vocabulary");
        streamed += stream.feed(tokenizer.token_bytes(id, print_special));
        (void)tokenizer.is_end_of_generation(id);
    }
    streamed += stream.flush();
    if (tokenizer.strips_leading_space() && !streamed.empty() && streamed[0] == ' ')
        streamed.erase(0, 1);
    const std::string whole = tokenizer.decode(ids.data(), ids.size(), print_special);
    if (streamed != pillion::replace_invalid_utf8(whole)) broken("a stream differs from the whole");
    if (pillion::replace_invalid_utf8(streamed) != streamed) broken("a stream is not UTF-8");
}

bool has_all_bytes(const Tokenizer& tokenizer) {
    std::vector<bool> seen(256);
    for (int32_t id = 0; id < tokenizer.size(); ++id) {
        if (tokenizer.token_type(id) == pillion::TokenType::byte)
            seen[size_t(pillion::byte_token_value(tokenizer.token_text(id)))] = true;
    }
    for (const bool byte : seen) {
        if (!byte) return false;
    }
    return true;
}

// Character vocabularies with all bytes lose nothing but the difference between ▁ and a blank.
bool keeps_text(const Tokenizer& tokenizer, const TokenizerData& data) {
    const bool plain_llama = data.model == "llama" && data.add_space_prefix == false &&
                             data.remove_extra_whitespaces != true;
    return (data.model == "gemma4" || plain_llama) && has_all_bytes(tokenizer);
}

void check_round_trip(const Tokenizer& tokenizer, const std::string& text) {
    const std::vector<int32_t> ids = tokenizer.encode(text, false, false);
    const std::string back = tokenizer.decode(ids.data(), ids.size(), /*print_special=*/false);
    if (pillion::unmark_blanks(back) != pillion::unmark_blanks(text))
        broken("decode(encode(text)) is not the text");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    Input in(bytes, size);
    try {
        Source source = read_source(in);
        const auto tokenizer = Tokenizer::create(source.data);
        const bool round_trip = keeps_text(*tokenizer, source.data);
        source = {};
        ++n_created;
        do {
            std::string text = in.text();
            text += in.text();
            if (round_trip) check_round_trip(*tokenizer, text);
            for (const bool parse : {false, true}) {
                check_ids(*tokenizer, tokenizer->encode(text, /*add_special=*/parse, parse),
                          /*print_special=*/!parse);
            }
        } while (!in.empty());
        try {
            (void)tokenizer->token_bytes(in.number() * 7, false);
        } catch (const Error&) {
        }
    } catch (const Error& error) {
        if (error.code() == Status::internal || error.what()[0] == 0) broken(error.what());
    }
    return 0;
}

#ifdef PILLION_FUZZ_MAIN
int main(int argc, char** argv) {
    const long runs = argc > 1 ? atol(argv[1]) : 20000;
    fuzz::replay(runs, argc > 2 ? strtoull(argv[2], nullptr, 10) : 1, 1500);
    printf("%ld inputs, %ld tokenizers\n", runs, n_created);
    return 0;
}
#endif
