// Rejection sampling of drafts: the resulting token follows the target's distribution for any
// drafter. Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding"
// (2023), algorithm 1.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "runtime/sampler.h"

namespace pillion {

// draft was drawn from q. Returns it with probability min(1, p(draft) / q(draft)), else a token
// drawn from max(0, p - q), which never is the draft. `weights`: [n_vocab] scratch, zero before and
// after.
int32_t accept_or_resample(Sampler& sampler, const Distribution& p, const Distribution& q,
                           int32_t draft, std::vector<float>& weights);

}  // namespace pillion
