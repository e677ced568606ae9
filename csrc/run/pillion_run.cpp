// pillion-run: continues a text, on the C ABI alone. For machines without Python: a phone reached
// by adb, a Jetson, a container. Exit status: 0 done, 1 an error (one sentence on stderr), 2 wrong
// usage, 130 stopped by Ctrl-C. Who stops reading a pipe ends it by SIGPIPE.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "pillion.h"
#include "run/prompt_media.h"
#include "run/run_options.h"

namespace pillion::run {
namespace {

constexpr int kStopped = 130;  // by a signal, as shells say it
constexpr size_t kPromptMost = size_t(64)
                               << 20;  // bytes: no context holds more, and a device file has no end

// A file that is opened later must not become what was closed.
void keep_standard_files_open() {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null",
                        fd == 0 ? O_WRONLY : O_RDONLY);  // reading and writing go on failing
}

template <class T, void (*kFree)(T*)>
struct Freer {
    void operator()(T* p) const { kFree(p); }
};
using Model = std::unique_ptr<pillion_model, Freer<pillion_model, pillion_model_free>>;
using Tokenizer =
    std::unique_ptr<pillion_tokenizer, Freer<pillion_tokenizer, pillion_tokenizer_free>>;
using Context = std::unique_ptr<pillion_context, Freer<pillion_context, pillion_context_free>>;
using Sampler = std::unique_ptr<pillion_sampler, Freer<pillion_sampler, pillion_sampler_free>>;
using Pair = std::unique_ptr<pillion_pair, Freer<pillion_pair, pillion_pair_free>>;

// Ctrl-C arrives at a thread of its own, because a signal handler may not call into the library.
// Before there is a context nothing can be lost and the program just ends. A cancel that comes just
// before a run begins is forgotten (pillion.h), so it is repeated.
class Interrupt {
  public:
    Interrupt() {  // before any other thread is made, so that all inherit the mask
        sigemptyset(&signals_);
        for (int s : {SIGINT, SIGTERM}) sigaddset(&signals_, s);
        pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
        thread_ = std::thread([this] { watch(); });
    }
    ~Interrupt() {
        over_ = true;
        thread_.join();
    }
    bool seen() const { return seen_; }
    // From now on a signal cancels what this context runs; null: nothing any more. Does not return
    // while a cancel is under way.
    void protect(pillion_context* context) {
        std::lock_guard<std::mutex> lock(mutex_);
        context_ = context;
        protected_ = true;
    }

  private:
    void watch() {
        const timespec pause = {0, 20'000'000};
        while (!over_) {
            if (sigtimedwait(&signals_, nullptr, &pause) > 0) seen_ = true;
            if (!seen_) continue;
            std::lock_guard<std::mutex> lock(mutex_);
            if (!protected_) fputs("\nstopped\n", stderr), _exit(kStopped);
            if (context_) pillion_context_cancel(context_);
        }
    }

