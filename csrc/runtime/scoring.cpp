#include "runtime/scoring.h"

#include <math.h>

#include <algorithm>

namespace pillion {

void score(Context& context, const int32_t* tokens, size_t n, float* logprobs) {
    if (n < 2) fail(Status::invalid_argument, "score needs at least two tokens");
    // Logits of many rows at once, within 64 MB of them.
    const Model& model = context.model();
    const size_t n_vocab = size_t(model.hparams().n_vocab);
    const size_t rows_max = std::min<size_t>(
        {size_t(context.n_batch()), n, std::max<size_t>(8, (64u << 20) / (n_vocab * 4))});
    Outputs outputs(model, int(rows_max));
    std::vector<float> room;
    context.run_all(tokens, n, outputs, [&](size_t first) {
        for (size_t r = 0; r < size_t(outputs.rows()) && first + r + 1 < n; r++) {
            const float* row = outputs.logits(int(r), room);
            const int32_t next = tokens[first + r + 1];
            logprobs[first + r] = float(double(row[next]) - log_sum_exp(row, n_vocab));
        }
    });
}

void embed(Context& context, const int32_t* tokens, size_t n, float* mean) {
    if (n == 0) fail(Status::invalid_argument, "embed needs at least one token");
    const Model& model = context.model();
    Outputs outputs(model, int(std::min(n, size_t(context.n_batch()))), Outputs::Kind::hidden);
    // Row after row in double: the sum does not depend on how the runs were cut.
    const size_t n_embd = size_t(model.hparams().n_embd);
    std::vector<double> sum(n_embd, 0.0);
    context.run_all(tokens, n, outputs, [&](size_t) {
        for (int r = 0; r < outputs.rows(); r++) {
            const float* row = outputs.hidden(r);
            for (size_t j = 0; j < n_embd; j++) sum[j] += double(row[j]);
        }
    });
    for (size_t j = 0; j < n_embd; j++) mean[j] = float(sum[j] / double(n));
}

// The argmax, made where the row lies, is the largest of all logits; if the mask allows it, it is
// the largest of the allowed ones too, and the row stays where it is. Of a row of NaN the argmax is
// token 0, so that one is looked at.
int32_t sample_output(Sampler& sampler, const Context& context, int row, TokenMask mask) {
    const int32_t best = context.outputs().argmax(row);
    if (best > 0 && sampler.argmax_suffices(best) && mask.allows(best)) return best;
    return sampler.sample(context.outputs().logits(row), context.model().hparams().n_vocab, mask);
}

double log_sum_exp(const float* x, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = std::max(max, x[i]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += double(expf(x[i] - max));
    return double(max) + log(sum);
}

}  // namespace pillion
