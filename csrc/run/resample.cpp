// rate_out / rate_in = up / down in lowest terms. Output i stands at input i * down / up, so the
// filter's phases repeat every `up` outputs: a table has their taps.
#include "run/resample.h"

#include <math.h>
#include <stdint.h>

#include <algorithm>
#include <numeric>

namespace pillion::run {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kCrossings = 64;
// Kaiser's formulas for 100 dB: the window's shape, and the width of the step in parts of half a
// rate, (100 - 8) / (2.285 * pi * 2 * kCrossings) = 0.1.
constexpr double kBeta = 0.1102 * (100.0 - 8.7), kStep = 0.1;

double bessel_i0(double x) {
    double sum = 1.0, term = 1.0;
    for (int k = 1; term > 1e-16 * sum; k++) term *= x * x / (4.0 * k * k), sum += term;
    return sum;
}

// At x zero crossings from the middle.
double kernel(double x) {
    static const double whole = bessel_i0(kBeta);
    const double edge = x / kCrossings, cut = 1.0 - kStep / 2.0;
    if (fabs(edge) >= 1.0) return 0.0;
    const double sinc = x == 0.0 ? cut : sin(kPi * cut * x) / (kPi * x);
    return sinc * bessel_i0(kBeta * sqrt(1.0 - edge * edge)) / whole;
}

}  // namespace

std::vector<float> resample(const std::vector<float>& samples, int rate_in, int rate_out) {
    if (rate_in == rate_out) return samples;
    const int64_t common = std::gcd(rate_in, rate_out), up = rate_out / common,
                  down = rate_in / common, n = int64_t(samples.size());
    // A lower rate's zero crossings lie further apart.
    const double stretch = std::max(1.0, double(down) / double(up));
    const int64_t reach = int64_t(ceil(kCrossings * stretch)), taps = 2 * reach + 1;
    std::vector<float> filter(size_t(up * taps));
    for (int64_t phase = 0; phase < up; phase++)
        for (int64_t t = 0; t < taps; t++) {
            const double from_middle = double(t - reach) - double(phase) / double(up);
            filter[size_t(phase * taps + t)] = float(kernel(from_middle / stretch) / stretch);
        }
    std::vector<float> out(size_t((n * up + down - 1) / down));
    for (int64_t i = 0; i < int64_t(out.size()); i++) {
        const int64_t at = i * down / up - reach;
        const float* w = &filter[size_t(i * down % up * taps)];
        double sum = 0.0;
        for (int64_t t = std::max<int64_t>(0, -at); t < taps && at + t < n; t++)
            sum += double(w[t]) * double(samples[size_t(at + t)]);
        out[size_t(i)] = float(sum);
    }
    return out;
}

}  // namespace pillion::run
