// Fuzzes the C ABI as a caller would misuse it: random sequences of calls on random handles, NULLs
// and used-up objects among them, in any order of freeing. What the header promises is looked at
// after every call: a status has its sentence, results are written only on success, a buffer is
// never written beyond its capacity, a context stays at the length it reports.
#include <memory>

#include "checked_call.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;
using fuzz::ok;

namespace {

constexpr int kSlots = 3, kVocab = 320;

// One for all runs: making them is what costs.
struct Files {
    std::unique_ptr<fuzz::MemoryFile> file[3];
    Files() {
        fuzz::TinySizes s;
        s.v_from_k = false, s.ple = 32, s.shared = 1;
        file[0] = std::make_unique<fuzz::MemoryFile>(fuzz::tiny_model(s).serialize());
        s.kind = fuzz::Kind::assistant, s.layers = 2, s.centroids = 10, s.embd_out = s.embd;
        file[1] = std::make_unique<fuzz::MemoryFile>(fuzz::tiny_model(s).serialize());
        s = {}, s.kind = fuzz::Kind::llama, s.weights = pillion::DType::q8_0;
        file[2] = std::make_unique<fuzz::MemoryFile>(fuzz::tiny_model(s).serialize());
    }
};

template <class T, void (*Free)(T*)>
struct Slots {
    T* at[kSlots] = {};
    ~Slots() {
        for (T* t : at) Free(t);
    }
    T* pick(Input& in) { return in.chance(12) ? nullptr : at[in.byte() % kSlots]; }
    // Where a call puts a new object; a failed call must leave it.
    template <class Call>
    void make(Input& in, Call call) {
        T*& slot = at[in.byte() % kSlots];
        Free(slot), slot = nullptr;
        if (in.chance(6)) {
            ok(call(nullptr));
            return;
        }
        T* const before = slot;
        if (!ok(call(&slot)) && slot != before) broken("a failed call gave an object");
    }
    void free(Input& in) {
        T*& slot = at[in.byte() % kSlots];
        Free(slot), slot = nullptr;
    }
};

class Caller {
  public:
    explicit Caller(Input& in) : in_(in) {}
    void call();

  private:
    // A canary stands behind what the call may write.
    template <class T, class Call>
    void buffer(Call call) {
        static constexpr size_t kMost = 4096;
        const size_t capacity = in_.chance(60) ? 0 : in_.chance(100) ? in_.byte() : kMost;
        std::vector<T> out(capacity + 1, T(77));
        T* to = in_.chance(20) ? nullptr : out.data();
        size_t needed = SIZE_MAX;
        const pillion_status s = call(to, capacity, in_.chance(20) ? nullptr : &needed);
        ok(s);
        if (out[capacity] != T(77)) broken("a write behind the buffer");
        if (s == PILLION_OK && needed != SIZE_MAX && needed > capacity)
            broken("more written than the capacity");
        if (s == PILLION_ERROR_BUFFER_TOO_SMALL)
            for (const T& t : out)
                if (t != T(77)) broken("a refused call wrote");
    }
    const char* path() {
        static Files files;
        return in_.chance(8)   ? "/nowhere"
               : in_.chance(8) ? nullptr
                               : files.file[in_.byte() % 3]->path();
    }
    std::vector<int32_t> tokens() {
        std::vector<int32_t> t(in_.chance(10) ? 0 : 1 + in_.byte() % 40);
        for (int32_t& x : t) x = in_.chance(4) ? int32_t(in_.number()) : in_.byte() % 40;
        return t;
    }
    // Configs with a struct_size that is too small, too large with zeros, or too large with
    // something.
    template <class Config>
    struct Sized {
        Config config;
        uint8_t surplus[16];
    };
    template <class Config>
    void resize(Sized<Config>& s) {
        memset(s.surplus, 0, sizeof s.surplus);
        if (!in_.chance(30)) return;
        const uint32_t size = uint32_t(in_.byte() % (sizeof(Config) + sizeof s.surplus + 1)) / 8 *
                              8;  // an older struct ends with a field
        s.config.struct_size = size;
        if (in_.chance(64)) s.surplus[in_.byte() % 16] = 1;
    }
    size_t count() { return in_.chance(200) ? in_.byte() % 24 : size_t(in_.number()); }

