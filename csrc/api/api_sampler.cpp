// Samplers. Every call on one claims it.
#include <algorithm>

#include "api/handles.h"
#include "runtime/scoring.h"

using namespace pillion;
using namespace pillion::api;

namespace {

TokenMask token_mask(const uint32_t* words, size_t n_words, size_t n_vocab) {
    if (words && n_words != TokenMask::n_words(int(n_vocab)))
        fail(Status::invalid_argument, "a mask of %zu words, that of %zu tokens has %zu", n_words,
             n_vocab, TokenMask::n_words(int(n_vocab)));
    return {words};
}

}  // namespace

extern "C" {

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
