// A frame is 320 samples under a Hann window, with zeros up to 512. Its 512 real values are the
// real and imaginary parts of 256 complex ones, whose transform holds that of the real ones.
#include "media/log_mel.h"

#include <math.h>

#include <vector>

#include "core/error.h"

namespace pillion {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kFrame = 320, kFft = 512, kHalf = kFft / 2, kBins = kHalf + 1;
constexpr double kFloor = 0.001;

double mel_of(double hertz) { return 2595.0 * log10(1.0 + hertz / 700.0); }
double hertz_of(double mel) { return 700.0 * (pow(10.0, mel / 2595.0) - 1.0); }

struct Filter {  // a triangle over the bins first, first + 1, ...
    int first = 0;
    std::vector<double> weights;
};

struct Tables {
    double window[kFrame];
    double cosine[kFft], sine[kFft];  // of -2 pi k / kFft
    int reversed[kHalf];              // the bits of an index in reverse order
    Filter filters[kMelBands];

    Tables() {
        for (int n = 0; n < kFrame; n++) window[n] = 0.5 - 0.5 * cos(2.0 * kPi * n / kFrame);
        for (int k = 0; k < kFft; k++) {
            cosine[k] = cos(2.0 * kPi * k / kFft);
            sine[k] = -sin(2.0 * kPi * k / kFft);
        }
        for (int i = 0, r = 0; i < kHalf; i++) {
            reversed[i] = r;
            int bit = kHalf / 2;
            for (; r & bit; bit /= 2) r ^= bit;
            r ^= bit;
        }
        const double step = mel_of(8000.0) / (kMelBands + 1);
        for (int band = 0; band < kMelBands; band++)
            filters[band] = triangle(hertz_of(step * band), hertz_of(step * (band + 1)),
                                     hertz_of(step * (band + 2)));
    }

    static Filter triangle(double low, double top, double high) {
        Filter f;
        for (int bin = 0; bin < kBins; bin++) {
            const double hertz = bin * (8000.0 / kHalf);
            const double w = fmin((hertz - low) / (top - low), (high - hertz) / (high - top));
            if (w <= 0.0) continue;
            if (f.weights.empty()) f.first = bin;
            f.weights.push_back(w);
        }
        return f;
    }
};

const Tables& tables() {
    static const Tables t;
    return t;
}

// The transform of kHalf complex numbers, which lie in the order of Tables::reversed: butterflies
// of 2, 4, ... numbers.
void transform(const Tables& t, double* re, double* im) {
    for (int half = 1; half < kHalf; half *= 2) {
        const int step = kFft / (2 * half);
        for (int begin = 0; begin < kHalf; begin += 2 * half)
            for (int k = 0; k < half; k++) {
                const int a = begin + k, b = a + half;
                const double c = t.cosine[k * step], s = t.sine[k * step];
                const double x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
                re[b] = re[a] - x, im[b] = im[a] - y;
                re[a] += x, im[a] += y;
            }
    }
}

// |X[k]| of kFft real numbers x, of which the even ones became re and the odd ones im. With
// Z = transform(re + i im): X[k] = (Z[k] + Z*[-k]) / 2 - i/2 w^k (Z[k] - Z*[-k]).
void magnitudes(const Tables& t, const double* re, const double* im, double* out) {
    for (int k = 0; k < kBins; k++) {
        const int a = k % kHalf, b = (kHalf - k) % kHalf;
        const double even_re = 0.5 * (re[a] + re[b]), even_im = 0.5 * (im[a] - im[b]);
        const double odd_re = 0.5 * (im[a] + im[b]), odd_im = 0.5 * (re[b] - re[a]);
        const double c = t.cosine[k], s = t.sine[k];
        const double x = even_re + odd_re * c - odd_im * s, y = even_im + odd_re * s + odd_im * c;
        out[k] = sqrt(x * x + y * y);
    }
}

}  // namespace

int64_t log_mel_frames(int64_t n_samples) {
    return n_samples < kMelHop + 1 ? 0 : (n_samples - (kMelHop + 1)) / kMelHop + 1;
}

void check_samples(const float* samples, int64_t n_samples) {
    for (int64_t i = 0; i < n_samples; i++)
        if (!isfinite(samples[i]))
            fail(Status::invalid_argument, "sample %lld of the sound is %g: samples are finite",
                 (long long)i, double(samples[i]));
}

void log_mel(const float* samples, int64_t n_samples, int64_t begin, int64_t end, float* out) {
    const Tables& t = tables();
    double re[kHalf], im[kHalf], spectrum[kBins];
    for (int64_t frame = begin; frame < end; frame++, out += kMelBands) {
        const int64_t first = (frame - 1) * kMelHop;  // the sound begins behind kMelHop zeros
        for (int n = 0; n < kHalf; n++) {
            const auto value = [&](int i) {
                const int64_t at = first + i;
                return i < kFrame && at >= 0 && at < n_samples ? t.window[i] * double(samples[at])
                                                               : 0.0;
            };
            re[t.reversed[n]] = value(2 * n), im[t.reversed[n]] = value(2 * n + 1);
        }
        transform(t, re, im);
        magnitudes(t, re, im, spectrum);
        for (int band = 0; band < kMelBands; band++) {
            const Filter& f = t.filters[band];
            double sum = kFloor;
            for (size_t i = 0; i < f.weights.size(); i++)
                sum += f.weights[i] * spectrum[size_t(f.first) + i];
            out[band] = float(log(sum));
        }
    }
}

}  // namespace pillion