    void open_model();
    void new_context();
    void new_sampler();
    void new_pair();
    void step();
    void round_in_steps(pillion_pair* pair);
    void ask_tokenizer();
    void ask_context();
    void ask_model();
    void change_context();

    Input& in_;
    Slots<pillion_model, pillion_model_free> models_;
    Slots<pillion_tokenizer, pillion_tokenizer_free> tokenizers_;
    Slots<pillion_context, pillion_context_free> contexts_;
    Slots<pillion_sampler, pillion_sampler_free> samplers_;
    Slots<pillion_pair, pillion_pair_free> pairs_;
};

void Caller::open_model() {
    Sized<pillion_model_config> s;
    pillion_model_config_init(&s.config, sizeof s.config);
    const uint8_t bits = in_.byte();
    s.config.no_mmap = bits & 1, s.config.metadata_only = (bits & 6) == 6,
    s.config.n_threads = bits >> 3 & 1;
    s.config.device = bits & 16 ? nullptr : bits & 32 ? "cpu" : "nothing";
    if (in_.chance(30)) s.config.n_gpu_layers = int32_t(in_.number());
    static int calls;
    s.config.progress = (bits & 0xc0) == 0xc0
        ? +[](uint64_t, uint64_t, void*) -> int32_t { return ++calls % 7 == 0; }
    : nullptr;
    resize(s);
    const char* const from = path();
    models_.make(in_, [&](pillion_model** out) {
        return pillion_model_open(from, in_.chance(20) ? nullptr : &s.config, out);
    });
}

void Caller::new_context() {
    Sized<pillion_context_config> s;
    pillion_context_config_init(&s.config, sizeof s.config);
    s.config.n_ctx = 1 + in_.byte() % 90, s.config.n_batch = in_.byte() % 30,
    s.config.n_outputs = in_.byte() % 16, s.config.n_threads = 1 + (in_.byte() & 1);
    const uint8_t bits = in_.byte();
    s.config.kv_type = bits & 3, s.config.flash_attn = bits >> 2 & 3,
    s.config.swa_full = bits >> 4 & 1, s.config.collect_activations = (bits >> 5 & 3) == 3;
    s.config.n_snapshots = in_.chance(60) ? in_.byte() % 4 - 1 : 0;
    if (in_.chance(10)) {  // any field at all
        int32_t* fields = &s.config.n_ctx;
        fields[in_.byte() % 9] = in_.chance(200) ? -int32_t(in_.byte()) : INT32_MIN;
    }
    resize(s);
    pillion_model* model = models_.pick(in_);
    contexts_.make(in_, [&](pillion_context** out) {
        return pillion_context_new(model, &s.config, out);
    });
}

void Caller::new_sampler() {
    Sized<pillion_sampler_config> s;
    pillion_sampler_config_init(&s.config, sizeof s.config);
    const auto real = [&] {
        return in_.chance(16) ? NAN : in_.chance(16) ? INFINITY : float(in_.number() % 100) / 50;
    };
    if (in_.chance(200)) s.config.temperature = real(), s.config.top_k = int32_t(in_.number());
    if (in_.chance(60)) s.config.top_p = real(), s.config.min_p = real();
    if (in_.chance(60))
        s.config.repeat_penalty = real(), s.config.frequency_penalty = real(),
        s.config.presence_penalty = real();
    if (in_.chance(60)) s.config.penalty_last_n = int32_t(in_.number());
    int32_t ids[4];
    float values[4];
    for (int i = 0; i < 4; i++)
        ids[i] = in_.chance(30) ? int32_t(in_.number()) : in_.byte(),
        values[i] = in_.chance(60) ? -INFINITY : real();
    s.config.seed = in_.byte();
    if (in_.chance(60))
        s.config.n_bias = in_.byte() % 5, s.config.bias_tokens = in_.chance(10) ? nullptr : ids,
        s.config.bias_values = in_.chance(10) ? nullptr : values;
    resize(s);
    samplers_.make(in_, [&](pillion_sampler** out) { return pillion_sampler_new(&s.config, out); });
    pillion_sampler_config of_file;
    if (pillion_sampler_config_from_model(models_.pick(in_), &of_file, sizeof of_file)) return;
    samplers_.make(in_, [&](pillion_sampler** out) { return pillion_sampler_new(&of_file, out); });
}

void Caller::new_pair() {
    Sized<pillion_pair_config> s;
    pillion_pair_config_init(&s.config, sizeof s.config);
    const uint8_t bits = in_.byte();
    s.config.dense_head = bits & 1, s.config.strict = bits >> 1 & 1,
    s.config.sampled = bits >> 4 & 1;
    const int32_t kind = in_.chance(10) ? int32_t(in_.number()) : bits >> 2 & 3;
    s.config.n_ngram = in_.chance(30) ? int32_t(in_.number()) : 0;
    s.config.p_min = in_.chance(20) ? NAN : in_.chance(60) ? 0.5f : 0;
    resize(s);
    pillion_context* target = contexts_.pick(in_);
    pillion_model* drafter = models_.pick(in_);
    pairs_.make(in_, [&](pillion_pair** out) {
        const bool has_model = kind == PILLION_DRAFTER_MODEL || kind == PILLION_DRAFTER_ASSISTANT;
        return pillion_pair_new(target, kind, has_model || kind > 3 ? drafter : nullptr, &s.config,
                                out);
    });
}

void Caller::step() {
    pillion_pair* pair = pairs_.pick(in_);
    switch (in_.byte() % 9) {
        case 4:
        case 5:
        case 6: return round_in_steps(pair);
        case 0: {
            const std::vector<int32_t> t = tokens();
            ok(pillion_pair_sync(pair, t.data(), t.size(), nullptr));
            break;
        }
        case 1: {
            const int32_t last = in_.chance(20) ? int32_t(in_.number()) : in_.byte(),
                          n = in_.chance(20) ? int32_t(in_.number()) : 1 + in_.byte() % 8;
            buffer<int32_t>([&](int32_t* out, size_t capacity, size_t* needed) {
                return pillion_pair_draft(pair, last, n, out, capacity, needed);
            });
            std::vector<float> logits(kVocab), hidden(64);
            ok(pillion_pair_draft_row(pair, int32_t(in_.byte()) - 1,
                                      in_.chance(128) ? logits.data() : nullptr,
                                      in_.chance(128) ? hidden.data() : nullptr));
            break;
        }
        case 2:
            buffer<char>([&](char* out, size_t capacity, size_t* needed) {
                return pillion_pair_json(pair, out, capacity, needed);
            });
            break;
        case 3: {
            pillion_pair_stats stats;
            ok(pillion_pair_get_stats(pair, in_.chance(10) ? nullptr : &stats,
                                      in_.byte() % (sizeof stats + 1)));
            ok(pillion_pair_reset_stats(pair));
            break;
        }
        default: {
            int32_t out[17], end[2] = {in_.byte(), int32_t(in_.number())};
            out[16] = 77;
            size_t n = 99;
            pillion_round_info info;
            pillion_sampler* sampler = samplers_.pick(in_);
            const size_t capacity = in_.byte() % 17, n_max = count();
            const int32_t n_draft = in_.chance(10) ? int32_t(in_.number()) : in_.byte() % 10 - 1;
            const bool stepped =
                ok(pillion_pair_step(pair, sampler, n_draft, n_max, end, in_.byte() % 3, out,
                                     capacity, &n, in_.chance(20) ? nullptr : &info, sizeof info));
            if (stepped ? n < 1 || n > capacity || n > n_max : n != 99)
                broken("a step of a wrong length");
            for (size_t i = 0; stepped && i < n; i++)
                if (out[i] < 0 || out[i] >= kVocab) broken("a token outside the vocabulary");
        }
    }
}

// The round in pieces, in any order, with drafts and masks of any kind.
void Caller::round_in_steps(pillion_pair* pair) {
    pillion_sampler* sampler = samplers_.pick(in_);
    switch (in_.byte() % 6) {
        case 5: {  // a row and a mask of the caller's, with numbers that are none
            std::vector<float> row(1 + in_.byte());
            for (float& x : row)
                x = in_.chance(30) ? NAN : in_.chance(30) ? INFINITY : float(in_.byte()) / 16 - 8;
            std::vector<uint32_t> mask((row.size() + 31) / 32 + (in_.chance(20) ? 1 : 0),
                                       in_.chance(128) ? ~0u : 0x11u);
            const uint32_t* given = in_.chance(128) ? mask.data() : nullptr;
            uint64_t accepted = 0, drawn = 0;
            int32_t token = -1;
            const bool marked = ok(pillion_sampler_mark(sampler, &accepted, &drawn));
            if (ok(pillion_sampler_sample_logits(sampler, row.data(), row.size(), given,
                                                 mask.size(), &token)) &&
                (token < 0 || size_t(token) >= row.size() ||
                 (given && !(mask[size_t(token) / 32] >> (token % 32) & 1))))
                broken("a token that was not allowed");
            if (marked && in_.chance(128))
                ok(pillion_sampler_go_back(sampler, accepted,
                                           in_.chance(20) ? in_.number() : drawn));
            break;
        }
        case 0: {
            int32_t drafts[PILLION_DRAFT_MAX];
            size_t n = 99, room = 99;
            if (ok(pillion_pair_room(pair, &room)) && room > PILLION_DRAFT_MAX)
                broken("too much room");
            const int32_t n_draft = in_.byte() % 10 - 1;
            if (ok(pillion_pair_propose(pair, sampler, n_draft, count(), drafts, PILLION_DRAFT_MAX,
                                        &n)) &&
                n > PILLION_DRAFT_MAX)
                broken("a proposal of a wrong length");
            break;
        }
        case 1: ok(pillion_pair_abandon(pair, in_.chance(128) ? sampler : nullptr)); break;
        case 2: {
            const std::vector<int32_t> t = tokens();
            ok(pillion_pair_run(pair, t.data(), std::min<size_t>(t.size(), in_.byte() % 12),
                                nullptr));
            break;
        }
        default: {
            int32_t out[17], chosen[3] = {in_.byte(), in_.byte(), int32_t(in_.number())};
            size_t n = 99;
            pillion_round_info info;
            pillion_choice choice;
            pillion_choice_init(&choice, sizeof choice);
            std::vector<uint32_t> masks((kVocab + 31) / 32 * (1 + in_.byte() % 9),
                                        in_.chance(200) ? ~0u : 0u);
            if (in_.chance(128)) choice.masks = masks.data(), choice.n_mask_words = masks.size();
            if (in_.chance(60)) choice.chosen = chosen, choice.n_chosen = in_.byte() % 4;
            const size_t n_max = count();
            const bool taken = ok(pillion_pair_take(pair, sampler, n_max, nullptr, 0, &choice, out,
                                                    17, &n, &info, sizeof info));
            if (taken ? n < 1 || n > n_max || n > 9 : n != 99) broken("a round of a wrong length");
            for (size_t i = 0; taken && i < n; i++)
                if (out[i] < 0 || out[i] >= kVocab) broken("a token outside the vocabulary");
        }
    }
}

void Caller::ask_tokenizer() {
    pillion_tokenizer* t = tokenizers_.pick(in_);
    const int32_t id = in_.chance(30) ? int32_t(in_.number()) : in_.byte();
    switch (in_.byte() % 6) {
        case 0: {
            std::string text(in_.byte() % 30, 0);
            for (char& c : text) c = char(in_.byte());
            buffer<int32_t>([&](int32_t* out, size_t n, size_t* needed) {
                return pillion_tokenizer_encode(t, text.data(), text.size(), in_.byte() & 1,
                                                in_.byte() & 1, out, n, needed);
            });
            break;
        }
        case 1: {
            const std::vector<int32_t> ids = tokens();
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_tokenizer_decode(t, ids.data(), ids.size(), in_.byte() & 1, out, n,
                                                needed);
            });
            break;
        }
        case 2:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_tokenizer_token_bytes(t, id, 1, out, n, needed);
            });
            break;
        case 3: {
            int32_t type;
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_tokenizer_token_text(t, id, out, n, needed,
                                                    in_.chance(128) ? &type : nullptr);
            });
            break;
        }
        case 4:
            buffer<int32_t>([&](int32_t* out, size_t n, size_t* needed) {
                return pillion_tokenizer_suppressed(t, out, n, needed);
            });
            break;
        default: {
            pillion_tokenizer_info info;
            ok(pillion_tokenizer_get_info(t, &info, in_.byte() % (sizeof info + 1)));
        }
    }
}

