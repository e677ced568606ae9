// Contexts. Every call on a context claims it; readers too, since an eval would change
// what they read.

#include <algorithm>
#include <numeric>

#include "api/handles.h"
#include "runtime/context_report.h"
#include "runtime/saved_state.h"
#include "runtime/scoring.h"

using namespace pillion;
using namespace pillion::api;

namespace pillion::api {

ContextOptions context_options(const pillion_context_config* config) {
    const pillion_context_config c =
        read_config(config, pillion_context_config_init, "pillion_context_config");
    if (c.kv_type < 0 || c.kv_type > PILLION_KV_Q8_0)
        fail(Status::invalid_argument, "kv_type %d is not known (1 f16, 2 q8_0)", c.kv_type);
    if (c.flash_attn < 0 || c.flash_attn > PILLION_FLASH_OFF)
        fail(Status::invalid_argument, "flash_attn %d is not known (0 auto, 1 on, 2 off)",
             c.flash_attn);
    ContextOptions o;
    o.n_ctx = c.n_ctx, o.n_batch = c.n_batch, o.n_threads = c.n_threads, o.n_outputs = c.n_outputs;
    o.kv_type = c.kv_type == PILLION_KV_Q8_0 ? KvType::q8_0 : KvType::f16;
    o.flash = c.flash_attn == PILLION_FLASH_ON    ? Flash::on
              : c.flash_attn == PILLION_FLASH_OFF ? Flash::off
                                                  : Flash::automatic;
    o.swa_full = c.swa_full != 0;
    o.n_snapshots = c.n_snapshots;
    o.collect_activations = c.collect_activations != 0;
    return o;
}

}  // namespace pillion::api

namespace {

// Work that a cancel may stop: one that came before the work is forgotten.
template <class F>
pillion_status run_context(pillion_context* context, F&& body) noexcept {
    return with_context(context, [&](Context& c) {
        c.clear_cancel();
        body(c);
    });
}

// Has the sampler to itself, if there is one.
template <class F>
void with_state_of(pillion_sampler* sampler, F&& body) {
    if (!sampler) return body(nullptr);
    const Claim claim(sampler->inside);
    body(sampler->sampler.get());
}

const std::vector<ActivationStats::Entry>& activations(const Context& c) {
    if (!c.activations())
        fail(Status::invalid_argument, "this context was made without collect_activations");
    return c.activations()->entries();
}

}  // namespace

extern "C" {

void pillion_context_config_init(pillion_context_config* config, size_t size) {
    init_config(config, size);
}

pillion_status pillion_context_new(pillion_model* model, const pillion_context_config* config,
                                   pillion_context** context) {
    return guard([&] {
        need(model, "model"), need(context, "context");
        auto handle = std::make_unique<pillion_context>();
        handle->context =
            std::make_shared<Context>(model->shared->to_run(), context_options(config));
        *context = handle.release();
    });
}

void pillion_context_free(pillion_context* context) {
    if (context && can_free(context->origin, context->context->on_device(), *context->inside))
        delete context;
}

pillion_status pillion_context_eval(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_outputs) {
    return run_context(context, [&](Context& c) {
        if (n > 0) need(tokens, "tokens");
        c.eval(tokens, n, int(std::min(n_outputs, size_t(INT32_MAX))));
    });
}

pillion_status pillion_context_sync(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t* n_reused) {
    return run_context(context, [&](Context& c) {
        if (n > 0) need(tokens, "tokens");
        const size_t reused = c.sync(tokens, n);
        if (n_reused) *n_reused = reused;
    });
}

pillion_status pillion_context_read(pillion_context* context, const int32_t* tokens, size_t n,
                                    size_t n_rows, size_t* n_reused) {
    return run_context(context, [&](Context& c) {
        if (n > 0) need(tokens, "tokens");
        const size_t reused = c.read(tokens, n, n_rows);
        if (n_reused) *n_reused = reused;
    });
}

pillion_status pillion_context_match(const pillion_context* context, const int32_t* tokens,
                                     size_t n, size_t* n_common, size_t* n_usable) {
    return with_context(context, [&](Context& c) {
        if (n > 0) need(tokens, "tokens");
        const size_t common = c.common(tokens, n);
        if (n_common) *n_common = common;
        if (n_usable) *n_usable = c.usable(common);
    });
}

pillion_status pillion_context_rewind(pillion_context* context, size_t length) {
    return run_context(context, [&](Context& c) { c.rewind(length); });
}

pillion_status pillion_context_length(const pillion_context* context, size_t* length,
                                      size_t* n_ctx) {
    return with_context(context, [&](Context& c) {
        if (length) *length = size_t(c.length());
        if (n_ctx) *n_ctx = size_t(c.n_ctx());
    });
}

pillion_status pillion_context_tokens(const pillion_context* context, int32_t* tokens,
                                      size_t capacity, size_t* needed) {
    return with_context(context, [&](Context& c) {
        write_tokens(c.tokens().data(), c.tokens().size(), tokens, capacity, needed);
    });
}

pillion_status pillion_context_logits(const pillion_context* context, size_t row,
                                      const float** logits, size_t* n) {
    return with_context(context, [&](Context& c) {
        need(logits, "logits");
        *logits = c.outputs().logits(int(std::min(row, size_t(INT32_MAX))));
        if (n) *n = size_t(c.model().hparams().n_vocab);
    });
}

pillion_status pillion_context_hidden(const pillion_context* context, size_t row,
                                      const float** hidden, size_t* n) {
    return with_context(context, [&](Context& c) {
        need(hidden, "hidden");
        *hidden = c.outputs().hidden(int(std::min(row, size_t(INT32_MAX))));
        if (n) *n = size_t(c.model().hparams().n_embd);
    });
}

pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k,
                                        int32_t* top_tokens, float* top_logprobs, int32_t token,
                                        float* token_logprob) {
    return with_context(context, [&](Context& c) {
        const size_t n = size_t(c.model().hparams().n_vocab);
        const float* x = c.outputs().logits(int(std::min(row, size_t(INT32_MAX))));
        if (token >= 0 && size_t(token) >= n)
            fail(Status::invalid_argument, "token %d, the vocabulary has %zu", token, n);
        if (k > n)
            fail(Status::invalid_argument, "%zu top tokens asked, the vocabulary has %zu", k, n);
        const double lse = log_sum_exp(x, n);
        std::vector<int32_t> ids(n);
        std::iota(ids.begin(), ids.end(), 0);
        std::partial_sort(ids.begin(), ids.begin() + long(k), ids.end(), [x](int32_t a, int32_t b) {
            return x[a] > x[b] || (x[a] == x[b] && a < b);
        });
        for (size_t i = 0; i < k; i++) {
            if (top_tokens) top_tokens[i] = ids[i];
            if (top_logprobs) top_logprobs[i] = float(double(x[ids[i]]) - lse);
        }
        if (token >= 0 && token_logprob) *token_logprob = float(double(x[token]) - lse);
    });
}

