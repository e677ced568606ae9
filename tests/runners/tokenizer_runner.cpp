// Drives one Tokenizer from a command line, for tests without the Python binding: natively, under
// sanitizers, under qemu.
//
//     tokenizer_runner VOCABULARY < requests > answers
//
// VOCABULARY holds a line per item: `model TEXT`, `pre TEXT`, `set KEY NUMBER`, `token TYPE HEX`,
// `score NUMBER`, `merge HEX`, `type NUMBER`. `token - HEX` gives no type. Requests and their
// answers are a line each; bytes are hexadecimal, "-" if empty:
//     encode ADD PARSE HEX   -> ids N …
//     decode PRINT N …       -> text HEX
//     stream PRINT N …       -> chunks HEX …
//     pieces PRINT N …       -> chunks HEX …
//     find HEX               -> id N
//     info                   -> info KEY=VALUE …
//     type N                 -> type N CONTROL END
//     repeat HEX COUNT       -> repeat COUNT-OF-IDS MICROSECONDS
//     utf8 HEX …             -> chunks HEX …
//     flags                  -> flags N … (all code points, run lengths)
// An Error is answered by `error CODE SENTENCE`; an Error of create() ends the run.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "core/error.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace {

using pillion::Error;
using pillion::Tokenizer;
using pillion::TokenizerData;

std::string from_hex(const std::string& hex) {
    std::string out;
    if (hex == "-") return out;
    const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        out += char(value(hex[i]) * 16 + value(hex[i + 1]));
    return out;
}

std::string to_hex(std::string_view bytes) {
    if (bytes.empty()) return "-";
    static const char digits[] = "0123456789abcdef";
    std::string out;
    for (const char c : bytes) {
        out += digits[uint8_t(c) >> 4];
        out += digits[uint8_t(c) & 15];
    }
    return out;
}

int64_t microseconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                 start)
        .count();
}

struct Vocabulary {
    std::vector<std::string> tokens, merges;
    TokenizerData data;

    void set(const std::string& key, int32_t n) {
        if (key == "bos") data.bos = n;
        else if (key == "eos") data.eos = n;
        else if (key == "eot") data.eot = n;
        else if (key == "eom") data.eom = n;
        else if (key == "unk") data.unk = n;
        else if (key == "pad") data.pad = n;
        else if (key == "mask") data.mask = n;
        else if (key == "add_bos") data.add_bos = n != 0;
        else if (key == "add_eos") data.add_eos = n != 0;
        else if (key == "add_space_prefix") data.add_space_prefix = n != 0;
        else if (key == "remove_extra_whitespaces") data.remove_extra_whitespaces = n != 0;
        else if (key == "eos_id") data.eos_ids.push_back(n);
        else if (key == "suppress") data.suppress_tokens.push_back(n);
        else exit(2);
    }

    void read(const char* path) {
        std::ifstream file(path);
        std::string line;
        while (std::getline(file, line)) {
            const size_t blank = line.find(' ');
            const std::string word = line.substr(0, blank), rest = line.substr(blank + 1);
            const size_t second = rest.find(' ');
            if (word == "model") data.model = rest;
            else if (word == "pre") data.pre = rest;
            else if (word == "set") set(rest.substr(0, second), atoi(rest.c_str() + second));
            else if (word == "score") data.scores.push_back(strtof(rest.c_str(), nullptr));
            else if (word == "type") data.types.push_back(atoi(rest.c_str()));
            else if (word == "merge") merges.push_back(from_hex(rest));
            else if (word == "token") {
                if (rest[0] != '-') data.types.push_back(atoi(rest.c_str()));
                tokens.push_back(from_hex(rest.substr(second + 1)));
            } else exit(2);
        }
        data.tokens.assign(tokens.begin(), tokens.end());
        data.merges.assign(merges.begin(), merges.end());
    }
};

std::string list(const std::vector<int32_t>& ids) {
    std::string out;
    for (const int32_t id : ids) out += (out.empty() ? "" : ",") + std::to_string(id);
    return out.empty() ? "-" : out;
}