void Caller::ask_context() {
    pillion_context* c = contexts_.pick(in_);
    const float* values = nullptr;
    size_t n = 0;
    switch (in_.byte() % 9) {
        case 0:
            if (ok(pillion_context_logits(c, count(), &values, &n)) && values[n - 1] == 12345.0f)
                broken("a strange logit");
            break;
        case 1:
            if (ok(pillion_context_hidden(c, count(), &values, &n)) && values[n - 1] == 12345.0f)
                broken("a strange hidden row");
            break;
        case 2: {
            int32_t ids[24];
            float p[24], one;
            ok(pillion_context_logprobs(c, in_.byte() % 16, in_.byte() % 25,
                                        in_.chance(60) ? nullptr : ids,
                                        in_.chance(60) ? nullptr : p, int32_t(in_.number()),
                                        in_.chance(60) ? nullptr : &one));
            break;
        }
        case 3:
            buffer<int32_t>([&](int32_t* out, size_t size, size_t* needed) {
                return pillion_context_tokens(c, out, size, needed);
            });
            break;
        case 4:
            buffer<char>([&](char* out, size_t size, size_t* needed) {
                return pillion_context_json(c, out, size, needed);
            });
            break;
        case 5: {
            pillion_work work;
            ok(pillion_context_work(c, count(), count(), in_.chance(10) ? nullptr : &work,
                                    in_.byte() % (sizeof work + 1)));
            break;
        }
        case 6: {
            pillion_activation_info info = {};
            if (ok(pillion_context_activation_count(c, &n)) && n > 0 &&
                ok(pillion_context_activation(c, in_.byte() % n, &info, sizeof info)) &&
                info.sums[info.n_in * info.n_experts - 1] < 0)
                broken("a negative sum of squares");
            break;
        }
        case 7: {
            int32_t token = -1;
            if (ok(pillion_sampler_sample(samplers_.pick(in_), c, in_.byte() % 8, &token)) &&
                (token < 0 || token >= kVocab))
                broken("a sampled token outside the vocabulary");
            break;
        }
        default: {
            size_t n_ctx = 0;
            if (ok(pillion_context_length(c, in_.chance(60) ? nullptr : &n,
                                          in_.chance(60) ? nullptr : &n_ctx)) &&
                n_ctx && n > n_ctx)
                broken("longer than n_ctx");
        }
    }
}

