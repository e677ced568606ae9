// Two passes, along the rows and then along the columns, each rounded to bytes; a pass that changes
// nothing is left out. Weights are integers of 22 bits behind the point, as in Pillow.
//
// Both passes are one kernel, `weigh`: a weighted sum of lines of bytes. Along the columns the
// lines are rows of the image. Along the rows they are the pixels of kRows rows at one x, which are
// put beside each other first. The second pass follows the first closely, so that what lies between
// them stays in a cache and takes memory for a few rows only.
#include "media/resize.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pillion {
namespace {

constexpr int kBits = 22, kLowBits = 11;

// A weight w in two halves of 16 bits, w = high * 2^kLowBits + low: products with bytes then fit
// the multiply-add of 16-bit pairs that every x86 has. The sums wrap around, and so does their sum.
struct Weight { int16_t low, high; };

// Which inputs an output of one axis is a sum of.
struct Axis {
    struct Span { int64_t first, count, weights; };
    std::vector<Span> spans;  // of each output
    std::vector<Weight> weights;
    const Weight* of(const Span& s) const { return &weights[size_t(s.weights)]; }
};

double cubic(double x) {  // Keys' kernel, a = -1/2
    x = fabs(x);
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

Weight to_weight(double w) {
    const int32_t fixed = int32_t(w * (1 << kBits) + (w < 0 ? -0.5 : 0.5));
    const int32_t high = fixed >> kLowBits;
    return {int16_t(fixed - (high << kLowBits)), int16_t(high)};
}

Axis make_axis(int64_t n_in, int64_t n_out) {
    const double scale = double(n_in) / double(n_out), stretch = std::max(scale, 1.0),
                 support = 2.0 * stretch, per_tap = 1.0 / stretch;
    Axis axis;
    std::vector<double> taps;
    for (int64_t i = 0; i < n_out; i++) {
        const double center = (double(i) + 0.5) * scale;
        const int64_t first = std::max<int64_t>(0, int64_t(center - support + 0.5)),
                      end = std::min<int64_t>(n_in, int64_t(center + support + 0.5));
        double sum = 0.0;
        taps.clear();
        for (int64_t x = first; x < end; x++) {
            taps.push_back(cubic((double(x) - center + 0.5) * per_tap));
            sum += taps.back();
        }
        axis.spans.push_back({first, end - first, int64_t(axis.weights.size())});
        for (const double w : taps) axis.weights.push_back(to_weight(sum != 0.0 ? w / sum : w));
    }
    return axis;
}

uint8_t to_byte(int32_t sum) {
    const int32_t v = (sum + (1 << (kBits - 1))) >> kBits;
    return uint8_t(v < 0 ? 0 : v > 255 ? 255 : v);
}

void weigh_plain(const uint8_t* lines, int64_t stride, const Weight* w, int64_t n, uint8_t* out,
                 int64_t width) {
    for (int64_t i = 0; i < width; i++) {
        uint32_t high = 0, low = 0;
        for (int64_t t = 0; t < n; t++) {
            const int32_t v = lines[t * stride + i];
            high += uint32_t(w[t].high * v), low += uint32_t(w[t].low * v);
        }
        out[i] = to_byte(int32_t((high << kLowBits) + low));
    }
}

#if defined(__SSE2__)
__m128i pair_of(const int16_t a, const int16_t b) {
    return _mm_set1_epi32(int32_t(uint16_t(a)) | int32_t(uint32_t(uint16_t(b)) << 16));
}

// 16 columns of weigh.
void weigh_16(const uint8_t* lines, int64_t stride, const Weight* w, int64_t n, uint8_t* out) {
    const __m128i zero = _mm_setzero_si128();
    __m128i high[4] = {zero, zero, zero, zero}, low[4] = {zero, zero, zero, zero};
    for (int64_t t = 0; t < n; t += 2, lines += 2 * stride) {
        const bool two = t + 1 < n;
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lines)),
                      b = two ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(lines + stride))
                              : zero;
        const __m128i by_high = pair_of(w[t].high, two ? w[t + 1].high : int16_t(0)),
                      by_low = pair_of(w[t].low, two ? w[t + 1].low : int16_t(0));
        const __m128i first = _mm_unpacklo_epi8(a, b), second = _mm_unpackhi_epi8(a, b);
        const __m128i pairs[4] = {_mm_unpacklo_epi8(first, zero), _mm_unpackhi_epi8(first, zero),
                                  _mm_unpacklo_epi8(second, zero), _mm_unpackhi_epi8(second, zero)};
        for (int k = 0; k < 4; k++) {
            high[k] = _mm_add_epi32(high[k], _mm_madd_epi16(pairs[k], by_high));
            low[k] = _mm_add_epi32(low[k], _mm_madd_epi16(pairs[k], by_low));
        }
    }
    const __m128i half = _mm_set1_epi32(1 << (kBits - 1));
    for (int k = 0; k < 4; k++) {
        const __m128i sum = _mm_add_epi32(_mm_slli_epi32(high[k], kLowBits), low[k]);
        low[k] = _mm_srai_epi32(_mm_add_epi32(sum, half), kBits);
    }
    const __m128i words[2] = {_mm_packs_epi32(low[0], low[1]), _mm_packs_epi32(low[2], low[3])};
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words[0], words[1]));
}
#endif

