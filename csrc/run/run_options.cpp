#include "run/run_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limits>
#include <vector>

namespace pillion::run {
namespace {

struct Option {
    const char *brief, *name, *value, *help;  // brief "": none; value "": a switch
    void (*set)(Options&, const std::string& name, const std::string& value);
};

int64_t whole(const std::string& name, const std::string& text, int64_t least, int64_t most) {
    char* end = nullptr;
    errno = 0;
    const long long v = strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end || errno || v < least || v > most)
        throw UsageError(name + " is " + text + "; it can be " + std::to_string(least) + " to " +
                         std::to_string(most));
    return v;
}

double real(const std::string& name, const std::string& text, double least, double most) {
    char* end = nullptr;
    const double v = strtod(text.c_str(), &end);
    if (text.empty() || *end || !(v >= least && v <= most)) {
        char bounds[80];
        snprintf(bounds, sizeof bounds, "; it can be %g to %g", least, most);
        throw UsageError(name + " is " + text + bounds);
    }
    return v;
}

const std::string& one_of(const std::string& name, const std::string& text,
                          const std::vector<std::string>& choices) {
    std::string list;
    for (const std::string& c : choices) {
        if (c == text) return text;
        list += (list.empty() ? "" : ", ") + c;
    }
    throw UsageError(name + " is " + text + "; it can be " + list);
}

const std::string& named(const std::string& name, const std::string& text) {
    if (text.empty()) throw UsageError(name + " is empty");
    return text;
}

constexpr size_t kMediaMost = 16;
constexpr int kMost = std::numeric_limits<int32_t>::max();
using Text = const std::string&;

const Option kOptions[] = {
    {"-m", "--model", "FILE", "the model, a GGUF file; or MODEL by itself",
     [](Options& o, Text n, Text v) { o.model = named(n, v); }},
    {"-md", "--model-draft", "FILE", "the drafter; lookup: prompt lookup; none",
     [](Options& o, Text n, Text v) {
         if (v == "auto")
             throw UsageError(n +
                              " is auto, which only `pillion run` knows: name the drafter's file, "
                              "lookup or none");
         o.drafter = named(n, v);
     }},
    {"-p", "--prompt", "TEXT", "the text to continue",
     [](Options& o, Text, Text v) { o.prompt = v, o.has_prompt = true; }},
    {"-f", "--file", "FILE", "read the prompt from a file; - is stdin",
     [](Options& o, Text n, Text v) { o.file = named(n, v), o.has_file = true; }},
    {"", "--image", "FILE", "a picture, for the next <|image|> of the prompt; needs --mmproj",
     [](Options& o, Text n, Text v) { o.media.push_back({true, named(n, v)}); }},
    {"", "--audio", "FILE", "a sound, for the next <|audio|>; needs --mmproj",
     [](Options& o, Text n, Text v) { o.media.push_back({false, named(n, v)}); }},
    {"", "--mmproj", "FILE", "the model's towers, which encode pictures and sounds",
     [](Options& o, Text n, Text v) { o.mmproj = named(n, v); }},
    {"", "--image-tokens", "N", "most tokens of a picture, 1 to 1120; as the mmproj file says",
     [](Options& o, Text n, Text v) { o.image_tokens = int(whole(n, v, 1, 1120)); }},
    {"-n", "--n-predict", "N", "most tokens to write; -1: until the model ends",
     [](Options& o, Text n, Text v) { o.n_predict = int(whole(n, v, -1, kMost)); }},
    {"-c", "--ctx-size", "N", "positions of the context; 0: the model's, at most 4096",
     [](Options& o, Text n, Text v) { o.n_ctx = int(whole(n, v, 0, kMost)); }},
    {"-t", "--threads", "N", "threads; 0: all cores",
     [](Options& o, Text n, Text v) { o.n_threads = int(whole(n, v, 0, 256)); }},
    {"-b", "--batch-size", "N", "rows of one prefill run; 0: 512",
     [](Options& o, Text n, Text v) { o.n_batch = int(whole(n, v, 0, kMost)); }},
    {"", "--temp", "T", "temperature; 0: greedy",
     [](Options& o, Text n, Text v) { o.temperature = real(n, v, 0, 100); }},
    {"", "--top-k", "K", "keep the k most likely tokens; 0: all",
     [](Options& o, Text n, Text v) { o.top_k = double(whole(n, v, 0, kMost)); }},
    {"", "--top-p", "P", "keep tokens up to this total probability; 1: all",
     [](Options& o, Text n, Text v) { o.top_p = real(n, v, 0, 1); }},
    {"", "--min-p", "P", "drop tokens below this part of the best; 0: none",
     [](Options& o, Text n, Text v) { o.min_p = real(n, v, 0, 1); }},
    {"", "--repeat-penalty", "X", "penalty on repeated tokens; 1: off",
     [](Options& o, Text n, Text v) { o.repeat_penalty = real(n, v, 0, 100); }},
    {"-s", "--seed", "N", "the same seed gives the same text; -1: random",
     [](Options& o, Text n, Text v) {
         o.seed = whole(n, v, -1, std::numeric_limits<int64_t>::max());
     }},
    {"-fa", "--flash-attn", "WHEN", "auto, on or off",
     [](Options& o, Text n, Text v) { o.flash_attn = one_of(n, v, {"auto", "on", "off"}); }},
    {"", "--kv-type", "TYPE", "type of the KV cache: f16 or q8_0",
     [](Options& o, Text n, Text v) { o.kv_type = one_of(n, v, {"f16", "q8_0"}); }},
    {"", "--swa-full", "", "sliding layers keep every position: takes memory",
     [](Options& o, Text, Text) { o.swa_full = true; }},
    {"", "--device", "NAME", "where the model runs: auto, cpu, cuda, cuda:1, htp",
     [](Options& o, Text n, Text v) { o.device = named(n, v); }},
    {"", "--draft-device", "NAME",
     "where the drafter runs; auto: beside the model (htp: on the CPU)",
     [](Options& o, Text n, Text v) { o.draft_device = named(n, v); }},
    {"-ngl", "--n-gpu-layers", "N",
     "layers on the device, from the last one down; -1: as many as fit; 0: none",
     [](Options& o, Text n, Text v) { o.n_gpu_layers = int(whole(n, v, -1, kMost)); }},
    {"", "--strict", "", "what does not fit the device is an error",
     [](Options& o, Text, Text) { o.strict = true; }},
    {"", "--spec-draft-n-max", "N", "drafts of a round, 0 to 8, or auto: as many as pay off",
     [](Options& o, Text n, Text v) {
         if (v != "auto") whole(n, v, 0, 8);
         o.draft_max = v;
     }},
    {"", "--spec-draft-p-min", "P", "a draft less likely than this ends the draft; 0: off",
     [](Options& o, Text n, Text v) { o.p_min = real(n, v, 0, 1); }},
    {"", "--spec-draft-sampling", "HOW",
     "greedy, or probabilistic: drafts are drawn and verified by rejection",
     [](Options& o, Text n, Text v) {
         o.draft_sampling = one_of(n, v, {"greedy", "probabilistic"});
     }},
    {"", "--draft-dense-head", "", "the drafter scores the whole vocabulary",
     [](Options& o, Text, Text) { o.dense_head = true; }},
    {"", "--draft-lookup", "", "drafts from the text too, where that promises more",
     [](Options& o, Text, Text) { o.lookup = true; }},
    {"", "--no-mmap", "", "read the file into memory instead of mapping it",
     [](Options& o, Text, Text) { o.no_mmap = true; }},
    {"", "--version", "", "print the version", [](Options& o, Text, Text) { o.version = true; }},
    {"-h", "--help", "", "show this", [](Options& o, Text, Text) { o.help = true; }},
};

const Option& find(const std::string& word) {
    for (const Option& option : kOptions)
        if (word == option.name || (*option.brief && word == option.brief)) return option;
    for (const char* python :
         {"--chat", "--system", "--think", "--no-think", "-sys", "--stop", "--json"})
        if (word == python || (word.rfind("--chat-", 0) == 0 && !strcmp(python, "--chat")))
            throw UsageError(word + " is an option of `pillion run` only: it needs Python");
    throw UsageError("there is no option " + (word.empty() ? "\"\"" : word) +
                     "; --help lists them");
}

}  // namespace