void Caller::change_context() {
    pillion_context* c = contexts_.pick(in_);
    const std::vector<int32_t> t = tokens();
    size_t before = 0, after = 0, n_ctx = 0;
    const bool there = ok(pillion_context_length(c, &before, &n_ctx));
    switch (in_.byte() % 6) {
        case 0:
        case 1: {
            const bool done = ok(pillion_context_eval(
                c, t.data(), t.size(),
                in_.chance(20) ? count() : std::min<size_t>(t.size(), in_.byte() % 4)));
            ok(pillion_context_length(c, &after, &n_ctx));
            if (done && after != before + t.size()) broken("an eval of a wrong length");
            if (there && !done && after != before) broken("a failed eval moved the context");
            break;
        }
        case 2:
            if (ok(pillion_context_sync(c, t.data(), t.size(), nullptr)) &&
                ok(pillion_context_length(c, &after, nullptr)) && after != t.size())
                broken("sync of a wrong length");
            break;
        case 3: {
            const size_t to = in_.chance(20) ? count() : before ? in_.byte() % (before + 1) : 0;
            const bool done = ok(pillion_context_rewind(c, to));
            ok(pillion_context_length(c, &after, nullptr));
            if (there && after != (done ? to : before)) broken("a rewind to a wrong length");
            break;
        }
        case 4: {
            std::vector<float> mean(64);
            const size_t width = in_.chance(50) ? 32 : in_.byte() % mean.size();
            if (ok(pillion_context_embed(c, t.data(), t.size(), mean.data(), width)) &&
                ok(pillion_context_length(c, &after, nullptr)) && after != t.size())
                broken("an embedding of a wrong length");
            break;
        }
        default: {
            std::vector<float> p(t.size());
            ok(pillion_context_score(c, t.data(), t.size(), in_.chance(10) ? nullptr : p.data()));
        }
    }
    if (in_.chance(30)) ok(pillion_context_cancel(c));
}