    sigset_t signals_;
    std::mutex mutex_;
    pillion_context* context_ = nullptr;
    bool protected_ = false;
    std::atomic<bool> seen_{false}, over_{false};
    std::thread thread_;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string read_all(int fd, const std::string& name) {
    std::string text;
    for (;;) {
        char piece[1 << 16];
        const ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            throw UsageError("the prompt's file " + name + " can't be read: " + strerror(errno));
        if (n == 0) return text;
        text.append(piece, size_t(n));
        if (text.size() > kPromptMost)
            throw UsageError("the prompt's file " + name + " is longer than " +
                             std::to_string(kPromptMost >> 20) + " MB");
    }
}

std::string read_prompt(const Options& o) {
    if (o.has_prompt) return o.prompt;
    if (o.file == "-") return read_all(STDIN_FILENO, "-");
    struct File {
        int fd;
        ~File() {
            if (fd >= 0) close(fd);
        }
    } file{open(o.file.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0)
        throw UsageError("the prompt's file " + o.file + " can't be read: " + strerror(errno));
    return read_all(file.fd, o.file);
}

// Text that did not arrive is an error, also where the system only finds out when it is flushed.
void flush_text(bool is_written = true) {
    if (is_written && fflush(stdout) == 0) return;
    throw Failure{PILLION_ERROR_INTERNAL,
                  std::string("the text can't be written to stdout: ") + strerror(errno)};
}

Model open_model(const std::string& path, const std::string& device, const Options& o,
                 int32_t n_gpu_layers = -1, bool metadata_only = false) {
    pillion_model_config config;
    pillion_model_config_init(&config, sizeof config);
    config.no_mmap = o.no_mmap, config.n_threads = o.n_threads, config.device = device.c_str();
    config.n_gpu_layers = n_gpu_layers, config.metadata_only = metadata_only;
    pillion_model* model = nullptr;
    check(pillion_model_open(path.c_str(), &config, &model));
    return Model(model);
}

pillion_context_config context_config(const Options& o) {
    pillion_context_config config;
    pillion_context_config_init(&config, sizeof config);
    config.swa_full = o.swa_full;
    config.n_ctx = o.n_ctx, config.n_batch = o.n_batch, config.n_threads = o.n_threads;
    config.kv_type = o.kv_type == "q8_0" ? PILLION_KV_Q8_0 : PILLION_KV_F16;
    config.flash_attn = o.flash_attn == "on"    ? PILLION_FLASH_ON
                        : o.flash_attn == "off" ? PILLION_FLASH_OFF
                                                : PILLION_FLASH_AUTO;
    return config;
}

std::string draft_device(const Options& o) {
    return pillion_draft_device(o.device.c_str(), o.draft_device.c_str());
}

// The n_gpu_layers to open the model with. Says so where not all fit and nobody asked for a number.
int32_t fit_layers(const std::string& drafter, const Options& o) {
    const Model model = open_model(o.model, o.device, o, -1, /*metadata_only=*/true);
    const Model other = drafter.empty()
                            ? Model()
                            : open_model(drafter, draft_device(o), o, -1, /*metadata_only=*/true);
    const pillion_context_config context = context_config(o);
    pillion_fit_config config;
    pillion_fit_config_init(&config, sizeof config);
    config.device = o.device.c_str(), config.draft_device = o.draft_device.c_str();
    config.n_gpu_layers = o.n_gpu_layers, config.strict = o.strict;
    int32_t layers = 0;
    char json[1024];
    size_t n = 0;
    check(pillion_model_fit(model.get(), other.get(), &context, &config, &layers, json, sizeof json,
                            &n));
    const std::string facts(json, n), key = "\"note\": \"";
    const size_t note = facts.find(key) + key.size();
    if (facts[note] != '"')
        fprintf(stderr, "%s\n", facts.substr(note, facts.find('"', note) - note).c_str());
    return layers;
}

Context make_context(pillion_model* model, const Options& o) {
    const pillion_context_config config = context_config(o);
    pillion_context* context = nullptr;
    check(pillion_context_new(model, &config, &context));
    return Context(context);
}

// What the model file's makers recommend, and the options over it.
Sampler make_sampler(const pillion_model* model, const Options& o) {
    pillion_sampler_config config;
    check(pillion_sampler_config_from_model(model, &config, sizeof config));
    const auto set = [](float& field, double given) {
        constexpr double kSmallest = 1e-30;  // where 0 means nothing
        if (given == given) field = float(std::max(given, kSmallest));
    };
    if (o.temperature == o.temperature) config.temperature = float(o.temperature);
    if (o.min_p == o.min_p) config.min_p = float(o.min_p);
    if (o.top_k == o.top_k) config.top_k = int32_t(o.top_k);
    set(config.top_p, o.top_p), set(config.repeat_penalty, o.repeat_penalty);
    config.seed = o.seed < 0    ? 0
                  : o.seed == 0 ? UINT64_MAX
                                : uint64_t(o.seed);  // 0 is "random" there; as in Python
    pillion_sampler* sampler = nullptr;
    check(pillion_sampler_new(&config, &sampler));  // copies the bias
    return Sampler(sampler);
}

Pair make_pair(pillion_context* context, pillion_model* drafter, const Options& o) {
    pillion_pair_config config;
    pillion_pair_config_init(&config, sizeof config);
    config.dense_head = o.dense_head, config.lookup = o.lookup, config.p_min = float(o.p_min),
    config.sampled = o.draft_sampling == "probabilistic";
    int32_t kind = o.drafter == "lookup" ? PILLION_DRAFTER_LOOKUP : PILLION_DRAFTER_NONE;
    if (drafter) {
        pillion_model_info info;
        check(pillion_model_get_info(drafter, &info, sizeof info));
        kind = info.is_drafter ? PILLION_DRAFTER_ASSISTANT : PILLION_DRAFTER_MODEL;
    }
    pillion_pair* pair = nullptr;
    check(pillion_pair_new(context, kind, drafter, &config, &pair));
    return Pair(pair);
}

std::vector<int32_t> encode(const pillion_tokenizer* tokenizer, const std::string& text) {
    size_t n = 0;
    std::vector<int32_t> tokens(
        text.size() + 2);  // no token is shorter than a byte, but for those put around the text
    pillion_status status = pillion_tokenizer_encode(tokenizer, text.data(), text.size(), 1, 1,
                                                     tokens.data(), tokens.size(), &n);
    tokens.resize(n);
    if (status == PILLION_ERROR_BUFFER_TOO_SMALL)
        status = pillion_tokenizer_encode(tokenizer, text.data(), text.size(), 1, 1, tokens.data(),
                                          n, &n);
    check(status);
    return tokens;
}

void write_token(const pillion_tokenizer* tokenizer, int32_t token) {
    size_t n = 0;
    std::string bytes(64, '\0');
    pillion_status status =
        pillion_tokenizer_token_bytes(tokenizer, token, 0, &bytes[0], bytes.size(), &n);
    bytes.resize(n);
    if (status == PILLION_ERROR_BUFFER_TOO_SMALL)
        status = pillion_tokenizer_token_bytes(tokenizer, token, 0, &bytes[0], n, &n);
    check(status);
    if (fwrite(bytes.data(), 1, n, stdout) != n) flush_text(false);
}

void report(const pillion_pair* pair, bool drafting, size_t n_prompt, double prompt_s,
            size_t n_text, double text_s) {
    fprintf(stderr, "prompt: %zu tokens, %.1f/s; text: %zu tokens, %.1f/s\n", n_prompt,
            double(n_prompt) / prompt_s, n_text, text_s > 0 ? double(n_text) / text_s : 0.0);
    if (!drafting) return;
    pillion_pair_stats s;
    check(pillion_pair_get_stats(pair, &s, sizeof s));
    static constexpr const char* kStates[] = {"", "on", "paused", "off"};
    fprintf(stderr, "drafts: %llu of %llu accepted (%.0f %%), %.2f tokens a round; %s%s%s\n",
            (unsigned long long)s.accepted, (unsigned long long)s.drafted,
            s.drafted ? 100.0 * double(s.accepted) / double(s.drafted) : 0.0,
            s.rounds ? 1 + double(s.accepted) / double(s.rounds) : 1.0, kStates[s.state],
            *s.reason ? ": " : "", s.reason);
}

void generate(const Options& o, Interrupt& interrupt) {
    const std::string prompt = read_prompt(o);
    const bool drafting = o.drafter != "none";
    const std::string drafter_path = drafting && o.drafter != "lookup" ? o.drafter : "";
    const Model model =
        open_model(o.model, o.device, o,
                   o.device == "cpu" ? o.n_gpu_layers : fit_layers(drafter_path, o));
    const Model drafter =
        drafter_path.empty() ? Model() : open_model(drafter_path, draft_device(o), o);
    pillion_tokenizer* shared = nullptr;
    check(pillion_model_tokenizer(model.get(), &shared));
    const Tokenizer tokenizer(shared);
    pillion_tokenizer_info info;
    check(pillion_tokenizer_get_info(shared, &info, sizeof info));
    std::vector<int32_t> tokens = encode(shared, prompt);
    if (!o.media.empty()) tokens = put_media(o, model.get(), shared, std::move(tokens));
    if (tokens.empty())
        throw Failure{PILLION_ERROR_INVALID_ARGUMENT,
                      "the prompt is empty, and this model puts no token in front"};
    const Context context = make_context(model.get(), o);
    const Pair pair = make_pair(context.get(), drafter.get(), o);
    const Sampler sampler = make_sampler(model.get(), o);
    for (const int32_t token : tokens)  // penalties see the prompt as well, but for rows of media
        if (token >= 0) check(pillion_sampler_accept(sampler.get(), token));
    struct Protected {  // the context must outlive every cancel
        Interrupt& interrupt;
        ~Protected() { interrupt.protect(nullptr); }
    } guard{interrupt};
    interrupt.protect(context.get());

    const auto begin = std::chrono::steady_clock::now();
    check(pillion_pair_sync(pair.get(), tokens.data(), tokens.size(), nullptr));
    const double prompt_s = seconds_since(begin);
    const auto text_begin = std::chrono::steady_clock::now();
    size_t length = 0, n_ctx = 0, written = 0;
    check(pillion_context_length(context.get(), &length, &n_ctx));
    const size_t room = n_ctx - length + 1;  // the last token needs no position
    const size_t most = o.n_predict < 0 ? room : std::min(size_t(o.n_predict), room);
    const int32_t n_draft =
        o.draft_max == "auto" ? PILLION_DRAFT_AUTO : int32_t(std::stoi(o.draft_max));
    const size_t n_end = size_t(std::min<int32_t>(info.n_end, 16));
    while (written < most) {
        // A cancel may come too late for the step it was meant for, and is forgotten then.
        if (interrupt.seen()) throw Failure{PILLION_ERROR_CANCELLED, "stopped"};
        int32_t step[PILLION_DRAFT_MAX + 1];
        size_t n = 0;
        pillion_round_info round;
        check(pillion_pair_step(pair.get(), sampler.get(), n_draft, most - written, info.end, n_end,
                                step, PILLION_DRAFT_MAX + 1, &n, &round, sizeof round));
        written += n;
        for (size_t i = 0; i < n - (round.ended ? 1 : 0); i++) write_token(shared, step[i]);
        flush_text();
        if (round.ended) break;
    }
    flush_text(fputc('\n', stdout) != EOF);
    report(pair.get(), drafting, tokens.size(), prompt_s, written, seconds_since(text_begin));
}

}  // namespace
}  // namespace pillion::run

int main(int argc, char** argv) {
    using namespace pillion::run;
    keep_standard_files_open();
    Interrupt interrupt;
    try {
        const Options options = read_options(argc, argv);
        if (options.help) flush_text(fputs(help_text().c_str(), stdout) >= 0);
        else if (options.version) flush_text(printf("pillion %s\n", pillion_version()) >= 0);
        else generate(options, interrupt);
        return 0;
    } catch (const UsageError& e) {
        fprintf(stderr, "error: %s\n", e.what());
        return 2;
    } catch (const Failure& f) {
        const bool stopped = f.status == PILLION_ERROR_CANCELLED && interrupt.seen();
        fprintf(stderr, stopped ? "\nstopped\n" : "error: %s\n", f.sentence.c_str());
        return stopped ? kStopped : 1;
    } catch (const std::exception& e) {
        fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