Options read_options(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; i++) {
        std::string word = argv[i], value;
        if (word.empty() || word[0] != '-') {
            if (!o.model.empty())
                throw UsageError("the model is " + o.model + ", so " +
                                 (word.empty() ? "\"\"" : word) +
                                 " is one too many: give one model, and the prompt by -p");
            o.model = named("MODEL", word);
            continue;
        }
        const size_t equals = word.rfind("--", 0) == 0 ? word.find('=') : std::string::npos;
        const bool joined = equals != std::string::npos;
        if (joined) value = word.substr(equals + 1), word.resize(equals);
        const Option& option = find(word);
        if (!*option.value && joined) throw UsageError(word + " takes no value");
        if (*option.value && !joined) {
            if (++i == argc) throw UsageError(word + " needs a value, " + option.value);
            value = argv[i];
        }
        option.set(o, option.name, value);
    }
    if (o.help || o.version) return o;
    if (o.model.empty()) throw UsageError("no model: give a GGUF file, by itself or with -m FILE");
    if (o.has_prompt && o.has_file)
        throw UsageError("give the prompt with -p or with -f, not both");
    if (!o.has_prompt && !o.has_file)
        throw UsageError("no prompt: give one with -p TEXT or -f FILE");
    if (!o.media.empty() && o.mmproj.empty())
        throw UsageError((o.media[0].is_image ? "--image " : "--audio ") + o.media[0].path +
                         " needs the model's towers: give their file with --mmproj FILE");
    if (o.media.size() > kMediaMost)
        throw UsageError(std::to_string(o.media.size()) + " media: a prompt has at most " +
                         std::to_string(kMediaMost));
    return o;
}

std::string help_text() {
    std::string out =
        "usage: pillion-run MODEL -p TEXT [options]\n\nContinues a text. The text goes to "
        "stdout, everything else to stderr.\n"
        "Sampling settings that are not given are those the model file recommends.\n"
        "Exit status: 0 done, 1 an error, 2 wrong usage, 130 stopped.\n\n";
    for (const Option& o : kOptions) {
        std::string left = std::string("  ") + (*o.brief ? std::string(o.brief) + ", " : "") +
                           o.name + " " + o.value;
        left.resize(left.size() < 34 ? 34 : left.size() + 1, ' ');
        out += left + o.help + "\n";
    }
    return out;
}

}  // namespace pillion::run
