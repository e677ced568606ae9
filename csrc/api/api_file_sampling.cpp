#include <string.h>

#include <algorithm>

#include "api/handles.h"
#include "runtime/file_sampling.h"

using namespace pillion;
using namespace pillion::api;

extern "C" {

pillion_status pillion_sampler_config_from_model(const pillion_model* model,
                                                 pillion_sampler_config* config, size_t size) {
    return guard([&] {
        need(config, "config");
        SharedModel& shared = *need(model, "model").shared;
        const SamplerOptions o = file_sampling(shared.model->file());
        const std::vector<int32_t>& banned = shared.tokenizer()->suppress_tokens();
        pillion_sampler_config c = {};
        c.temperature = o.temperature, c.top_k = o.top_k, c.top_p = o.top_p, c.min_p = o.min_p;
        c.repeat_penalty = o.repeat_penalty;
        c.penalty_last_n = o.penalty_last_n == 0 ? -2 : o.penalty_last_n;
        c.bias_tokens = banned.data(), c.bias_values = shared.bans(), c.n_bias = banned.size();
        init_config(config, size);
        c.struct_size = uint32_t(size);
        memcpy(config, &c, std::min(size, sizeof c));
    });
}

}  // extern "C"