void Caller::ask_model() {
    pillion_model *m = models_.pick(in_), *d = models_.pick(in_);
    const char* const from = path();
    switch (in_.byte() % 7) {
        case 0:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_model_json(m, out, n, needed);
            });
            break;
        case 1:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_model_metadata(m,
                                              in_.chance(60)   ? "nothing"
                                              : in_.chance(10) ? nullptr
                                                               : "general.architecture",
                                              out, n, needed);
            });
            break;
        case 2:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_model_memory(m, d, nullptr, out, n, needed);
            });
            break;
        case 3: {
            int32_t layers = 0;
            pillion_fit_config config;
            pillion_fit_config_init(&config, sizeof config);
            config.device = in_.chance(128) ? "cpu" : nullptr;
            if (in_.chance(30)) config.n_gpu_layers = int32_t(in_.number());
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_model_fit(m, d, nullptr, &config, &layers, out, n, needed);
            });
            break;
        }
        case 4:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return pillion_file_json(from, in_.byte() & 1, out, n, needed);
            });
            break;
        case 5: {
            pillion_model_info info;
            ok(pillion_model_get_info(m, in_.chance(10) ? nullptr : &info,
                                      in_.byte() % (sizeof info + 1)));
            break;
        }
        default:
            buffer<char>([&](char* out, size_t n, size_t* needed) {
                return in_.chance(128)
                           ? pillion_system_json(out, n, needed)
                           : pillion_device_json(in_.chance(60) ? nullptr : "cpu", out, n, needed);
            });
    }
}

void Caller::call() {
    switch (in_.byte() % 16) {
        case 0: open_model(); break;
        case 1: {
            pillion_model* model = models_.pick(in_);
            tokenizers_.make(in_, [&](pillion_tokenizer** out) {
                return pillion_model_tokenizer(model, out);
            });
            break;
        }
        case 2: new_context(); break;
        case 3: new_sampler(); break;
        case 4: new_pair(); break;
        case 5: models_.free(in_); break;
        case 6: in_.chance(128) ? contexts_.free(in_) : tokenizers_.free(in_); break;
        case 7: in_.chance(128) ? samplers_.free(in_) : pairs_.free(in_); break;
        case 8: ask_model(); break;
        case 9: ask_tokenizer(); break;
        case 10: ask_context(); break;
        case 11: {
            pillion_sampler* sampler = samplers_.pick(in_);
            ok(in_.chance(128) ? pillion_sampler_reset(sampler)
                               : pillion_sampler_accept(sampler, int32_t(in_.number())));
            break;
        }
        case 12:
        case 13: change_context(); break;
        default: step();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    Caller caller(in);
    for (int n = 0; n < 60 && !in.empty(); n++) caller.call();
    return 0;
}
