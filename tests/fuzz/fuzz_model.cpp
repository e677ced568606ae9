// Fuzzes the way from a file to a token through the C ABI. A model with the input's sizes, damaged
// by the input's edits, is opened, described, given a context, run, rewound and paired. Every call
// may refuse. It must not crash, take memory out of proportion, or return "internal".
#include "checked_call.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;
using fuzz::ok;

namespace {

template <class F>
void read_text(F call) {
    size_t n = 0;
    if (ok(call(nullptr, 0, &n)) || n == 0) return;
    std::string text(n, 0);
    if (!ok(call(&text[0], n, &n)) || n != text.size())
        broken("a text of another size than it said");
}

void describe(pillion_model* model, const pillion_model* drafter,
              const pillion_context_config* config) {
    read_text([&](char* out, size_t n, size_t* needed) {
        return pillion_model_json(model, out, n, needed);
    });
    read_text([&](char* out, size_t n, size_t* needed) {
        return pillion_model_memory(model, drafter, config, out, n, needed);
    });
    pillion_model_info info;
    ok(pillion_model_get_info(model, &info, sizeof info));
    // Packing rounds rows up to 32 and vectors to floats; nothing else may grow.
    if (info.weight_bytes > 256 * info.file_bytes + (8u << 20))
        broken("weights out of proportion to the file");
    pillion_tokenizer* tokenizer = nullptr;
    if (!ok(pillion_model_tokenizer(model, &tokenizer))) return;
    int32_t ids[64];
    size_t n = 0;
    if (ok(pillion_tokenizer_encode(tokenizer, " ab\n<bos>\xF0\x9F\x99\x82", 14, 1, 1, ids, 64,
                                    &n)))
        read_text([&](char* out, size_t size, size_t* needed) {
            return pillion_tokenizer_decode(tokenizer, ids, n, 1, out, size, needed);
        });
    pillion_tokenizer_free(tokenizer);
}

pillion_model* open(const std::vector<uint8_t>& bytes, uint8_t how) {
    const fuzz::MemoryFile file(bytes);
    pillion_model_config config;
    pillion_model_config_init(&config, sizeof config);
    config.no_mmap = how & 1, config.metadata_only = (how & 14) == 2,
    config.n_threads = 1 + (how >> 4 & 1);
    config.device = "cpu";
    pillion_model* model = nullptr;
    return ok(pillion_model_open(file.path(), &config, &model)) ? model : nullptr;
}

void run(pillion_context* context, Input& in) {
    size_t length = 0, n_ctx = 0;
    for (int i = 0; i < 6; i++) {
        int32_t tokens[40];
        const size_t n = 1 + in.byte() % 40;
        for (int32_t& t : tokens) t = in.chance(4) ? int32_t(in.number()) : in.byte() % 32;
        switch (i == 0 ? 0 : in.byte() % 5) {
            case 0:
                ok(pillion_context_eval(context, tokens, n, std::min<size_t>(n, in.byte() % 4)));
                break;
            case 1: ok(pillion_context_rewind(context, in.byte() % 50)); break;
            case 2: ok(pillion_context_sync(context, tokens, n, nullptr)); break;
            case 3: {
                float mean[32];
                ok(pillion_context_embed(context, tokens, n, mean, 32));
                break;
            }
            default: {
                float logprobs[40];
                ok(pillion_context_score(context, tokens, n, logprobs));
            }
        }
        ok(pillion_context_length(context, &length, &n_ctx));
        if (length > n_ctx) broken("longer than n_ctx");
    }
}

void pair(pillion_context* context, pillion_model* drafter, Input& in) {
    pillion_pair_config config;
    pillion_pair_config_init(&config, sizeof config);
    const uint8_t bits = in.byte();
    config.dense_head = bits & 1, config.sampled = bits >> 2 & 1, config.strict = bits >> 3 & 1;
    pillion_model_info info = {};
    if (drafter) ok(pillion_model_get_info(drafter, &info, sizeof info));
    const int32_t kind = !drafter                         ? PILLION_DRAFTER_LOOKUP
                         : info.is_drafter && !(bits & 2) ? PILLION_DRAFTER_ASSISTANT
                                                          : PILLION_DRAFTER_MODEL;
    pillion_pair* pair = nullptr;
    pillion_sampler_config sampling;
    pillion_sampler_config_init(&sampling, sizeof sampling);
    sampling.temperature = bits & 16 ? 0.8f : 0, sampling.seed = 1, sampling.top_k = bits >> 5 & 3;
    pillion_sampler* sampler = nullptr;
    if (!ok(pillion_sampler_new(&sampling, &sampler))) return;
    if (ok(pillion_pair_new(context, kind, drafter, &config, &pair))) {
        const int32_t prompt[] = {1, 0, 1, 0};
        ok(pillion_pair_sync(pair, prompt, 1 + in.byte() % 4, nullptr));
        for (int i = 0; i < 4; i++) {
            int32_t tokens[16];
            size_t n = 0;
            ok(pillion_pair_step(pair, sampler, in.byte() % 10 - 1, 16, nullptr, 0, tokens, 16, &n,
                                 nullptr, 0));
            if (n > 16) broken("more tokens than asked for");
        }
        read_text([&](char* out, size_t n, size_t* needed) {
            return pillion_pair_json(pair, out, n, needed);
        });
    }
    pillion_pair_free(pair);
    pillion_sampler_free(sampler);
}

pillion_context_config context_config(Input& in) {
    pillion_context_config config;
    pillion_context_config_init(&config, sizeof config);
    config.n_ctx = 1 + in.byte() % 100, config.n_batch = in.byte() % 40,
    config.n_outputs = in.byte() % 20, config.n_threads = 1 + (in.byte() & 1);
    const uint8_t bits = in.byte();
    config.kv_type = bits & 3, config.swa_full = bits >> 2 & 1,
    config.collect_activations = (bits >> 3 & 3) == 3;
    if ((bits & 0xe0) == 0xe0) config.n_ctx = 0;
    return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    const uint8_t how = in.byte();
    const pillion_context_config config = context_config(in);
    pillion_model* model = open(fuzz::read_file(in), how);
    if (!model) return 0;
    pillion_model* drafter = how & 32 ? open(fuzz::read_file(in), 0) : nullptr;
    describe(model, drafter, &config);
    pillion_context* context = nullptr;
    if (ok(pillion_context_new(model, &config, &context))) {
        run(context, in);
        pair(context, drafter, in);
        read_text([&](char* out, size_t n, size_t* needed) {
            return pillion_context_json(context, out, n, needed);
        });
    }
    pillion_model_free(model);
    pillion_model_free(drafter);
    pillion_context_free(context);
    return 0;
}
