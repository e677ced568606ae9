/* The sampler: greedy at temperature 0, else drawn; bans and presence penalty are honoured. */
#include <math.h>

#include "fake_state.h"

struct pillion_sampler {
    pillion_sampler_config config;
    int32_t* bias_tokens;
    float* bias_values;
    uint64_t state;
    int32_t seen[64];
    size_t n_seen;
};

void pillion_sampler_config_init(pillion_sampler_config* config, size_t size) {
    fake_init_config(config, size);
}

static double setting(const pillion_model* model, const char* key, double otherwise) {
    const char* value = fake_find(model, key);
    return value ? atof(value) : otherwise;
}
pillion_status pillion_sampler_config_from_model(const pillion_model* model,
                                                 pillion_sampler_config* config, size_t size) {
    static const float never = -INFINITY;
    BEGIN();
    NEED(model && config && size >= sizeof *config);
    fake_init_config(config, size);
    config->temperature = (float)setting(model, "general.sampling.temp", 0.8);
    config->top_k = (int32_t)setting(model, "general.sampling.top_k", 40);
    config->top_p = (float)setting(model, "general.sampling.top_p", 0.95);
    config->min_p = (float)setting(model, "general.sampling.min_p", 0.05);
    config->repeat_penalty = (float)setting(model, "general.sampling.penalty_repeat", 1);
    config->penalty_last_n = (int32_t)setting(model, "general.sampling.penalty_last_n", 64);
    config->bias_tokens = &model->tokenizer->suppressed;
    config->bias_values = &never;
    config->n_bias = model->tokenizer->suppressed >= 0;
    return PILLION_OK;
}

pillion_status pillion_sampler_new(const pillion_sampler_config* given, pillion_sampler** out) {
    BEGIN();
    NEED(out);
    pillion_sampler* sampler = calloc(1, sizeof *sampler);
    if (!fake_read_config(&sampler->config, sizeof sampler->config, given))
        return free(sampler), fake_invalid("pillion_sampler_config: unknown fields are not zero");
    const size_t n = sampler->config.n_bias;
    sampler->bias_tokens = calloc(n + 1, sizeof(int32_t));
    sampler->bias_values = calloc(n + 1, sizeof(float));
    if (n) memcpy(sampler->bias_tokens, sampler->config.bias_tokens, n * sizeof(int32_t));
    if (n) memcpy(sampler->bias_values, sampler->config.bias_values, n * sizeof(float));
    static atomic_ullong random_seed = 12345;
    sampler->state = sampler->config.seed ? sampler->config.seed : ++random_seed;
    ++fake_objects;
    *out = sampler;
    return PILLION_OK;
}
void pillion_sampler_free(pillion_sampler* sampler) {
    if (!sampler) return;
    --fake_objects;
    free(sampler->bias_tokens);
    free(sampler->bias_values);
    free(sampler);
}

static pillion_status sample(pillion_sampler* sampler, const float* given, const uint32_t* mask,
                             int32_t* token) {
    float logits[N_VOCAB];
    memcpy(logits, given, sizeof logits);
    const uint64_t before = sampler->state;
    for (size_t i = 0; i < sampler->config.n_bias; ++i) {
        NEED(known(sampler->bias_tokens[i]));
        logits[sampler->bias_tokens[i]] += sampler->bias_values[i];
    }
    char seen[N_VOCAB] = {0};
    for (size_t i = 0; i < sampler->n_seen; ++i) seen[sampler->seen[i]] = 1;
    for (int j = 0; j < N_VOCAB; ++j) logits[j] -= seen[j] ? sampler->config.presence_penalty : 0;
    if (sampler->config.temperature > 0) {
        for (int j = 0; j < N_VOCAB;
             ++j) { /* the largest of logit / temperature + Gumbel noise is a draw */
            sampler->state = sampler->state * 6364136223846793005u + 1442695040888963407u;
            const double uniform = ((double)(sampler->state >> 11) + 0.5) / 9007199254740992.0;
            logits[j] = (float)(logits[j] / sampler->config.temperature - log(-log(uniform)));
        }
    }
    int best = -1;
    for (int j = 0; j < N_VOCAB; ++j)
        if ((!mask || mask[j / 32] >> (j % 32) & 1) &&
            logits[j] > (best < 0 ? -INFINITY : logits[best]))
            best = j;
    if (best < 0) return sampler->state = before, fake_invalid("no token is left to sample");
    *token = best;
    return PILLION_OK;
}
pillion_status fake_sample(pillion_sampler* sampler, const pillion_context* context, size_t row,
                           const uint32_t* mask, int32_t* token) {
    NEED(sampler && context && token && row < context->n_rows);
    return sample(sampler, context->logits[row], mask, token);
}
pillion_status pillion_sampler_sample(pillion_sampler* sampler, const pillion_context* context,
                                      size_t row, int32_t* token) {
    BEGIN();
    NEED(context);
    ENTER(context);
    return fake_leave(context, fake_sample(sampler, context, row, NULL, token));
}
pillion_status pillion_sampler_sample_masked(pillion_sampler* sampler,
                                             const pillion_context* context, size_t row,
                                             const uint32_t* mask, size_t n_words, int32_t* token) {
    BEGIN();
    NEED(context && mask && n_words == N_WORDS);
    ENTER(context);
    return fake_leave(context, fake_sample(sampler, context, row, mask, token));
}
pillion_status pillion_sampler_sample_logits(pillion_sampler* sampler, const float* logits,
                                             size_t n, const uint32_t* mask, size_t n_words,
                                             int32_t* token) {
    BEGIN();
    NEED(sampler && logits && n == N_VOCAB && token && (!mask || n_words == N_WORDS));
    return sample(sampler, logits, mask, token);
}
pillion_status pillion_sampler_mark(pillion_sampler* sampler, uint64_t* accepted, uint64_t* drawn) {
    BEGIN();
    NEED(sampler && accepted && drawn);
    *accepted = sampler->n_seen;
    *drawn = sampler->state;
    return PILLION_OK;
}
pillion_status pillion_sampler_go_back(pillion_sampler* sampler, uint64_t accepted,
                                       uint64_t drawn) {
    BEGIN();
    NEED(sampler && accepted <= sampler->n_seen);
    sampler->n_seen = accepted;
    sampler->state = drawn;
    return PILLION_OK;
}
pillion_status pillion_sampler_accept(pillion_sampler* sampler, int32_t token) {
    BEGIN();
    NEED(sampler && known(token));
    sampler->seen[sampler->n_seen++ % 64] = token;
    if (sampler->n_seen > 64) sampler->n_seen = 64;
    return PILLION_OK;
}
pillion_status pillion_sampler_reset(pillion_sampler* sampler) {
    BEGIN();
    NEED(sampler);
    sampler->n_seen = 0;
    sampler->state = sampler->config.seed;
    return PILLION_OK;
}