// out[i] = the byte of the sum of w[t] * lines[t * stride + i] over n lines, for i < width.
void weigh(const uint8_t* lines, int64_t stride, const Weight* w, int64_t n, uint8_t* out,
           int64_t width) {
    int64_t i = 0;
#if defined(__SSE2__)
    for (; i + 16 <= width; i += 16) weigh_16(lines + i, stride, w, n, out + i);
#endif
    weigh_plain(lines + i, stride, w, n, out + i, width - i);
}

// ---- along the rows ----

constexpr int kRows = 16, kColumn = 3 * kRows;  // bytes of kRows pixels above each other

// The same x of kRows rows beside each other: to[x][row][3]. rows below kRows: the rest stays.
void put_beside(const uint8_t* rgb, int64_t width, int rows, uint8_t* to) {
    for (int64_t x = 0; x < width; x++)
        for (int r = 0; r < rows; r++)
            memcpy(to + x * kColumn + 3 * r, rgb + (r * width + x) * 3, 3);
}

// `rows` rows of the image, stretched to out [rows, out_width, 3].
void stretch_rows(const uint8_t* rgb, int64_t width, int rows, const Axis& axis, uint8_t* columns,
                  uint8_t* out) {
    const int64_t out_width = int64_t(axis.spans.size());
    put_beside(rgb, width, rows, columns);
    uint8_t column[kColumn];
    for (int64_t x = 0; x < out_width; x++) {
        const Axis::Span& s = axis.spans[size_t(x)];
        weigh(columns + s.first * kColumn, kColumn, axis.of(s), s.count, column, kColumn);
        for (int r = 0; r < rows; r++) memcpy(out + (r * out_width + x) * 3, column + 3 * r, 3);
    }
}

// Rows of the image after the first pass, as far as the second needs them at a time.
class Window {
  public:
    Window(const uint8_t* rgb, int64_t height, int64_t width, int64_t out_width)
        : rgb_(rgb), height_(height), width_(width), out_width_(out_width),
          line_(size_t(out_width) * 3) {
        if (width == out_width) return;
        axis_ = make_axis(width, out_width);
        columns_.resize(size_t(width) * kColumn);
    }

    // Rows first .. end - 1, one behind the other, until the next call. Neither may go down.
    const uint8_t* rows(int64_t first, int64_t end) {
        if (width_ == out_width_) return rgb_ + size_t(first) * line_;
        if (first > begin_) {  // forget what lies before, when that is half of what there is
            const size_t gone = size_t(std::min(first, end_) - begin_) * line_;
            if (2 * gone >= size_t(end_ - begin_) * line_) {
                memmove(lines_.data(), lines_.data() + gone, size_t(end_ - begin_) * line_ - gone);
                begin_ = std::min(first, end_);
                if (begin_ == end_) begin_ = end_ = first;
            }
        }
        while (end_ < end) {
            const int n = int(std::min<int64_t>(kRows, height_ - end_));
            const size_t at = size_t(end_ - begin_) * line_;
            if (lines_.size() < at + size_t(n) * line_) lines_.resize(at + size_t(n) * line_);
            stretch_rows(rgb_ + size_t(end_ * width_) * 3, width_, n, axis_, columns_.data(),
                         lines_.data() + at);
            end_ += n;
        }
        return lines_.data() + size_t(first - begin_) * line_;
    }

  private:
    const uint8_t* rgb_;
    int64_t height_, width_, out_width_;
    size_t line_;
    Axis axis_;
    std::vector<uint8_t> columns_, lines_;
    int64_t begin_ = 0, end_ = 0;  // the rows that lines_ holds
};

void check_size(const char* name, int64_t height, int64_t width) {
    if (height < 1 || width < 1 || height > kImageSideMax || width > kImageSideMax)
        fail(Status::invalid_argument, "%s of %lld x %lld pixels: a side has 1 to %lld", name,
             (long long)height, (long long)width, (long long)kImageSideMax);
    if (height * width > kImagePixelsMax)
        fail(Status::invalid_argument, "%s of %lld x %lld pixels: it has at most %lld in all", name,
             (long long)height, (long long)width, (long long)kImagePixelsMax);
}

}  // namespace

void resize_bicubic(const uint8_t* rgb, int64_t height, int64_t width, int64_t out_height,
                    int64_t out_width, uint8_t* out) {
    check_size("an image", height, width);
    check_size("a resized image", out_height, out_width);
    Window window(rgb, height, width, out_width);
    const int64_t line = out_width * 3;
    if (height == out_height) {
        for (int64_t y = 0; y < height; y++)
            memcpy(out + y * line, window.rows(y, y + 1), size_t(line));
        return;
    }
    const Axis axis = make_axis(height, out_height);
    for (int64_t y = 0; y < out_height; y++) {
        const Axis::Span& s = axis.spans[size_t(y)];
        weigh(window.rows(s.first, s.first + s.count), line, axis.of(s), s.count, out + y * line,
              line);
    }
}

}  // namespace pillion