pillion_status pillion_context_score(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* logprobs) {
    return run_context(context, [&](Context& c) {
        need(tokens, "tokens"), need(logprobs, "logprobs");
        score(c, tokens, n, logprobs);
    });
}

pillion_status pillion_context_embed(pillion_context* context, const int32_t* tokens, size_t n,
                                     float* mean, size_t n_embd) {
    return run_context(context, [&](Context& c) {
        need(tokens, "tokens"), need(mean, "mean");
        const size_t width = size_t(c.model().hparams().n_embd);
        if (n_embd != width)
            fail(Status::invalid_argument,
                 "mean has %zu floats, a hidden row of this model has %zu", n_embd, width);
        embed(c, tokens, n, mean);
    });
}

pillion_status pillion_context_cancel(pillion_context* context) {
    return guard([&] { need(context, "context").context->cancel(); });
}

pillion_status pillion_context_save(pillion_context* context, pillion_sampler* sampler,
                                    const char* path) {
    return run_context(context, [&](Context& c) {
        need(path, "path");
        with_state_of(sampler, [&](Sampler* s) { save_state(c, s, path); });
    });
}

pillion_status pillion_context_load(pillion_context* context, pillion_sampler* sampler,
                                    const char* path, size_t* n_run) {
    return run_context(context, [&](Context& c) {
        const FileReader file(&need(path, "path"));
        with_state_of(sampler, [&](Sampler* s) {
            const size_t ran = load_state(c, s, source_of(file));
            if (n_run) *n_run = ran;
        });
    });
}

pillion_status pillion_context_get_state(pillion_context* context, pillion_sampler* sampler,
                                         void* out, size_t capacity, size_t* needed) {
    return run_context(context, [&](Context& c) {
        with_state_of(sampler, [&](Sampler* s) {
            const size_t size = bytes_of_state(c, s);
            if (needed) *needed = size;
            if (capacity < size)
                fail(Status::buffer_too_small, "the state has %zu bytes, the buffer %zu", size,
                     capacity);
            save_state(c, s, &need(static_cast<uint8_t*>(out), "out"));
        });
    });
}

pillion_status pillion_context_set_state(pillion_context* context, pillion_sampler* sampler,
                                         const void* state, size_t n, size_t* n_run) {
    return run_context(context, [&](Context& c) {
        const auto* bytes = static_cast<const uint8_t*>(state);
        need(bytes, "state");
        with_state_of(sampler, [&](Sampler* s) {
            const size_t ran = load_state(c, s, source_of(bytes, n));
            if (n_run) *n_run = ran;
        });
    });
}

pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity,
                                    size_t* needed) {
    return with_context(context,
                        [&](Context& c) { write_text(context_json(c), out, capacity, needed); });
}

pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs,
                                    pillion_work* work, size_t size) {
    return with_context(context, [&](Context& c) {
        need(work, "work");
        const Work w = work_of(c, n, int(std::min(n_outputs, size_t(INT32_MAX))));
        const pillion_work out = {0, w.multiply_adds, w.weight_bytes, w.kv_bytes};
        write_info(work, size, &out, sizeof out);
    });
}

pillion_status pillion_context_limits(pillion_context* context, pillion_limits* limits,
                                      size_t size) {
    return with_context(context, [&](Context& c) {
        need(limits, "limits");
        c.clear_cancel();
        const MachineLimits l = limits_of(c);
        const pillion_limits out = {0, l.read_bytes_per_second, l.multiply_adds_per_second};
        write_info(limits, size, &out, sizeof out);
    });
}

pillion_status pillion_context_activation_count(const pillion_context* context, size_t* n) {
    return with_context(context, [&](Context& c) { need(n, "n") = activations(c).size(); });
}

pillion_status pillion_context_activation(const pillion_context* context, size_t i,
                                          pillion_activation_info* info, size_t size) {
    return with_context(context, [&](Context& c) {
        need(info, "info");
        const auto& entries = activations(c);
        if (i >= entries.size())
            fail(Status::invalid_argument, "weight %zu of %zu", i, entries.size());
        const ActivationStats::Entry& e = entries[i];
        std::vector<float>& out = context->activation;
        out.assign(e.sums.begin(), e.sums.end());
        out.insert(out.end(), e.counts.begin(), e.counts.end());
        pillion_activation_info a = {};
        a.n_in = e.n_in, a.n_experts = e.n_experts;
        a.name = e.name.c_str(), a.sums = out.data(), a.counts = out.data() + e.sums.size();
        write_info(info, size, &a, sizeof a);
    });
}

}  // extern "C"
