// Joins metadata and tokenizer, so that neither knows the other.
#include <math.h>
#include <string.h>

#include "api/handles.h"

using namespace pillion;
using namespace pillion::api;

namespace pillion::api {

TokenizerData tokenizer_data(const GgufFile& file) {
    TokenizerData d;
    const auto text = [&](const char* key) { return std::string(file.string(key, "")); };
    const auto id = [&](const char* key) {
        return int32_t(file.integer_or(key, -1, -1, INT32_MAX));
    };
    const auto flag = [&](const char* key) {
        return file.find(key) ? std::optional<bool>(file.boolean(key)) : std::optional<bool>();
    };
    d.model = text("tokenizer.ggml.model");
    d.pre = text("tokenizer.ggml.pre");
    if (!file.find("tokenizer.ggml.tokens"))
        file.fail(Status::file_corrupt, "the file has no tokenizer (key tokenizer.ggml.tokens)");
    d.tokens = file.strings("tokenizer.ggml.tokens");
    if (file.find("tokenizer.ggml.scores")) d.scores = file.float32s("tokenizer.ggml.scores");
    if (file.find("tokenizer.ggml.token_type")) d.types = file.int32s("tokenizer.ggml.token_type");
    if (file.find("tokenizer.ggml.merges")) d.merges = file.strings("tokenizer.ggml.merges");
    d.bos = id("tokenizer.ggml.bos_token_id");
    d.unk = id("tokenizer.ggml.unknown_token_id");
    d.pad = id("tokenizer.ggml.padding_token_id");
    d.mask = id("tokenizer.ggml.mask_token_id");
    // A few exporters write a list in place of a number.
    const auto end = [&](const char* key) {
        const GgufValue* value = file.find(key);
        if (!value || !value->is_array) return id(key);
        const std::vector<int32_t> ids = file.int32s(key);
        d.eos_ids.insert(d.eos_ids.end(), ids.begin(), ids.end());
        return ids.empty() ? -1 : ids[0];
    };
    d.eos = end("tokenizer.ggml.eos_token_id");
    d.eot = end("tokenizer.ggml.eot_token_id");
    d.eom = end("tokenizer.ggml.eom_token_id");
    end("tokenizer.ggml.eos_token_ids");  // all ends, of a model that has more than there are keys
                                          // for
    d.add_bos = flag("tokenizer.ggml.add_bos_token");
    d.add_eos = flag("tokenizer.ggml.add_eos_token");
    d.add_space_prefix = flag("tokenizer.ggml.add_space_prefix");
    d.remove_extra_whitespaces = flag("tokenizer.ggml.remove_extra_whitespaces");
    if (file.find("tokenizer.ggml.suppress_tokens"))
        d.suppress_tokens = file.int32s("tokenizer.ggml.suppress_tokens");
    return d;
}

std::shared_ptr<const Tokenizer> SharedModel::tokenizer() {
    const ForkLock lock(mutex_);
    if (lock.orphaned()) {
        new (&tokenizer_) std::shared_ptr<const Tokenizer>;  // half a pointer can't be freed
        new (&bans_) std::vector<float>;
    }
    if (tokenizer_) return tokenizer_;
    const TokenizerData data = tokenizer_data(model->file());
    try {
        const std::shared_ptr<const Tokenizer> made = Tokenizer::create(data);
        bans_.assign(made->suppress_tokens().size(), -INFINITY);
        tokenizer_ = made;
    } catch (const Error& e) {  // it knows its keys, not whose they are
        model->file().fail(e.code(), "%s", e.what());
    }
    return tokenizer_;
}

}  // namespace pillion::api

extern "C" {

void pillion_tokenizer_free(pillion_tokenizer* tokenizer) { delete tokenizer; }

pillion_status pillion_tokenizer_encode(const pillion_tokenizer* tokenizer, const char* text,
                                        size_t text_bytes, int32_t add_special,
                                        int32_t parse_special, int32_t* tokens, size_t capacity,
                                        size_t* needed) {
    return guard([&] {
        if (text_bytes > 0) need(text, "text");
        const Tokenizer& t = *need(tokenizer, "tokenizer").tokenizer;
        const auto ids = t.encode(std::string_view(text ? text : "", text_bytes), add_special != 0,
                                  parse_special != 0);
        write_tokens(ids.data(), ids.size(), tokens, capacity, needed);
    });
}

pillion_status pillion_tokenizer_decode(const pillion_tokenizer* tokenizer, const int32_t* tokens,
                                        size_t n, int32_t print_special, char* out, size_t capacity,
                                        size_t* needed) {
    return guard([&] {
        if (n > 0) need(tokens, "tokens");
        write_text(need(tokenizer, "tokenizer").tokenizer->decode(tokens, n, print_special != 0),
                   out, capacity, needed);
    });
}

pillion_status pillion_tokenizer_token_bytes(const pillion_tokenizer* tokenizer, int32_t token,
                                             int32_t print_special, char* out, size_t capacity,
                                             size_t* needed) {
    return guard([&] {
        write_text(need(tokenizer, "tokenizer").tokenizer->token_bytes(token, print_special != 0),
                   out, capacity, needed);
    });
}

pillion_status pillion_tokenizer_token_text(const pillion_tokenizer* tokenizer, int32_t token,
                                            char* out, size_t capacity, size_t* needed,
                                            int32_t* type) {
    return guard([&] {
        const Tokenizer& t = *need(tokenizer, "tokenizer").tokenizer;
        const int32_t kind = int32_t(t.token_type(token));
        write_text(std::string(t.token_text(token)), out, capacity, needed);
        if (type) *type = kind;
    });
}

pillion_status pillion_tokenizer_get_info(const pillion_tokenizer* tokenizer,
                                          pillion_tokenizer_info* info, size_t size) {
    return guard([&] {
        const Tokenizer& t = *need(tokenizer, "tokenizer").tokenizer;
        pillion_tokenizer_info i = {};
        i.n_tokens = t.size();
        i.bos = t.bos(), i.eos = t.eos(), i.unk = t.unk(), i.pad = t.pad();
        i.adds_bos = t.adds_bos(), i.adds_eos = t.adds_eos();
        i.strips_leading_space = t.strips_leading_space();
        i.n_end = int32_t(t.end_of_generation().size());
        for (int32_t k = 0; k < i.n_end && k < 16; k++) i.end[k] = t.end_of_generation()[size_t(k)];
        snprintf(i.model, sizeof i.model, "%s", t.model().c_str());
        write_info(info, size, &i, sizeof i);
    });
}

pillion_status pillion_tokenizer_suppressed(const pillion_tokenizer* tokenizer, int32_t* tokens,
                                            size_t capacity, size_t* needed) {
    return guard([&] {
        const auto& ids = need(tokenizer, "tokenizer").tokenizer->suppress_tokens();
        write_tokens(ids.data(), ids.size(), tokens, capacity, needed);
    });
}

}  // extern "C"
