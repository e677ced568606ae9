#include "speculative/draft_length.h"

#include <algorithm>
#include <cmath>

namespace pillion {
namespace {

// A count's weight after one more round: about the last 50 rounds matter.
constexpr double kForget = 0.98;
// Weight of a new time in the average.
constexpr double kSmooth = 0.2;
// Draft length before any measurement.
constexpr int kFirst = 3;
// Imagined tries per position. The first position starts at 0.6, a later one at the rate of the
// position before it.
constexpr double kPrior = 2, kPriorBehind = 4, kFirstGuess = 0.6;
// While drafting without a text to read: the share of the time that looks at other lengths may
// lose, how much of it is saved, in plain tokens, and how many runs a measurement stays fresh.
constexpr double kLookShare = 0.005, kPurse = 1.5;
constexpr int kFreshFirst = 4, kFreshMost = 32;
// A longer draft, or a draft at all, must promise this factor. Noise would make lengths flicker
// otherwise.
constexpr double kMargin = 1.02;
// Draft lengths up to this one are tried before pausing.
constexpr int kTriedBeforePause = 3;
// Among the first few times the fastest counts: caches are cold, and pages are untouched.
constexpr int kWarmUp = 3;
// A slower outlier counts as this many times the average.
constexpr double kOutlier = 2;

// Constants for drafters that read the text. Guesses hold until the first measurement.
// Up to this many unread tokens are those of the last round.
constexpr int kCaughtUp = DraftLength::kMax + 1;
// Guess: time to read a token among many, in draft steps.
constexpr double kReadGuess = 0.2;
// Tokens read from the end of the text; less the first time, to learn what reading costs.
constexpr int kWindow = 32, kFirstWindow = 10;
// Guess: time of each further row of a run, in plain tokens.
constexpr double kRowGuess = 0.3;
// Rounds of a trial, and how many earlier tries a new trial still counts.
constexpr int kTrialLeast = 3, kTrialMost = 8;
constexpr double kTrialMemory = 4;
// Gain, in plain tokens per round, that a trial must reach; it exceeds the noise of the times.
constexpr double kTrialMargin = 0.05;
// The time of a plain token is the measure of all others, so its average moves slowly.
constexpr double kSlow = 0.05, kSlowOutlier = 1.3;
// While drafting: rounds between two tries of a longer draft.
constexpr int kLookRounds = 16;
// The expected gain over this many tokens pays for reading a new text, a quarter of it.
constexpr int kHorizon = 64;

}  // namespace

void DraftLength::Cost::add(double value, double smooth, double outlier) {
    if (n++ < kWarmUp) ms = ms == 0 ? value : std::min(ms, value);
    else ms += smooth * (std::min(value, outlier * ms) - ms);
}

// P(the draft at `position` is accepted | those before it were).
double DraftLength::acceptance(int position) const {
    if (position < n_expected_) return expected_[position];
    return counted_acceptance(position);
}

void DraftLength::expect(const double* chances, int n) {
    n_expected_ = std::min(n, int(kMax));
    std::copy(chances, chances + n_expected_, expected_);
}

// That of the drafter's own drafts.
double DraftLength::counted_acceptance(int position) const {
    const double guess = position == 0 ? kFirstGuess : counted_acceptance(position - 1);
    const double prior = position == 0 || share_ > 0 ? kPrior : kPriorBehind;
    return (hits_[position] + prior * guess) / (tries_[position] + prior);
}

double DraftLength::acceptance_error() const {
    const double p = acceptance(0);
    return std::sqrt(p * (1 - p) / (tries_[0] + kPrior));
}

double DraftLength::draft_cost(int k) const {
    return k * (draft_per_token_.n > 0 ? draft_per_token_.ms : share_ * plain_.ms);
}

double DraftLength::tokens_per_ms(int k) const {
    double expected = 1, all = 1;
    for (int i = 0; i < k; i++) {
        all *= acceptance(i);
        expected += all;
    }
    const double ms = verify_cost(1 + k) + draft_cost(k);
    return ms > 0 ? expected / ms : 0;
}

// The most promising draft, whether or not it beats plain decoding.
int DraftLength::best_draft() const {
    int best = 1;
    for (int k = 2; k <= kMax; k++)
        if (tokens_per_ms(k) > tokens_per_ms(best)) best = k;
    return best;
}

int DraftLength::best() const {
    if (verify_.n(1) == 0 && rounds_ < 4) return kFirst;
    if (share_ > 0) return cautious_best();
    const int k = steady_best();
    return tokens_per_ms(k) > tokens_per_ms(0) * kMargin ? k : 0;
}

// Each longer draft must promise more than the margin.
int DraftLength::cautious_best() const {
    int best = 0;
    double rate = tokens_per_ms(0) * kMargin;
    for (int k = 1; k <= kMax; k++)
        if (tokens_per_ms(k) > rate) best = k, rate = tokens_per_ms(k) * kMargin;
    return best;
}

// The last length, unless another one promises more than the margin.
int DraftLength::steady_best() const {
    const int k = best_draft();
    const bool stays =
        last_ > 0 && n_expected_ == 0 && tokens_per_ms(k) < kMargin * tokens_per_ms(last_);
    return stays ? last_ : k;
}

const char* DraftLength::why_not() const {
    return paused_ ? "drafting would not pay off at the measured acceptance"
                   : "a first draft would cost more than is staked on it so far";
}

int DraftLength::choose() {
    rounds_++;
    // Drafts of the text are worth a round also where the drafter's are not.
    if (n_expected_ > 0 && verify_.n(1) > 0)
        if (const int k = best(); k > 0) return k;
    if (paused_) {
        if (++plain_rounds_ < retry_after_) return 0;
        plain_rounds_ = 0;
        retry_after_ = std::min(2 * retry_after_, int(kRetryMost));
        // One round, to see whether things have changed.
        return best_draft();
    }
    // The time of plain decoding must be known: every comparison needs it. One may be an outlier.
    if (verify_.n(1) < 2 && rounds_ == 2 + 3 * verify_.n(1)) return 0;
    const int k = best();
    if (k > 0) return last_ = k, look(k);
    // Measures short drafts instead of guessing them from longer ones. The number of tries is
    // bounded, because a drafter may return fewer tokens than asked.
    for (int n = 1; n <= kTriedBeforePause && trials_ < 2 * kTriedBeforePause; n++)
        if (verify_.n(1 + n) == 0) return trials_++, n;
    paused_ = true, plain_rounds_ = 0;
    return 0;
}

// What a round of so many drafts is expected to lose on one of the best length, in ms.
double DraftLength::loss_of(int k) const {
    const double best = tokens_per_ms(last_);
    return (verify_cost(1 + k) + draft_cost(k)) * std::max(0.0, 1 - tokens_per_ms(k) / best);
}

// The chosen length, or the one whose time is most out of date, as soon as the purse pays for it.
int DraftLength::look(int k) {
    int oldest = k;
    double most = 1;
    for (const int other : {0, k + 1, k - 1}) {
        if (other > kMax || loss_of(other) > kPurse * verify_cost(1)) continue;
        const int n = verify_.n(1 + other);
        const int fresh = std::min(kFreshMost, kFreshFirst << std::min(n, 8));
        const double age = double(verify_.age(1 + other)) / fresh;
        if (age > most) oldest = other, most = age;
    }
    if (loss_of(oldest) > purse_) return k;
    purse_ -= loss_of(oldest);
    return oldest;
}

void DraftLength::update(const Outcome& o) {
    const auto& [drafted, accepted, kept, rows, draft_ms, verify_ms, reading, looked_up] = o;
    if (share_ > 0) account(o);
    if (verify_.ms(1) == 0) purse_ = verify_ms;
    verify_.add(rows, verify_ms);
    purse_ = std::min(purse_ + kLookShare * verify_ms, kPurse * verify_cost(1));
    n_expected_ = 0;
    if (drafted == 0) return;
    if (reading.tokens > 0) read_per_token_.add(reading.ms / reading.tokens, kSmooth, kOutlier);
    // The reading yields the first draft.
    if (const int steps = drafted - (reading.tokens > 0); steps > 0 && looked_up == 0)
        draft_per_token_.add((draft_ms - reading.ms) / steps, kSmooth, kOutlier);
    count(drafted, accepted, looked_up);
    if (share_ == 0 && paused_ && best() > 0) paused_ = false, retry_after_ = kRetryFirst;
}

void DraftLength::count(int drafted, int accepted, int looked_up) {
    n_expected_ = 0;
    if (drafted <= looked_up) return;
    for (int i = 0; i < kMax; i++) hits_[i] *= kForget, tries_[i] *= kForget;
    for (int i = looked_up; i < drafted && i <= accepted; i++) {
        tries_[i]++;
        if (i < accepted) hits_[i]++;
    }
}

// ---- drafters that read the text ----

// In plain tokens.
double DraftLength::read_cost(int tokens) const {
    if (tokens <= kCaughtUp) return 0;  // a draft step reads these
    return tokens * (read_per_token_.n > 0 ? read_per_token_.ms / plain_.ms : kReadGuess * share_);
}

// Loss of a round whose drafts are all wrong, in plain tokens.
double DraftLength::worst_loss(int k) const {
    const double plain = plain_.ms;
    const double row =
        verify_.n(2) > 0 ? std::max(kRowGuess, verify_.ms(2) / plain - 1) : kRowGuess;
    const double run = verify_.n(1 + k) > 0 ? verify_.ms(1 + k) / plain : 1 + row * k;
    return std::max(0.0, run - 1) + draft_cost(k) / plain;
}

// Gain over the next kHorizon tokens at the best length, in plain tokens.
double DraftLength::expected_gain() const {
    return kHorizon * std::max(0.0, 1 - tokens_per_ms(0) / tokens_per_ms(best_draft()));
}

DraftLength::Choice DraftLength::choose(const Unread& unread) {
    if (unread.share == 0) return {choose(), INT_MAX};
    share_ = unread.share;
    rounds_++;
    // The time of a plain token comes first.
    if (plain_.ms == 0 || (plain_.n < kWarmUp && rounds_ <= kWarmUp)) return {};
    return in_use_ ? choose_in_use(unread) : choose_trial(unread);
}

// Most tokens that may be read for `purse`; 0: not even the least reading is affordable.
int DraftLength::window(const Unread& unread, double purse) const {
    if (read_cost(unread.all) <= purse) return INT_MAX;
    const int window = read_per_token_.n > 0 ? kWindow : kFirstWindow;
    return read_cost(std::min(unread.behind, window + 1)) <= purse ? window : 0;
}

void DraftLength::pause() {
    trial_ = {}, in_use_ = false, paused_ = true, plain_rounds_ = 0;
    if (is_hopeless())
        retry_after_ = std::clamp(8 * retry_after_, int(kRetryMost), 32 * kRetryMost);
}

DraftLength::Choice DraftLength::choose_in_use(const Unread& unread) {
    int k = best();
    if (k == 0 || budget_.is_overdrawn()) return pause(), Choice();
    // Tries a length that was measured too rarely to be judged, or only during an outlier.
    if (rounds_ % kLookRounds == 0 && k < kMax && verify_.n(k + 2) < kWarmUp) k++;
    // Reading the whole text instead of its end may use up to half of what drafts earned.
    double purse = std::max(0.0, budget_.balance() / 2);
    // A new text: drafts earn nothing before it is read.
    if (unread.behind > kCaughtUp) {
        const double advance = expected_gain() / 4;
        budget_.lend(advance);
        purse = std::max(0.0, budget_.balance()) + advance;
    }
    const int w = window(unread, purse);
    return {w > 0 ? k : 0, w};
}

DraftLength::Choice DraftLength::choose_trial(const Unread& unread) {
    if (trial_.rounds == 0 && paused_ && ++plain_rounds_ < retry_after_) return {};
    // Without a measured run of two rows, one draft shows its cost.
    for (int k = verify_.n(2) > 0 ? best_draft() : 1; k > 0; k--) {
        const int w = window(unread, budget_.balance() - worst_loss(k));
        if (w == 0) continue;
        if (trial_.rounds == 0) begin_trial();
        trial_.rounds++;
        return {k, w};
    }
    // The trial continues once the budget allows it.
    if (trial_.rounds > 0) pause();
    return {};
}

// True if even a draft without errors would not pay; only other costs could change that.
bool DraftLength::is_hopeless() const {
    for (int k = 1; k <= kMax; k++)
        if ((k + 1) * plain_.ms > kMargin * (verify_cost(1 + k) + draft_cost(k))) return false;
    return verify_.n(2) > 0;
}

// Earlier measurements count less: things may have changed since the last trial.
void DraftLength::begin_trial() {
    if (paused_ && retry_after_ < kRetryMost) retry_after_ *= 2;
    for (int i = 0; i < kMax; i++) {
        const double keep = std::min(1.0, kTrialMemory / std::max(tries_[i], 1e-9));
        hits_[i] *= keep, tries_[i] *= keep;
    }
}

void DraftLength::doubt_acceptance() {
    const double first = counted_acceptance(0);
    for (int i = 0; i < kMax; i++) {
        const double keep = std::min(1.0, kTrialMemory / std::max(tries_[i], 1e-9));
        hits_[i] *= keep, tries_[i] *= keep;
    }
    hits_[0] = first * (tries_[0] + kPrior) - kFirstGuess * kPrior;
}

void DraftLength::account(const Outcome& o) {
    const auto& [drafted, accepted, kept, rows, draft_ms, verify_ms, reading, looked_up] = o;
    const double plain = plain_.ms;
    budget_.wrote(accepted + 1);
    if (draft_ms == 0 && rows == 1) plain_.add(verify_ms, kSlow, kSlowOutlier);
    if (draft_ms == 0 || plain == 0) return;
    // Another process that took the machine for a moment would have taken it without drafts too.
    const auto charge = [&](double ms, int n_known, double expected_ms) {
        return (n_known >= kWarmUp ? std::min(ms, kSlowOutlier * expected_ms) : ms) / plain;
    };
    const double draft = charge(draft_ms - reading.ms, draft_per_token_.n, draft_cost(drafted));
    // The caller's rows behind the drafts do not count as the drafter's.
    const double own = rows > 1 + kept ? std::min(verify_ms, verify_cost(1 + kept)) : verify_ms;
    const double run = charge(own, verify_.n(1 + kept), verify_.ms(1 + kept));
    const double gain = accepted + 1 - draft - run;
    budget_.add(gain - charge(reading.ms, read_per_token_.n, reading.tokens * read_per_token_.ms));
    if (trial_.rounds > 0) update_trial(accepted, gain);
}

void DraftLength::update_trial(int accepted, double gain) {
    trial_.accepted += accepted, trial_.gain += gain;
    if (trial_.rounds < kTrialLeast) return;
    if (trial_.accepted > 0 && trial_.gain > kTrialMargin * trial_.rounds && best() > 0)
        trial_ = {}, in_use_ = true, paused_ = false, retry_after_ = kRetryFirst;
    else if (trial_.rounds >= kTrialMost || trial_.gain <= 0) pause();
}

}  // namespace pillion
