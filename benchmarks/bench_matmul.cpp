// Matmul kernels and packer of the CPU backend, one thread, no other part of the library.
//
//   bench_matmul probe                        clock, read bandwidth, int8 peak
//   bench_matmul few      [name=value ...]    1..9 columns: GB/s of weights, share of read
//                         bandwidth, cost against one column
//   bench_matmul many     [name=value ...]    tiles of columns: GOPS and share of int8 peak
//   bench_matmul rows     [name=value ...]    1..32 columns, one line each: ms, share of int8 peak
//                         and of read bandwidth, spread; weights from memory
//   bench_matmul pack     [name=value ...]    file bytes per second
//   bench_matmul quantize [name=value ...]    floats per second
//
// name=value: isa=x86_avx512 format=Q4_0,Q8_0 (default: all) columns=1,2,4 rows=12288 inputs=1536
// mb=640 (weights cycled through)
//             reps=15 prefetch= (default: the table's) few=-1 (largest number of columns for the
//             matvec kernel; the table's) group=-1 (columns of a group of matvec; the table's)
//             4k=0 (1: small pages)
//
// Build: cmake -DPILLION_BENCHMARKS=ON. Run pinned: taskset -c 0. The read
// probe is interleaved with every repetition, so that a busy neighbour hits both; shares compare
// best with best, and medians with medians.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/kernel_table.h"
#include "backends/cpu/lane_pack.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pillion::cpu {
namespace generic {
void fill_matmul(KernelTable&);
}
namespace x86_avx2 {
void fill_matmul(KernelTable&);
}
namespace x86_avx_vnni {
void fill_matmul(KernelTable&);
}
namespace x86_avx512 {
void fill_matmul(KernelTable&);
}
namespace arm_dotprod {
void fill_matmul(KernelTable&);
}
namespace arm_i8mm {
void fill_matmul(KernelTable&);
}
}  // namespace pillion::cpu

using namespace pillion;
using namespace pillion::cpu;

namespace {

// This thread's time on a CPU, so that others on the same CPU cost cache and bandwidth only.
double now() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}
double least(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

std::map<std::string, std::string> g_options = {
    {"isa", ""},        {"format", ""}, {"columns", ""}, {"rows", "12288"},
    {"inputs", "1536"}, {"mb", "640"},  {"reps", "15"},  {"prefetch", ""},
    {"few", "-1"},      {"4k", "0"},    {"group", "-1"}};
int option(const char* name) { return atoi(g_options[name].c_str()); }
std::vector<std::string> list_option(const char* name) {
    std::vector<std::string> v;
    std::string s = g_options[name];
    for (size_t at = 0; !s.empty() && at != std::string::npos;) {
        const size_t comma = s.find(',', at);
        v.push_back(s.substr(at, comma == std::string::npos ? comma : comma - at));
        at = comma == std::string::npos ? comma : comma + 1;
    }
    return v;
}

const char* const kNames[kFormats] = {"F32",     "F16",     "BF16",      "Q4_0",    "Q4_1",
                                      "Q5_0",    "Q5_1",    "Q8_0",      "Q2_K",    "Q3_K",
                                      "Q4_K",    "Q5_K",    "Q6_K",      "IQ4_NL",  "IQ4_XS",
                                      "MXFP4_X", "NVFP4_X", "IQ3_XXS_X", "IQ3_S_X", "IQ2_X",
                                      "IQ1_X",   "TQ2_0"};
std::vector<Format> formats() {
    std::vector<Format> v;
    const std::vector<std::string> wanted = list_option("format");
    for (int f = 0; f < kFormats; f++)
        if (wanted.empty() || std::find(wanted.begin(), wanted.end(), kNames[f]) != wanted.end())
            v.push_back(Format(f));
    return v;
}
std::vector<int> columns_or(std::vector<int> fallback) {
    std::vector<int> v;
    for (const std::string& s : list_option("columns")) v.push_back(atoi(s.c_str()));
    return v.empty() ? fallback : v;
}

KernelTable table() {
    KernelTable t = {};
    std::string isa = g_options["isa"];
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa.empty())
        isa = __builtin_cpu_supports("avx512vnni") ? "x86_avx512"
              : __builtin_cpu_supports("avx2")     ? "x86_avx2"
                                                   : "generic";
    if (isa == "x86_avx512") x86_avx512::fill_matmul(t);
    if (isa == "x86_avx_vnni") x86_avx_vnni::fill_matmul(t);
    if (isa == "x86_avx2") x86_avx2::fill_matmul(t);
#elif defined(__aarch64__)
    if (isa.empty()) isa = "arm_dotprod";
    if (isa == "arm_dotprod") arm_dotprod::fill_matmul(t);
    if (isa == "arm_i8mm") arm_i8mm::fill_matmul(t);
#endif
    if (isa == "generic") generic::fill_matmul(t);
    if (!t.quantize) printf("no table %s\n", isa.c_str()), exit(1);
    if (!g_options["prefetch"].empty()) t.prefetch = option("prefetch");
    if (option("few") >= 0) t.matvec_most = option("few");
    if (option("group") >= 0)
        for (int f = int(Format::bf16) + 1; f < kFormats; f++)
            t.matvec_group[f] = {option("group"), option("group") > 0 ? kMatmulMax : 0};
    g_options["isa"] = isa;
    return t;
}

