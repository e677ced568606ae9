// Contexts and samplers. Every call on a context claims it; readers too, since an eval would change
// what they read.
#include <math.h>
#include <string.h>

#include <algorithm>
#include <numeric>

#include "api/handles.h"
#include "speculative/device_fit.h"
#include "speculative/memory_estimate.h"

using namespace pillion;
using namespace pillion::api;

namespace {

template <class F>
pillion_status with_context(const pillion_context* context, F&& body) noexcept {
    return guard([&] {
        need(context, "context");
        context->origin.check(context->context->on_device(), "this context");
        const Claim claim(*context->inside);
        body(*context->context);
    });
}

// Work that a cancel may stop: one that came before the work is forgotten.
template <class F>
pillion_status run_context(pillion_context* context, F&& body) noexcept {
    return with_context(context, [&](Context& c) {
        c.clear_cancel();
        body(c);
    });
}

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

const std::vector<ActivationStats::Entry>& activations(const Context& c) {
    if (!c.activations())
        fail(Status::invalid_argument, "this context was made without collect_activations");
    return c.activations()->entries();
}

TokenMask token_mask(const uint32_t* words, size_t n_words, size_t n_vocab) {
    if (words && n_words != TokenMask::n_words(int(n_vocab)))
        fail(Status::invalid_argument, "a mask of %zu words, that of %zu tokens has %zu", n_words,
             n_vocab, TokenMask::n_words(int(n_vocab)));
    return {words};
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
        *logits = c.logits(int(std::min(row, size_t(INT32_MAX))));
        if (n) *n = size_t(c.model().hparams().n_vocab);
    });
}

pillion_status pillion_context_hidden(const pillion_context* context, size_t row,
                                      const float** hidden, size_t* n) {
    return with_context(context, [&](Context& c) {
        need(hidden, "hidden");
        *hidden = c.hidden(int(std::min(row, size_t(INT32_MAX))));
        if (n) *n = size_t(c.model().hparams().n_embd);
    });
}

pillion_status pillion_context_logprobs(const pillion_context* context, size_t row, size_t k,
                                        int32_t* top_tokens, float* top_logprobs, int32_t token,
                                        float* token_logprob) {
    return with_context(context, [&](Context& c) {
        const size_t n = size_t(c.model().hparams().n_vocab);
        const float* x = c.logits(int(std::min(row, size_t(INT32_MAX))));
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
        c.score(tokens, n, logprobs);
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
        c.embed(tokens, n, mean);
    });
}

pillion_status pillion_context_cancel(pillion_context* context) {
    return guard([&] { need(context, "context").context->cancel(); });
}

pillion_status pillion_context_json(const pillion_context* context, char* out, size_t capacity,
                                    size_t* needed) {
    return with_context(context,
                        [&](Context& c) { write_text(c.to_json(), out, capacity, needed); });
}

pillion_status pillion_context_work(const pillion_context* context, size_t n, size_t n_outputs,
                                    pillion_work* work, size_t size) {
    return with_context(context, [&](Context& c) {
        need(work, "work");
        const Work w = c.work(n, int(std::min(n_outputs, size_t(INT32_MAX))));
        const pillion_work out = {0, w.multiply_adds, w.weight_bytes, w.kv_bytes};
        write_info(work, size, &out, sizeof out);
    });
}