std::string info(const Tokenizer& t, const std::string& load_times) {
    std::ostringstream out;
    out << "info size=" << t.size() << " bos=" << t.bos() << " eos=" << t.eos()
        << " eot=" << t.eot() << " unk=" << t.unk() << " pad=" << t.pad() << " mask=" << t.mask()
        << " adds_bos=" << t.adds_bos() << " adds_eos=" << t.adds_eos()
        << " strips=" << t.strips_leading_space() << " model=" << t.model()
        << " pre=" << (t.pre().empty() ? "-" : t.pre()) << " ends=" << list(t.end_of_generation())
        << " suppress=" << list(t.suppress_tokens()) << " " << load_times;
    return out.str();
}

std::string flag_runs() {
    std::ostringstream out;
    out << "flags";
    uint32_t last = ~0u, n = 0;
    for (uint32_t c = 0; c <= 0x110000; ++c) {
        const uint32_t flags = pillion::unicode_flags(c);
        if (c > 0 && flags != last) {
            out << ' ' << last << ' ' << n;
            n = 0;
        }
        last = flags;
        ++n;
    }
    return out.str();
}

std::string feed_all(std::istringstream& in, bool hex, const Tokenizer* t) {
    pillion::Utf8Stream stream;
    std::string out = "chunks";
    bool print = false;
    if (!hex) in >> print;
    for (std::string word; in >> word;) {
        out += ' ' + to_hex(stream.feed(hex ? from_hex(word)
                                            : t->token_bytes(atoi(word.c_str()), print)));
    }
    return out + ' ' + to_hex(stream.flush());
}

std::string answer(const Tokenizer& t, const std::string& request, const std::string& load_times) {
    std::istringstream in(request);
    std::string word, hex;
    bool a = false, b = false;
    in >> word;
    if (word == "encode") {
        in >> a >> b >> hex;
        std::string out = "ids";
        for (const int32_t id : t.encode(from_hex(hex), a, b)) out += ' ' + std::to_string(id);
        return out;
    }
    if (word == "decode") {
        in >> a;
        const std::vector<int32_t> ids{std::istream_iterator<int32_t>(in), {}};
        return "text " + to_hex(t.decode(ids.data(), ids.size(), a));
    }
    if (word == "pieces") {
        in >> a;
        std::string out = "chunks";
        for (int32_t id; in >> id;) out += ' ' + to_hex(t.token_bytes(id, a));
        return out;
    }
    if (word == "stream") return feed_all(in, /*hex=*/false, &t);
    if (word == "utf8") return feed_all(in, /*hex=*/true, nullptr);
    if (word == "flags") return flag_runs();
    if (word == "info") return info(t, load_times);
    if (word == "find") {
        in >> hex;
        return "id " + std::to_string(t.find(from_hex(hex)));
    }
    if (word == "type") {
        int32_t id = 0;
        in >> id;
        return "type " + std::to_string(int(t.token_type(id))) + ' ' +
               std::to_string(t.is_control(id)) + ' ' + std::to_string(t.is_end_of_generation(id));
    }
    if (word == "repeat") {
        size_t count = 0;
        in >> hex >> count;
        const std::string unit = from_hex(hex);
        std::string text;
        text.reserve(unit.size() * count);
        for (size_t i = 0; i < count; ++i) text += unit;
        const auto start = std::chrono::steady_clock::now();
        const size_t n = t.encode(text, false, false).size();
        return "repeat " + std::to_string(n) + ' ' + std::to_string(microseconds_since(start));
    }
    exit(2);
}

void print_error(const Error& error) {
    printf("error %d %s\n", int(error.code()), error.what());
    fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    Vocabulary vocabulary;
    vocabulary.read(argv[1]);
    std::unique_ptr<const Tokenizer> tokenizer;
    const auto start = std::chrono::steady_clock::now();
    const clock_t start_cpu = clock();
    try {
        tokenizer = Tokenizer::create(vocabulary.data);
    } catch (const Error& error) {
        print_error(error);
        return 0;
    }
    const int64_t cpu_us = int64_t(double(clock() - start_cpu) * 1e6 / CLOCKS_PER_SEC);
    const std::string load_times = "load_us=" + std::to_string(microseconds_since(start)) +
                                   " load_cpu_us=" + std::to_string(cpu_us);
    vocabulary = {};  // the tokenizer must not need it any more
    for (std::string request; std::getline(std::cin, request);) {
        try {
            printf("%s\n", answer(*tokenizer, request, load_times).c_str());
            fflush(stdout);
        } catch (const Error& error) {
            print_error(error);
        }
    }
    return 0;
}
