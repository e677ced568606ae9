#include "speculative/accept.h"

namespace pillion {

int32_t accept_or_resample(Sampler& sampler, const Distribution& p, const Distribution& q,
                           int32_t draft, std::vector<float>& weights) {
    const auto clear = [&] {
        for (const auto& [token, probability] : q) weights[size_t(token)] = 0;
    };
    for (const auto& [token, probability] : q) weights[size_t(token)] = probability;
    double p_draft = 0;
    for (const auto& [token, probability] : p)
        if (token == draft) p_draft = double(probability);
    if (sampler.uniform() * double(weights[size_t(draft)]) < p_draft) {
        clear();
        return draft;
    }
    Distribution rest;
    double total = 0;
    for (const auto& [token, probability] : p) {
        const float left = probability - weights[size_t(token)];
        if (left > 0) rest.push_back({token, left}), total += double(left);
    }
    clear();
    // p equals q up to rounding, so any draft is right.
    if (rest.empty()) return draft;
    for (auto& [token, probability] : rest) probability = float(double(probability) / total);
    return sampler.draw(rest);
}

}  // namespace pillion
