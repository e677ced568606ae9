// Fuzzes what reads a saved state: a good one with any bytes changed, cut or added, and with
// checksums that fit, as a stranger could make it. It is refused with a sentence, or the context
// holds a text that it can go on with.
#include <algorithm>

#include "checked_call.h"
#include "core/crc32.h"
#include "runtime/state_format.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;
using fuzz::ok;

namespace {

using State = std::vector<uint8_t>;

struct World {
    pillion_context *good, *other;
    pillion_sampler* sampler;
    State state;

    World() {
        fuzz::TinySizes s;
        s.layers = 4, s.shared = 1, s.window = 7, s.vocab = 64, s.tokenizer = false;
        const fuzz::MemoryFile file(fuzz::tiny_model(s).serialize());
        pillion_model_config config;
        pillion_model_config_init(&config, sizeof config);
        config.device = "cpu", config.n_threads = 1;
        pillion_model* model = nullptr;
        if (!ok(pillion_model_open(file.path(), &config, &model))) broken("no model");
        good = context(model, 600), other = context(model, 400);
        if (!ok(pillion_sampler_new(nullptr, &sampler))) broken("no sampler");
        std::vector<int32_t> text(390);
        for (size_t i = 0; i < text.size(); i++) text[i] = int32_t(i * i % 61);
        if (!ok(pillion_context_eval(good, text.data(), 40, 1)) ||
            !ok(pillion_context_eval(good, text.data() + 40, 350, 0)) ||
            !ok(pillion_sampler_accept(sampler, 3)))
            broken("no text");
        size_t n = 0;
        pillion_context_get_state(good, sampler, nullptr, 0, &n);
        state.resize(n);
        if (!ok(pillion_context_get_state(good, sampler, state.data(), n, &n))) broken("no state");
    }
    static pillion_context* context(pillion_model* model, int n_ctx) {
        pillion_context_config config;
        pillion_context_config_init(&config, sizeof config);
        config.n_ctx = n_ctx, config.n_batch = 16, config.n_threads = 1;
        pillion_context* made = nullptr;
        if (!ok(pillion_context_new(model, &config, &made))) broken("no context");
        return made;
    }
};

// Anywhere, but mostly where the counts are.
void change(Input& in, State& state) {
    const size_t front = sizeof(pillion::StateHeader) + 5 * sizeof(pillion::StateStore);
    const size_t at = in.below(in.chance(200) ? front : state.size());
    const int64_t number = in.number();
    const size_t n = size_t(1) << in.byte() % 4;
    for (size_t i = 0; i < n && at + i < state.size(); i++)
        state[at + i] = uint8_t(uint64_t(number) >> 8 * i);
}

void resize(Input& in, State& state) {
    const size_t n = in.chance(128) ? state.size() - in.below(state.size()) : in.below(600);
    state.resize(in.chance(40) ? state.size() + n : n);
}

// The reader looks at the header's own checksum first, then at that of what its counts say.
void seal(State& state, bool all) {
    pillion::StateHeader h;
    if (state.size() < sizeof h) return;
    memcpy(&h, state.data(), sizeof h);
    const uint64_t front = sizeof h + uint64_t(h.n_stores) * sizeof(pillion::StateStore) +
                           uint64_t(h.n_images) * sizeof(pillion::StateImage) +
                           4 * (h.n_tokens + h.n_accepted);
    if (all && front >= sizeof h && front <= state.size()) {
        h.front_crc = pillion::crc32(0, state.data() + sizeof h, front - sizeof h);
        h.rows_crc = pillion::crc32(0, state.data() + front, state.size() - front);
    }
    if (all) h.file_bytes = state.size();
    h.header_crc = 0;
    h.header_crc = pillion::crc32(0, &h, sizeof h);
    memcpy(state.data(), &h, sizeof h);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const World* world = new World;
    Input in(data, size);
    State state = world->state;
    if (in.chance(40)) resize(in, state);
    for (int n = in.byte() % 4; n > 0; n--) change(in, state);
    seal(state, !in.chance(40));
    pillion_context* context = in.chance(128) ? world->good : world->other;
    pillion_sampler* sampler = in.chance(128) ? world->sampler : nullptr;
    if (!ok(pillion_context_set_state(context, sampler, state.data(), state.size(), nullptr)))
        return 0;
    const int32_t token = 5;
    size_t length = 0, n_ctx = 0;
    if (!ok(pillion_context_length(context, &length, &n_ctx)) || length > n_ctx) broken("a length");
    if (length < n_ctx && !ok(pillion_context_eval(context, &token, 1, 1))) broken("no run");
    if (length > 0 && !ok(pillion_context_rewind(context, length / 2))) broken("no way back");
    return 0;
}
