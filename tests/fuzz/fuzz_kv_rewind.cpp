// Fuzzes the cache. A context reaches its tokens in any way: chunks, rewinds within and beyond the
// ring, windows from a snapshot, kept prefixes, rounds of a pair with any drafter and any
// acceptance, a saved state in a context of other sizes. Its logits must equal, bit for bit, those
// of a context that ran the same tokens from the start, in one run.
#include <map>
#include <memory>

#include "include/pillion.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;

namespace {

constexpr int kContext = 600, kBatch = 16;  // sliding layers have rings of 256

void must(pillion_status s) {
    if (s != PILLION_OK) broken("refused:", pillion_last_error());
}

pillion_model* open(const fuzz::TinySizes& sizes) {
    const fuzz::MemoryFile file(fuzz::tiny_model(sizes).serialize());
    pillion_model_config config;
    pillion_model_config_init(&config, sizeof config);
    config.device = "cpu", config.n_threads = 1;
    pillion_model* model = nullptr;
    must(pillion_model_open(file.path(), &config, &model));
    return model;
}

int32_t kind_of(pillion_model* drafter) {
    if (!drafter) return PILLION_DRAFTER_LOOKUP;
    pillion_model_info info;
    must(pillion_model_get_info(drafter, &info, sizeof info));
    return info.is_drafter ? PILLION_DRAFTER_ASSISTANT : PILLION_DRAFTER_MODEL;
}

pillion_context* new_context(pillion_model* model, int kv_type, int n_batch, int n_threads,
                             int swa_full, int n_snapshots) {
    pillion_context_config config;
    pillion_context_config_init(&config, sizeof config);
    config.n_ctx = kContext, config.n_batch = n_batch, config.n_threads = n_threads,
    config.kv_type = kv_type, config.swa_full = swa_full;
    config.n_snapshots = n_snapshots;
    pillion_context* context = nullptr;
    must(pillion_context_new(model, &config, &context));
    return context;
}

// Models and the contexts that compute from nothing, made once.
struct World {
    pillion_model *target, *drafters[4];
    pillion_context* fresh[3];  // [kv_type]

    World() {
        fuzz::TinySizes s;
        s.layers = 4, s.shared = 1, s.window = 7, s.vocab = 64, s.tokenizer = false;
        target = open(s);
        fuzz::TinySizes a = s;
        a.kind = fuzz::Kind::assistant, a.layers = 2, a.embd_out = s.embd, a.shared = 0;
        drafters[0] = open(a);
        a.centroids = 8;
        drafters[1] = open(a);
        drafters[2] = target;   // agrees always
        drafters[3] = nullptr;  // looks up
        for (const int type : {PILLION_KV_F16, PILLION_KV_Q8_0})
            fresh[type] = new_context(target, type, kContext, 1, 1, -1);
    }
};

class Walk {
  public:
    Walk(const World& world, Input& in) : world_(world), in_(in) {
        const uint8_t bits = in.byte();
        kv_type_ = 1 + (bits & 1);
        make(bits);
        pillion_sampler_config sampling;
        pillion_sampler_config_init(&sampling, sizeof sampling);
        sampling.temperature = bits & 128 ? 1.0f : 0, sampling.seed = 1 + in.byte();
        must(pillion_sampler_new(&sampling, &sampler_));
    }
    ~Walk() {
        pillion_pair_free(pair_);
        pillion_context_free(context_);
        pillion_sampler_free(sampler_);
    }
    void step();

  private:
    void make(uint8_t bits) {
        context_ = new_context(world_.target, kv_type_, 1 + in_.byte() % kBatch,
                               1 + (bits >> 1 & 1), (bits & 12) == 12, in_.byte() % 5 - 1);
        pillion_pair_config config;
        pillion_pair_config_init(&config, sizeof config);
        config.dense_head = bits >> 4 & 1;
        pillion_model* drafter = world_.drafters[bits >> 5 & 3];
        must(pillion_pair_new(context_, kind_of(drafter), drafter, &config, &pair_));
    }
    void save_and_load();
    std::vector<int32_t> some() {
        std::vector<int32_t> t(1 + in_.byte() % 12);
        for (int32_t& x : t) x = in_.byte() % 8;
        return t;
    }
    // Many out of two bytes.
    std::vector<int32_t> long_text() {
        std::vector<int32_t> t(1 + in_.byte() % 250u);
        const uint32_t seed = in_.byte();
        for (size_t i = 0; i < t.size(); i++) t[i] = int32_t((seed * 37 + i * i * 11 + i) >> 2 & 7);
        return t;
    }
    void compare(size_t rows);
    void round();
    void look();