pillion_status pillion_context_limits(pillion_context* context, pillion_limits* limits,
                                      size_t size) {
    return with_context(context, [&](Context& c) {
        need(limits, "limits");
        c.clear_cancel();
        const MachineLimits l = c.limits();
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

pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter,
                                    const pillion_context_config* config, char* out,
                                    size_t capacity, size_t* needed) {
    return guard([&] {
        const Model& m = *need(model, "model").shared->to_run();
        const Model* other = drafter ? drafter->shared->to_run().get() : nullptr;
        write_text(memory_json(m, other, context_options(config)), out, capacity, needed);
    });
}

void pillion_fit_config_init(pillion_fit_config* config, size_t size) {
    init_layers_config(config, size);
}

pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_fit_config* config, int32_t* n_gpu_layers, char* out,
                                 size_t capacity, size_t* needed) {
    return guard([&] {
        const pillion_fit_config c =
            read_config(config, pillion_fit_config_init, "pillion_fit_config");
        FitRequest r;
        r.model = need(model, "model").shared->to_run().get();
        r.drafter = drafter ? drafter->shared->to_run().get() : nullptr;
        r.context = context_options(context);
        if (c.device) r.device = c.device;
        if (c.draft_device) r.draft_device = c.draft_device;
        r.n_gpu_layers = c.n_gpu_layers;
        r.device_bytes = size_t(c.device_bytes), r.strict = c.strict != 0;
        const DeviceFit fit = fit_device(r);
        write_text(fit.to_json(), out, capacity, needed);
        if (n_gpu_layers) *n_gpu_layers = fit.n_device_layers;
    });
}

// ---- sampler ----

void pillion_sampler_config_init(pillion_sampler_config* config, size_t size) {
    init_config(config, size);
}

pillion_status pillion_sampler_new(const pillion_sampler_config* config,
                                   pillion_sampler** sampler) {
    return guard([&] {
        need(sampler, "sampler");
        const pillion_sampler_config c =
            read_config(config, pillion_sampler_config_init, "pillion_sampler_config");
        SamplerOptions o;
        o.temperature = c.temperature, o.top_k = c.top_k, o.top_p = c.top_p, o.min_p = c.min_p;
        if (c.repeat_penalty != 0) o.repeat_penalty = c.repeat_penalty;
        o.frequency_penalty = c.frequency_penalty, o.presence_penalty = c.presence_penalty;
        if (c.penalty_last_n == -2)
            o.repeat_penalty = 1, o.frequency_penalty = o.presence_penalty = 0;
        else if (c.penalty_last_n != 0) o.penalty_last_n = c.penalty_last_n;
        o.seed = c.seed;
        if (c.n_bias > 0) need(c.bias_tokens, "bias_tokens"), need(c.bias_values, "bias_values");
        for (uint64_t i = 0; i < c.n_bias; i++)
            o.bias.push_back({c.bias_tokens[i], c.bias_values[i]});
        auto handle = std::make_unique<pillion_sampler>();
        handle->sampler = std::make_unique<Sampler>(std::move(o));
        *sampler = handle.release();
    });
}

void pillion_sampler_free(pillion_sampler* sampler) {
    if (sampler && !sampler->inside.orphaned()) delete sampler;
}

pillion_status pillion_sampler_sample(pillion_sampler* sampler, const pillion_context* context,
                                      size_t row, int32_t* token) {
    return with_context(context, [&](Context& c) {
        need(sampler, "sampler"), need(token, "token");
        const Claim claim(sampler->inside);
        const int r = int(std::min(row, size_t(INT32_MAX)));
        *token = sample_output(*sampler->sampler, c, r);
    });
}

pillion_status pillion_sampler_sample_masked(pillion_sampler* sampler,
                                             const pillion_context* context, size_t row,
                                             const uint32_t* mask, size_t n_words, int32_t* token) {
    return with_context(context, [&](Context& c) {
        need(sampler, "sampler"), need(token, "token"), need(mask, "mask");
        const Claim claim(sampler->inside);
        const int r = int(std::min(row, size_t(INT32_MAX)));
        *token = sample_output(*sampler->sampler, c, r,
                               token_mask(mask, n_words, size_t(c.model().hparams().n_vocab)));
    });
}

pillion_status pillion_sampler_sample_logits(pillion_sampler* sampler, const float* logits,
                                             size_t n, const uint32_t* mask, size_t n_words,
                                             int32_t* token) {
    return guard([&] {
        need(sampler, "sampler"), need(logits, "logits"), need(token, "token");
        if (n == 0 || n > size_t(INT32_MAX))
            fail(Status::invalid_argument, "a row of %zu logits", n);
        const Claim claim(sampler->inside);
        *token = sampler->sampler->sample(logits, int(n), token_mask(mask, n_words, n));
    });
}

pillion_status pillion_sampler_mark(pillion_sampler* sampler, uint64_t* accepted, uint64_t* drawn) {
    return guard([&] {
        need(sampler, "sampler"), need(accepted, "accepted"), need(drawn, "drawn");
        const Claim claim(sampler->inside);
        const Sampler::Mark mark = sampler->sampler->mark();
        *accepted = mark.accepted, *drawn = mark.drawn;
    });
}

pillion_status pillion_sampler_go_back(pillion_sampler* sampler, uint64_t accepted,
                                       uint64_t drawn) {
    return guard([&] {
        const Claim claim(need(sampler, "sampler").inside);
        sampler->sampler->go_back({accepted, drawn});
    });
}

pillion_status pillion_sampler_accept(pillion_sampler* sampler, int32_t token) {
    return guard([&] {
        const Claim claim(need(sampler, "sampler").inside);
        if (token < 0) fail(Status::invalid_argument, "token %d", token);
        sampler->sampler->accept(token);
    });
}

pillion_status pillion_sampler_reset(pillion_sampler* sampler) {
    return guard([&] {
        const Claim claim(need(sampler, "sampler").inside);
        sampler->sampler->reset();
    });
}

}  // extern "C"
