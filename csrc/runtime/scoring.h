// What whole texts give: how likely a text is, and its mean hidden row.
#pragma once
#include "runtime/context.h"

namespace pillion {

// log p(tokens[i + 1] | tokens[0 .. i]) of `n` tokens, [n - 1]. The context is cleared first and
// holds the tokens afterwards. Throws Error.
void score(Context& context, const int32_t* tokens, size_t n, float* logprobs);
// The mean of all positions' hidden rows, [n_embd]. The context as after score().
void embed(Context& context, const int32_t* tokens, size_t n, float* mean);

// The sampler's token from an output row, of those that the mask allows.
int32_t sample_output(Sampler& sampler, const Context& context, int row, TokenMask mask = {});

// max + log sum exp(x - max), in double.
double log_sum_exp(const float* x, size_t n);

}  // namespace pillion