    const World& world_;
    Input& in_;
    int kv_type_;
    pillion_context* context_ = nullptr;
    pillion_pair* pair_ = nullptr;
    pillion_sampler* sampler_ = nullptr;
    std::vector<int32_t> text_;     // what the context must hold
    std::vector<int32_t> waiting_;  // the round's last token, not yet in the cache
};

// The last `rows` rows of the context against those computed from nothing.
void Walk::compare(size_t rows) {
    pillion_context* fresh = world_.fresh[kv_type_];
    must(pillion_context_rewind(fresh, 0));
    must(pillion_context_eval(fresh, text_.data(), text_.size(), rows));
    for (size_t r = 0; r < rows; r++) {
        const float *a, *b;
        size_t n;
        must(pillion_context_logits(context_, r, &a, &n));
        must(pillion_context_logits(fresh, r, &b, &n));
        if (memcmp(a, b, n * sizeof *a) != 0)
            broken("logits differ from those computed from nothing");
    }
}

void Walk::look() {
    std::vector<int32_t> held(kContext);
    size_t n = 0;
    must(pillion_context_tokens(context_, held.data(), held.size(), &n));
    held.resize(n);
    if (held != text_) broken("the context holds other tokens");
}

void Walk::round() {
    int32_t out[16];
    size_t n = 0;
    const pillion_status s =
        pillion_pair_step(pair_, sampler_, in_.byte() % 10 - 1, 1 + in_.byte() % 9, nullptr, 0, out,
                          16, &n, nullptr, 0);
    if (s == PILLION_ERROR_CONTEXT_FULL || s == PILLION_ERROR_INVALID_ARGUMENT)
        return;  // no room, or nothing to go on from
    must(s);
    text_.insert(text_.end(), waiting_.begin(), waiting_.end());
    text_.insert(text_.end(), out, out + n - 1);
    const bool ran = !waiting_.empty();
    waiting_.assign(1, out[n - 1]);
    look();
    if (ran) compare(n);
}

// The text goes on in another context, of any sizes and with any drafter.
void Walk::save_and_load() {
    size_t n = 0;
    pillion_context_get_state(context_, sampler_, nullptr, 0, &n);
    std::vector<uint8_t> state(n);
    must(pillion_context_get_state(context_, sampler_, state.data(), n, &n));
    pillion_pair_free(pair_);
    pillion_context_free(context_);
    pair_ = nullptr, context_ = nullptr;
    make(in_.byte());
    size_t n_run = 1;
    must(pillion_context_set_state(context_, sampler_, state.data(), n, &n_run));
    if (n_run != 0) broken("tokens ran for a saved state");
    waiting_.clear();
}

void Walk::step() {
    const bool is_long = in_.chance(140);  // several windows, and at times a ring
    const std::vector<int32_t> t = is_long ? long_text() : some();
    const size_t kinds = 8;
    switch (in_.byte() % kinds) {
        case 0: {
            // Without outputs it is an answer, not a prompt.
            const size_t rows = is_long ? 0 : std::min<size_t>(in_.byte() % 3, t.size());
            const pillion_status s = pillion_context_eval(context_, t.data(), t.size(), rows);
            if (s == PILLION_ERROR_CONTEXT_FULL || s == PILLION_ERROR_INVALID_ARGUMENT)
                break;  // no room; more rows than n_batch
            must(s);
            waiting_.clear();
            text_.insert(text_.end(), t.begin(), t.end());
            if (rows > 0) compare(rows);
            break;
        }
        case 1:
            text_.resize(text_.size() - std::min<size_t>(in_.byte() % 12, text_.size()));
            must(pillion_context_rewind(context_, text_.size()));
            waiting_.clear();
            break;
        case 2:  // anywhere
            text_.resize(in_.below(text_.size()));
            must(pillion_context_rewind(context_, text_.size()));
            waiting_.clear();
            break;
        case 3: {  // a kept prefix and another end
            std::vector<int32_t> wanted(text_.begin(),
                                        text_.begin() + long(in_.below(text_.size())));
            wanted.insert(wanted.end(), t.begin(), t.end());
            if (wanted.size() > kContext) break;
            must(in_.chance(128)
                     ? pillion_pair_sync(pair_, wanted.data(), wanted.size(), nullptr)
                     : pillion_context_sync(context_, wanted.data(), wanted.size(), nullptr));
            waiting_.clear();
            text_ = wanted;
            compare(1);
            break;
        }
        case 4: save_and_load(); break;
        default: round();
    }
    look();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const World* world = new World;
    Input in(data, size);
    Walk walk(*world, in);
    for (int n = 0; n < 24 && !in.empty(); n++) walk.step();
    return 0;
}
