#include "runtime/sampler.h"

#include <math.h>

#include <algorithm>
#include <random>
#include <unordered_map>

#include "core/error.h"
#include "core/rng.h"

namespace pillion {
namespace {

void check_range(const char* name, float value, float lo, float hi) {
    if (!(value >= lo && value <= hi))
        fail(Status::invalid_argument, "%s %g is outside %g to %g", name, double(value), double(lo),
             double(hi));
}

// Best first: higher logit, then lower id. NaN counts as -inf.
bool better(float a, int32_t ta, float b, int32_t tb) { return a > b || (a == b && ta < tb); }

// exp(x - best). If best is +inf, it is 1 for every +inf and 0 for the rest.
double weight(float x, float best, double scale) {
    return x == best ? 1.0 : exp((double(x) - double(best)) * scale);
}

[[noreturn]] void fail_empty(TokenMask mask) {
    fail(Status::invalid_argument,
         mask ? "no token is left to sample: the mask allows none whose logit is above -inf"
              : "no token is left to sample: every logit is -inf or not a number");
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : o_(std::move(options)) {
    check_range("temperature", o_.temperature, 0, kTemperatureMost);
    check_range("top_p", o_.top_p, 0, 1);
    check_range("min_p", o_.min_p, 0, 1);
    check_range("repeat_penalty", o_.repeat_penalty, kRepeatPenaltyLeast, kRepeatPenaltyMost);
    check_range("frequency_penalty", o_.frequency_penalty, -1e3f, 1e3f);
    check_range("presence_penalty", o_.presence_penalty, -1e3f, 1e3f);
    if (o_.top_k < 0) fail(Status::invalid_argument, "top_k %d must not be negative", o_.top_k);
    if (o_.penalty_last_n < -1)
        fail(Status::invalid_argument, "penalty_last_n %d, allowed are -1 (all) and more",
             o_.penalty_last_n);
    for (const auto& [token, value] : o_.bias) {
        if (token < 0) fail(Status::invalid_argument, "logit bias for token %d", token);
        if (std::isnan(value))
            fail(Status::invalid_argument, "logit bias of token %d is not a number", token);
    }
    if (o_.top_p == 0) o_.top_p = 1;
    if (o_.seed == 0) {
        std::random_device device;
        o_.seed = uint64_t(device()) << 32 | device();
    }
}

bool Sampler::has_penalties() const {
    return o_.penalty_last_n != 0 &&
           (o_.repeat_penalty != 1 || o_.frequency_penalty != 0 || o_.presence_penalty != 0);
}

bool Sampler::argmax_suffices(int32_t most_likely) const {
    if (o_.temperature != 0 || has_penalties()) return false;
    for (const auto& [token, bias] : o_.bias)
        if (!(bias <= 0) || token == most_likely) return false;
    return true;
}

void Sampler::accept(int32_t token) { history_.push_back(token); }

void Sampler::go_back(const Mark& mark) {
    if (mark.accepted > history_.size() || mark.drawn > counter_)
        fail(Status::invalid_argument,
             "the mark is of %llu accepted tokens and %llu random numbers, the sampler is at %zu "
             "and "
             "%llu",
             static_cast<unsigned long long>(mark.accepted),
             static_cast<unsigned long long>(mark.drawn), history_.size(),
             static_cast<unsigned long long>(counter_));
    history_.resize(size_t(mark.accepted));
    counter_ = mark.drawn;
}

void Sampler::set_state(State state) {
    o_.seed = state.seed, counter_ = state.drawn;
    history_ = std::move(state.accepted);
}

void Sampler::reset() {
    history_.clear();
    counter_ = 0;
}

void Sampler::check_biases(int n_vocab) const {
    for (const auto& [token, value] : o_.bias)
        if (token >= n_vocab)
            fail(Status::invalid_argument, "logit bias for token %d, the vocabulary has %d", token,
                 n_vocab);
}

// Keeps only the scores that the mask allows. No later addition can bring a refused token back, and
// a grammar that allows few tokens costs only those few.
Scores Sampler::allowed(const Scores& scores, TokenMask mask) {
    if (!mask) return scores;
    if (allowed_.size() < size_t(scores.n))
        allowed_.resize(size_t(scores.n)), allowed_ids_.resize(size_t(scores.n));
    float* const logits = allowed_.data();
    int32_t* const ids = allowed_ids_.data();
    int n = 0;
    for (int first = 0; first < scores.n; first += 32) {
        uint32_t word = mask.words[first / 32];
        if (const int left = scores.n - first; left < 32) word &= (1u << left) - 1;
        if (word == ~0u) {  // in most masks, most words are this or zero
            for (int i = 0; i < 32; i++)
                logits[n + i] = scores.logits[first + i], ids[n + i] = first + i;
            n += 32;
            continue;
        }
        for (; word != 0; word &= word - 1) {
            const int token = first + __builtin_ctz(word);
            logits[n] = scores.logits[token], ids[n++] = token;
        }
    }
    return {logits, ids, n, /*is_sorted=*/true};
}

// Applies bias and penalties to the logits; returns the given logits if there are neither.
Scores Sampler::adjust(const Scores& scores) {
    if (o_.bias.empty() && !has_penalties()) return scores;
    struct Change {
        int count = 0;  // how often the token was accepted lately
        float bias = 0;
    };
    std::unordered_map<int32_t, Change> changes;
    if (has_penalties()) {
        const size_t n = o_.penalty_last_n < 0
                             ? history_.size()
                             : std::min(history_.size(), size_t(o_.penalty_last_n));
        for (size_t i = history_.size() - n; i < history_.size(); i++) changes[history_[i]].count++;
    }
    for (const auto& [token, value] : o_.bias) {
        changes[token].bias += value;
    }

    adjusted_.assign(scores.logits, scores.logits + scores.n);
    const auto apply = [&](float& x, const Change& change) {
        if (change.count > 0) {
            x = x > 0 ? x / o_.repeat_penalty : x * o_.repeat_penalty;
            x -= float(change.count) * o_.frequency_penalty + o_.presence_penalty;
        }
        x += change.bias;
    };
    if (scores.is_sorted) {
        for (const auto& [token, change] : changes) {
            const int32_t* const end = scores.ids + scores.n;
            const int32_t* const found = std::lower_bound(scores.ids, end, token);
            if (found != end && *found == token)
                apply(adjusted_[size_t(found - scores.ids)], change);
        }
    } else if (scores.ids) {
        for (int i = 0; i < scores.n; i++)
            if (const auto found = changes.find(scores.ids[i]); found != changes.end())
                apply(adjusted_[size_t(i)], found->second);
    } else {
        for (const auto& [token, change] : changes)
            if (token >= 0 && token < scores.n) apply(adjusted_[size_t(token)], change);
    }
    return {adjusted_.data(), scores.ids, scores.n, scores.is_sorted};
}

// Keeps the top_k best candidates (all if top_k is off), best first.
void Sampler::select(const Scores& scores) {
    const float* logits = scores.logits;
    const auto token = [&](int i) { return scores.ids ? scores.ids[i] : i; };
    const auto before = [](const Candidate& a, const Candidate& b) {
        return better(a.logit, a.token, b.logit, b.token);
    };
    candidates_.clear();
    const size_t k = o_.top_k > 0 && o_.top_k < scores.n ? size_t(o_.top_k) : size_t(scores.n);
    if (k > 4096) {
        for (int i = 0; i < scores.n; i++)
            if (logits[i] > -INFINITY) candidates_.push_back({logits[i], token(i)});
        if (k < candidates_.size()) {
            std::nth_element(candidates_.begin(), candidates_.begin() + long(k), candidates_.end(),
                             before);
            candidates_.resize(k);
        }
        std::sort(candidates_.begin(), candidates_.end(), before);
        return;
    }
    // The heap's top is the worst of the k best. Most logits are below it and cost one comparison.
    for (int i = 0; i < scores.n; i++) {
        if (candidates_.size() == k &&
            !better(logits[i], token(i), candidates_.front().logit, candidates_.front().token))
            continue;
        if (!(logits[i] > -INFINITY)) continue;
        if (candidates_.size() == k) {
            std::pop_heap(candidates_.begin(), candidates_.end(), before);
            candidates_.pop_back();
        }
        candidates_.push_back({logits[i], token(i)});
        std::push_heap(candidates_.begin(), candidates_.end(), before);
    }
    std::sort_heap(candidates_.begin(), candidates_.end(), before);
}

// Applies top-p, then min-p, to the softmax of the candidates that top-k left. Keeps at least one.
void Sampler::truncate() {
    if (o_.top_p >= 1 && o_.min_p <= 0) return;
    const float best = candidates_.front().logit;
    double total = 0;
    const auto share = [best](float x) { return x == best ? 1.0 : exp(double(x - best)); };
    for (const Candidate& c : candidates_) total += share(c.logit);
    size_t keep = candidates_.size();
    if (o_.top_p < 1) {
        double sum = 0;
        for (size_t i = 0; i < keep; i++) {
            sum += share(candidates_[i].logit);
            if (sum >= double(o_.top_p) * total) keep = i + 1;
        }
    }
    if (o_.min_p > 0) {
        const float limit = best + logf(o_.min_p);
        size_t n = 1;
        while (n < keep && candidates_[n].logit >= limit) n++;
        keep = n;
    }
    candidates_.resize(keep);
}

// Index of the largest logit; -1 if every logit is -inf or NaN.
int Sampler::best(const Scores& scores) const {
    const auto token = [&](int i) { return scores.ids ? scores.ids[i] : i; };
    int best = -1;
    float most = -INFINITY;
    for (int i = 0; i < scores.n; i++) {
        const float x = scores.logits[i];
        if (x > most || (x == most && best >= 0 && token(i) < token(best))) best = i, most = x;
    }
    return best;
}

const Distribution& Sampler::distribution(const Scores& given, TokenMask mask) {
    if (!given.ids) check_biases(given.n);
    const Scores scores = adjust(allowed(given, mask));
    distribution_.clear();
    if (o_.temperature == 0) {
        const int i = best(scores);
        if (i < 0) fail_empty(mask);
        distribution_.push_back({scores.ids ? scores.ids[i] : i, 1.0f});
        return distribution_;
    }
    select(scores);
    if (candidates_.empty()) fail_empty(mask);
    truncate();
    const float best = candidates_.front().logit;
    const double scale = 1 / double(o_.temperature);
    double total = 0;
    for (const Candidate& c : candidates_) total += weight(c.logit, best, scale);
    for (const Candidate& c : candidates_)
        distribution_.push_back({c.token, float(weight(c.logit, best, scale) / total)});
    return distribution_;
}

double Sampler::uniform() { return pillion_random_unit(o_.seed, counter_++); }

int32_t Sampler::draw(const Distribution& distribution) {
    if (distribution.size() == 1) return distribution[0].first;
    double u = uniform();
    for (const auto& [token, p] : distribution) {
        u -= double(p);
        if (u < 0) return token;
    }
    // The probabilities sum to slightly less than 1 after rounding.
    return distribution.back().first;
}

int32_t Sampler::sample(const float* logits, int n_vocab, TokenMask mask) {
    return draw(distribution({logits, nullptr, n_vocab}, mask));
}

}  // namespace pillion
