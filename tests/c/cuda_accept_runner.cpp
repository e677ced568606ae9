// The accept kernel against the plain definition: every count of drafts, every number of right ones, right ones after a
// wrong one, drafts in place, counts that are out of range. In the emulation in every order of threads. tests/ops/test_cuda_memory.py.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <random>
#include <vector>

#include "backends/cuda/device/host.h"
#include "backends/cuda/kernels/ops.h"

using namespace pillion::cuda;
constexpr int kMax = PILLION_STEP_TOKENS_MAX;

static int cases = 0, failures = 0;

struct Round {
    int count;                            // as the state says
    std::vector<int32_t> drafts, picks;
    int width;
    bool in_place;
};

static void run(const Round& r, unsigned seed) {
    const int n = std::min(std::max(r.count, 0), kMax - 1);
    std::mt19937 rng(seed);
    std::vector<float> hidden(size_t(n + 1) * size_t(r.width));
    for (float& x : hidden) x = float(rng()) * 1e-3f;
    PillionStepState state;
    memset(&state, 0x5A, sizeof state);
    state.draft_count = r.count;
    if (r.in_place) std::copy(r.drafts.begin(), r.drafts.end(), state.tokens + 1);

    PillionStepState want = state;
    int m = 0;
    while (m < n && r.drafts[size_t(m)] == r.picks[size_t(m)]) m++;
    want.accepted = want.hidden_row = m;
    std::copy(r.picks.begin(), r.picks.begin() + m + 1, want.tokens);

    // Exact sizes: the emulation's sanitizer build sees what is read beyond them.
    Buffer<PillionStepState> device(std::vector<PillionStepState>{state});
    Buffer<int32_t> drafts(r.drafts), picks(r.picks);
    Buffer<float> rows(hidden), row(size_t(r.width) + 1);
    accept({r.in_place ? device.get()->tokens + 1 : drafts.get(), picks.get(), rows.get(), row.get(), r.width, device.get()}, nullptr);

    const PillionStepState got = device.host()[0];
    const std::vector<float> out = row.host();
    const bool same_row = memcmp(out.data(), hidden.data() + size_t(m) * size_t(r.width), size_t(r.width) * 4) == 0;
    const bool untouched = out[size_t(r.width)] != out[size_t(r.width)];    // NaN beyond the row
    cases++;
    if (memcmp(&got, &want, sizeof got) == 0 && same_row && untouched) return;
    failures++;
    printf("FAILED: %d drafts, %d right, width %d%s: accepted %d, row %d\n", r.count, m, r.width, r.in_place ? ", in place" : "", got.accepted,
           got.hidden_row);
}

static void all(std::mt19937& rng) {
    for (int n = 0; n < kMax; n++)
        for (int right = 0; right <= n; right++)
            for (const bool in_place : {false, true}) {
                Round r = {n, {}, {}, (n * 37 + right) % 5 == 0 ? 256 : 1 + int(rng() % 700), in_place};
                for (int i = 0; i <= n; i++) r.picks.push_back(int32_t(rng() % 262144));
                r.drafts.assign(r.picks.begin(), r.picks.begin() + n);
                if (right < n) r.drafts[size_t(right)] ^= 1;    // those behind it are right again, and must not count
                run(r, rng());
            }
}

int main() {
    std::mt19937 rng(11);
#ifdef __CUDACC__
    all(rng);
#else
    for (const auto order : {sim::Order::forward, sim::Order::reverse, sim::Order::shuffled, sim::Order::greedy}) {
        sim::config().order = order;
        all(rng);
    }
#endif
    for (const int count : {-1, kMax, 1000}) {
        Round r = {count, {}, {}, 33, false};
        const int n = std::min(std::max(count, 0), kMax - 1);
        r.picks.assign(size_t(n) + 1, 7), r.drafts.assign(size_t(n), 7);
        run(r, 1);
    }
    printf("%d cases, %d failures\n", cases, failures);
    return failures ? 1 : 0;
}
