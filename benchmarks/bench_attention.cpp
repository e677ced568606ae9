// Decode attention on one thread: GB/s of keys and values read by attend_split, beside what the
// thread can read at all.
//
//   bench_attention [TABLE] [MB of cache to walk through, 384] [repetitions, 7] [only this line of
//   the list, 0: all]
//
//   cmake -B build/bench -DPILLION_BENCHMARKS=ON && cmake --build build/bench --target
//   bench_attention
//
// Each line cycles through as many separate caches as the given size holds, so nothing is found in
// a cache of the processor; the read probe runs before every repetition, shares are of the same
// moment. Best and median of the repetitions. What eight queries can reach is bounded by the
// multiply-adds: 8 FLOP a byte of f16, 16 of q8_0; the column "of FMA" is the share of what the
// core can do.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "backends/cpu/kernel_choice.h"

using namespace pillion::cpu;
using namespace pillion;

// The thread's own time: on a shared machine the time others had the core doesn't count.
static double now() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Best plain read we know: eight streams of 64-byte lines, one load a line, a prefetch ahead of
// each.
static double read_rate(const uint8_t* p, size_t n) {
    const double start = now();
    uint64_t sum = 0;
    const size_t part = n / 8 / 64 * 64;
    for (size_t i = 0; i < part; i += 64)
        for (int s = 0; s < 8; s++) {
            __builtin_prefetch(p + s * part + i + 2048);
            sum += *(const uint64_t*)(p + s * part + i);
        }
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
    return double(part) * 8 / (now() - start);
}
static double read_rate_line(const uint8_t* p, size_t n) {  // one straight line
    const double start = now();
    uint64_t sum = 0;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        __builtin_prefetch(p + i + 4096);
        sum += *(const uint64_t*)(p + i);
    }
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
    return double(n) / (now() - start);
}

// f32 fused multiply-adds this thread can do when it does nothing else, in FLOP/s.
#if defined(__x86_64__)
#define PILLION_PROBE(NAME, TARGET, BYTES)                                                         \
    __attribute__((target(TARGET))) static double NAME() {                                         \
        typedef float V __attribute__((vector_size(BYTES)));                                       \
        V a[12], x = V{} + 1e-9f, y = V{} + 0.5f;                                                  \
        for (V& v : a) v = V{} + 1.0f;                                                             \
        const double start = now();                                                                \
        const int rounds = 2000000;                                                                \
        for (int i = 0; i < rounds; i++)                                                           \
            asm volatile(                                                                          \
                "vfmadd213ps %12, %13, %0\n vfmadd213ps %12, %13, %1\n vfmadd213ps %12, %13, %2\n" \
                "vfmadd213ps %12, %13, %3\n vfmadd213ps %12, %13, %4\n vfmadd213ps %12, %13, %5\n" \
                "vfmadd213ps %12, %13, %6\n vfmadd213ps %12, %13, %7\n vfmadd213ps %12, %13, %8\n" \
                "vfmadd213ps %12, %13, %9\n vfmadd213ps %12, %13, %10\n vfmadd213ps %12, %13, %11" \
                : "+v"(a[0]), "+v"(a[1]), "+v"(a[2]), "+v"(a[3]), "+v"(a[4]), "+v"(a[5]),          \
                  "+v"(a[6]), "+v"(a[7]), "+v"(a[8]), "+v"(a[9]), "+v"(a[10]), "+v"(a[11])         \
                : "v"(x), "v"(y));                                                                 \
        return 12.0 * 2 * (BYTES / 4) * rounds / (now() - start);                                  \
    }
PILLION_PROBE(fma_rate_512, "avx512f", 64)
PILLION_PROBE(fma_rate_256, "avx2,fma", 32)
static double fma_rate(const char* table) {
    return strcmp(table, "x86_avx512") == 0 ? fma_rate_512()
           : strcmp(table, "x86_avx2") == 0 ? fma_rate_256()
                                            : NAN;
}
#else
static double fma_rate(const char*) { return NAN; }
#endif

struct Case {
    int head_dim, n_q, positions;
    KvType format;
};