// ---- probes ----

double clock_ghz() {
#if defined(__x86_64__)
    double best = 1e9;
    for (int t = 0; t < 20; t++) {
        const double t0 = now();
        uint64_t x = 1, n = 200000;
        asm volatile("1:\n\t.rept 20\n\tadd %0, %0\n\t.endr\n\tdec %1\n\tjnz 1b"
                     : "+r"(x), "+r"(n)::"cc");  // dependent, a cycle each
        best = std::min(best, now() - t0);
    }
    return 200000 * 20 / best * 1e-9;
#else
    return 0;
#endif
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) uint64_t read_all(const uint8_t* p, size_t bytes, int prefetch) {
    __m256i sum[4] = {};
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        if (prefetch)
            for (int k = 0; k < 256; k += 64)
                _mm_prefetch(reinterpret_cast<const char*>(p) + i + k + prefetch, _MM_HINT_T0);
        for (int k = 0; k < 8; k++)
            sum[k % 4] = _mm256_xor_si256(
                sum[k % 4], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i + 32 * k)));
    }
    const __m256i all =
        _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return uint64_t(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 1) ^
                    _mm256_extract_epi64(all, 2) ^ _mm256_extract_epi64(all, 3));
}
#else
uint64_t read_all(const uint8_t* p, size_t bytes, int) {
    uint64_t sum[8] = {};
    for (size_t i = 0; i + 64 <= bytes; i += 64)
        for (int k = 0; k < 8; k++) {
            uint64_t v;
            memcpy(&v, p + i + 8 * k, 8);
            sum[k] ^= v;
        }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
#endif

// Seconds of one read; the best of some prefetch distances is the reference.
double read_seconds(const uint8_t* p, size_t bytes, int prefetch) {
    static volatile uint64_t sink;
    const double t0 = now();
    sink = sink ^ read_all(p, bytes, prefetch);
    return now() - t0;
}

// GOPS (a multiply and an add are two) of 12 independent chains in named registers: registers left
// to the compiler would measure its spills. The 8-bit products of the table's own instruction, sums
// of vpmaddubsw kept in 16 bits.
#if defined(__x86_64__)
#define TURNS(BODY)                                                                                \
    asm volatile("1:\n\t.irp k,0,1,2,3,4,5,6,7,8,9,10,11\n\t" BODY "\n\t.endr\n\tdec %0\n\tjnz 1b" \
                 : "+r"(n)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",  \
                   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
__attribute__((target("avx2"))) double int8_peak(bool avx512) {
    double best = 1e9;
    for (int t = 0; t < 15; t++) {
        uint64_t n = 100000;
        const double t0 = now();
        if (avx512) TURNS("vpdpbusd %%zmm14, %%zmm15, %%zmm\\k");
        else TURNS("vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n\tvpaddw %%ymm13, %%ymm\\k, %%ymm\\k");
        best = std::min(best, now() - t0);
    }
    return 2e-9 * 100000 * 12 * (avx512 ? 64 : 32) / best;
}
#else
double int8_peak(bool) { return 0; }
#endif

// ---- arena ----

struct Arena {
    uint8_t* data;
    size_t bytes;
    explicit Arena(size_t n, bool huge = true) : bytes((n + (2 << 20)) >> 21 << 21) {
        uint8_t* raw =
            static_cast<uint8_t*>(mmap(nullptr, bytes + (2 << 20), PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        data = reinterpret_cast<uint8_t*>((uintptr_t(raw) + (2 << 20) - 1) &
                                          ~uintptr_t((2 << 20) - 1));
        madvise(data, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        uint64_t x = 1;
        for (size_t i = 0; i < bytes;
             i +=
             8) {  // a number of any format; every f16, bf16 and f32 is finite and of middling size
            x = x * 6364136223846793005ull + 1442695040888963407ull;
            const uint64_t v = ((x ^ x >> 29) & 0x1B1B1B1B1B1B1B1Bull) |
                               0x2020202020202020ull;  // no subnormal bf16
            memcpy(data + i, &v, 8);
        }
    }
};

struct Columns {
    std::vector<float> x;
    std::vector<const float*> x_of;
    std::vector<ActBlock> act;
    std::vector<float> out;
    std::vector<float*> out_of;
    Columns(const KernelTable& t, int columns, int inputs, int rows)
        : x(size_t(columns) * inputs), act(size_t(inputs / 32) * columns),
          out(size_t(columns) * (rows + 32)) {
        for (size_t i = 0; i < x.size(); i++)
            x[i] = float(int(i * 2654435761u >> 16 & 1023) - 512) / 512.0f;
        for (int c = 0; c < columns; c++) {
            t.quantize(&x[size_t(c) * inputs], inputs, act.data() + c, columns);
            x_of.push_back(&x[size_t(c) * inputs]);
            out_of.push_back(&out[size_t(c) * (rows + 32)]);  // 32 more: strides of whole pages
                                                              // would meet in two cache sets
        }
    }
};

void run_matmul(const KernelTable& t, Format f, const uint8_t* weights, int rows, int inputs,
                int columns, Columns& c) {
    const PackedMatrix m = {weights, f, rows, inputs, panel_bytes(f, inputs)};
    multiply(t, m, 0, m.n_panels(), c.act.data(), c.x_of.data(), columns, c.out_of.data());
}

void sweep(bool many) {
    const KernelTable t = table();
    const int rows = option("rows"), inputs = option("inputs"), reps = option("reps");
    const Arena arena(size_t(option("mb")) << 20, !option("4k"));
    int read_prefetch = 0;
    double best = 1e9;
    for (int p : {0, 1024, 4096, 8192})
        for (int i = 0; i < 3; i++) {
            const double s = read_seconds(arena.data, arena.bytes, p);
            if (s < best) best = s, read_prefetch = p;
        }
    const double peak = int8_peak(g_options["isa"] == "x86_avx512");
    printf("%s, %d -> %d, %.2f GHz, read %.1f GB/s (prefetch %d), int8 peak %.0f GOPS\n",
           g_options["isa"].c_str(), inputs, rows, clock_ghz(), arena.bytes / best * 1e-9,
           read_prefetch, peak);
    const std::vector<int> columns =
        columns_or(many ? std::vector<int>{16, 64, 128} : std::vector<int>{1, 2, 4, 5, 8, 9});
    for (const Format f : formats()) {
        const size_t bytes = packed_bytes(f, rows, inputs);
        const int matrices =
            std::max(1, many ? std::min(2, int(arena.bytes / bytes)) : int(arena.bytes / bytes));
        std::vector<Columns> data;
        for (int c : columns) data.emplace_back(t, c, inputs, rows);
        std::vector<double> read, samples[64];
        for (int r = 0; r < reps; r++) {
            if (!many)
                read.push_back(read_seconds(arena.data, arena.bytes, read_prefetch) / arena.bytes);
            for (size_t i = 0; i < columns.size(); i++) {
                const double t0 = now();
                for (int m = 0; m < matrices; m++)
                    run_matmul(t, f, arena.data + m * bytes, rows, inputs, columns[i], data[i]);
                samples[i].push_back((now() - t0) / matrices);
            }
        }
        printf("%-7s", kNames[int(f)]);
        if (!many) printf("read %4.1f (median %4.1f)", 1e-9 / least(read), 1e-9 / median(read));
        for (size_t i = 0; i < columns.size(); i++) {
            const double fast = least(samples[i]), mid = median(samples[i]);
            if (many) {
                const double gops = 2e-9 * columns[i] * rows * inputs;
                printf(" | %3d: %5.0f GOPS %3.0f%% (%3.0f%%)", columns[i], gops / fast,
                       100 * gops / fast / peak, 100 * gops / mid / peak);
            } else {
                printf(" | %d: %4.1f %3.0f%% x%.2f (%3.0f%% x%.2f)", columns[i],
                       bytes * 1e-9 / fast, 100 * least(read) * bytes / fast,
                       fast / least(samples[0]), 100 * median(read) * bytes / mid,
                       mid / median(samples[0]));
            }
        }
        printf("\n");
        fflush(stdout);
    }
}

// Each repetition times every count of columns once, so that a busy neighbour hits all of them.
void rows_bench() {
    const KernelTable t = table();
    const int rows = option("rows"), inputs = option("inputs"), reps = option("reps");
    const Arena arena(size_t(option("mb")) << 20, !option("4k"));
    std::vector<int> all(32);
    for (int i = 0; i < 32; i++) all[size_t(i)] = i + 1;
    const std::vector<int> columns = columns_or(all);
    const bool avx512 = g_options["isa"] == "x86_avx512";
    printf("%s, %d -> %d, %.2f GHz\n", g_options["isa"].c_str(), inputs, rows, clock_ghz());
    for (const Format f : formats()) {
        const size_t bytes = packed_bytes(f, rows, inputs);
        const int matrices = std::max(1, int(arena.bytes / bytes));
        std::vector<Columns> data;
        for (int c : columns) data.emplace_back(t, c, inputs, rows);
        std::vector<std::vector<double>> samples(columns.size());
        std::vector<double> read, peak;
        for (int r = 0; r < reps; r++) {
            read.push_back(read_seconds(arena.data, arena.bytes, 0) / arena.bytes);
            peak.push_back(int8_peak(avx512));
            for (size_t i = 0; i < columns.size(); i++) {
                const int m = (r * int(columns.size()) + int(i)) % matrices;
                const double t0 = now();
                run_matmul(t, f, arena.data + size_t(m) * bytes, rows, inputs, columns[i], data[i]);
                samples[i].push_back(now() - t0);
            }
        }
        printf("%s: read %.1f GB/s, int8 peak %.0f GOPS (medians)\n", kNames[int(f)],
               1e-9 / median(read), median(peak));
        for (size_t i = 0; i < columns.size(); i++) {
            const double mid = median(samples[i]), fast = least(samples[i]);
            const double slow = *std::max_element(samples[i].begin(), samples[i].end());
            const double gops = 2e-9 * columns[i] * rows * inputs;
            printf(
                "%3d: %7.3f ms, %3.0f%% of the peak (best %3.0f%%), %3.0f%% of the bandwidth, "
                "spread %.0f%%\n",
                columns[i], 1e3 * mid, 100 * gops / mid / median(peak),
                100 * gops / fast / median(peak), 100 * median(read) * bytes / mid,
                100 * (slow - fast) / mid);
        }
        fflush(stdout);
    }
}

void pack_bench() {
    const int rows = option("rows"), inputs = option("inputs");
    const Arena from(size_t(256) << 20), to(size_t(256) << 20);
    for (const Format f : formats()) {
        const size_t bytes = packed_bytes(f, rows, inputs);
        std::vector<double> s, row;
        std::vector<float> values(static_cast<size_t>(inputs));
        for (int r = 0; r < option("reps"); r++) {
            const size_t at = size_t(r) % std::max<size_t>(1, from.bytes / bytes) * bytes;
            const double t0 = now();
            pack_panels(f, from.data + at, rows, inputs, 0, rows / kPanel, to.data + at);
            const double t1 = now();
            for (int i = 0; i < 64; i++)
                unpack_row(f, to.data + at, i * 97 % rows, inputs, values.data());
            s.push_back(t1 - t0), row.push_back((now() - t1) / 64);
        }
        printf("%-7s pack %5.2f GB/s (median %5.2f)   unpack_row %6.2f us\n", kNames[int(f)],
               bytes * 1e-9 / least(s), bytes * 1e-9 / median(s), least(row) * 1e6);
    }
}

void quantize_bench() {
    const KernelTable t = table();
    const int inputs = option("inputs");
    for (int columns : columns_or({1, 8, 64})) {
        Columns c(t, columns, inputs, 32);
        std::vector<double> s;
        for (int r = 0; r < 200; r++) {
            const double t0 = now();
            for (int i = 0; i < columns; i++)
                t.quantize(c.x_of[i], inputs, c.act.data() + i, columns);
            s.push_back(now() - t0);
        }
        printf("%s quantize %2d x %d: %.2f G floats/s\n", g_options["isa"].c_str(), columns, inputs,
               1e-9 * columns * inputs / least(s));
    }
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 2; i < argc; i++)
        if (const char* eq = strchr(argv[i], '='))
            g_options[std::string(argv[i], eq - argv[i])] = eq + 1;
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "probe") {
        const Arena arena(size_t(option("mb")) << 20);
        printf("clock %.2f GHz, int8 peak avx512 vpdpbusd %.0f, avx2 vpmaddubsw %.0f GOPS\n",
               clock_ghz(), int8_peak(true), int8_peak(false));
        for (int p : {0, 512, 1024, 2048, 4096, 8192}) {
            double best = 1e9;
            for (int i = 0; i < 8; i++)
                best = std::min(best, read_seconds(arena.data, arena.bytes, p));
            printf("read, prefetch %4d: %.1f GB/s\n", p, arena.bytes / best * 1e-9);
        }
    } else if (what == "few") sweep(false);
    else if (what == "many") sweep(true);
    else if (what == "rows") rows_bench();
    else if (what == "pack") pack_bench();
    else if (what == "quantize") quantize_bench();
    else return printf("see the first lines of bench_matmul.cpp\n"), 1;
}
