#include "backends/cpu/cpu_limits.h"

#include <chrono>

namespace pillion::cpu {
namespace {

// The buffer exceeds every cache; the pieces have the size of a decode step's chunks.
constexpr size_t kProbeBytes = 256u << 20, kPieceBytes = 1u << 20;
constexpr int64_t kPeakRounds = 20000;  // about half a millisecond
constexpr int kRepeats = 5;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

uint64_t sum_words(const uint64_t* words, size_t n) {
    uint64_t sum[8] = {};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += words[i + size_t(k)];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

}  // namespace

double measure_read(ThreadPool& pool, Buffer& buffer) {
    const int pieces = int(buffer.size() / kPieceBytes);
    uint8_t* bytes = buffer.host();
    const auto touch = [&](int piece, int) {
        for (size_t i = 0; i < kPieceBytes; i += 4096) bytes[size_t(piece) * kPieceBytes + i] = 1;
    };
    if (!pool.parallel_for(pieces, touch)) return 0;
    std::atomic<uint64_t> total{0};  // keeps the compiler from dropping the loops
    double best = 0;
    for (int i = 0; i < kRepeats; i++) {
        const double begin = seconds();
        const bool done = pool.parallel_for(pieces, [&](int piece, int) {
            total +=
                sum_words(reinterpret_cast<const uint64_t*>(bytes + size_t(piece) * kPieceBytes),
                          kPieceBytes / 8);
        });
        const double rate = double(pieces) * double(kPieceBytes) / (seconds() - begin);
        if (done && rate > best) best = rate;
    }
    return total.load() ? best : 0;
}

double measure_dots(ThreadPool& pool, const KernelTable& table) {
    if (!table.dot_peak) return 0;
    const int chunks = 8 * pool.n_threads();
    double best = 0;
    for (int i = 0; i < kRepeats; i++) {
        std::atomic<int64_t> count{0};
        const double begin = seconds();
        if (!pool.parallel_for(chunks, [&](int, int) { count += table.dot_peak(kPeakRounds); }))
            return 0;
        const double rate = double(count.load()) / (seconds() - begin);
        if (rate > best) best = rate;
    }
    return best;
}

size_t limits_probe_bytes() { return kProbeBytes; }

}  // namespace pillion::cpu