int main(int argc, char** argv) {
    const auto found = find_kernels(argc > 1 ? argv[1] : nullptr);
    if (!found) return fprintf(stderr, "%s\n", found.failure().sentence()), 1;
    const KernelTable* const table = *found;
    const size_t megabytes = argc > 2 ? strtoul(argv[2], nullptr, 10) : 384;
    const int repetitions = argc > 3 ? atoi(argv[3]) : 7;
    const size_t size = megabytes << 20;
    const size_t area_size = std::max<size_t>(size, 80 << 20);
    void* area = mmap(nullptr, area_size + (2 << 20), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return fprintf(stderr, "no memory\n"), 1;
    uint8_t* base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(area) + (2 << 20) - 1) &
                                               ~uintptr_t((2 << 20) - 1));
    madvise(base, area_size, MADV_HUGEPAGE);

    double peak = 0;
    for (int i = 0; i < 5; i++) peak = std::max(peak, fma_rate(table->name));
    printf("%s, %zu MB; FMA %.0f GFLOP/s\n%-34s %9s %9s %7s %9s %7s %9s\n", table->name, megabytes,
           peak / 1e9, "", "GB/s", "of read", "median", "read GB/s", "of FMA", "us/call");
    std::vector<Case> cases;
    for (KvType f : {KvType::f16, KvType::q8_0})
        for (int positions : {8192, 32768}) {
            for (int hd : {256, 512}) cases.push_back({hd, 8, positions, f});
            cases.push_back({64, 3, positions, f});
            cases.push_back({256, 1, positions, f});
            cases.push_back({256, 4, positions, f});
            cases.push_back({128, 4, positions, f});
            cases.push_back({256, 16, positions, f});
        }
    const size_t only = argc > 4 ? strtoul(argv[4], nullptr, 10) : 0;
    for (const Case& c : cases) {
        if (only && &c != &cases[only - 1]) continue;
        const size_t k_bytes = kv_k_bytes(c.format, c.head_dim, c.positions),
                     v_bytes = kv_v_bytes(c.format, c.head_dim, c.positions);
        const size_t each = k_bytes + v_bytes;
        const int caches = std::max(1, int(size / each));
        // Every slot the same valid row: written once per block pattern, then copied.
        std::vector<float> row(c.head_dim);
        for (int i = 0; i < c.head_dim; i++) row[i] = float(i % 7 - 3) * 0.25f;
        for (int n = 0; n < caches; n++) {
            const KvHead kv{base + n * each, base + n * each + k_bytes, c.positions, c.head_dim,
                            c.format};
            for (int s = 0; s < (n == 0 ? c.positions : 0); s++)
                table->kv_store(kv, s, row.data(), row.data());
            if (n > 0) memcpy(base + n * each, base, each);
        }
        std::vector<float> q(size_t(c.n_q) * c.head_dim, 0.01f), o(q.size()), os(q.size());
        const float* q_at[16];
        float* o_at[16];
        int32_t first[16] = {}, last[16];
        float m[16], l[16], ms[16], ls[16];
        for (int i = 0; i < c.n_q; i++)
            q_at[i] = &q[i * c.head_dim], o_at[i] = &os[i * c.head_dim], last[i] = c.positions - 1;
        std::vector<double> rates, shares, reads;
        for (int r = 0; r < repetitions; r++) {
            const double read = std::max(read_rate(base, size), read_rate_line(base, size));
            const double start = now();
            for (int n = 0; n < caches; n++) {
                AttendArgs a;
                a.kv = {base + n * each, base + n * each + k_bytes, c.positions, c.head_dim,
                        c.format};
                a.q = q_at, a.first = first, a.last = last, a.n_q = c.n_q, a.scale = 1,
                a.softcap = 0, a.m = ms, a.l = ls, a.o = o_at;
                for (int i = 0; i < c.n_q; i++) m[i] = -INFINITY, l[i] = 0;
                for (int begin = 0; begin < c.positions; begin += KV_SPLIT) {
                    a.begin = begin, a.end = begin + KV_SPLIT;
                    table->attend_split(a);
                    for (int i = 0; i < c.n_q; i++)
                        table->attend_merge(&m[i], &l[i], &o[i * c.head_dim], ms[i], ls[i], o_at[i],
                                            c.head_dim);
                }
            }
            const double rate = double(each) * caches / (now() - start);
            rates.push_back(rate);
            shares.push_back(rate / read);
            reads.push_back(read);
        }
        std::sort(rates.begin(), rates.end());
        std::sort(shares.begin(), shares.end());
        std::sort(reads.begin(), reads.end());
        const double best = rates.back(),
                     flops = 4.0 * c.head_dim * c.n_q * c.positions / (double(each) / best);
        char name[64];
        snprintf(name, sizeof name, "hd %3d, %2d queries, %5d, %s", c.head_dim, c.n_q, c.positions,
                 c.format == KvType::f16 ? "f16" : "q8_0");
        printf("%-34s %9.1f %8.0f%% %6.0f%% %9.1f %6.0f%% %9.0f\n", name, best / 1e9,
               100 * shares.back(), 100 * shares[shares.size() / 2], reads[reads.size() / 2] / 1e9,
               100 * flops / peak, double(each) / best * 1e6);
        fflush(stdout);
    }
    return 0;
}
