// Tests the emulation itself (backends/cuda/sim): its primitives, and that it reports mistakes.
// Also tests the table of attention plans, the blocks of segments and the captured runs. `runner`
// prints one line for each fault and a summary; its exit code is not 0 if there was one. Run by
// tests/cuda/test_cuda_emulation.py.
#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "backends/cuda/device/host.h"
#include "backends/cuda/device/mma.h"
#include "backends/cuda/kernels/attention_common.h"
#include "backends/cuda/replay_cache.h"

using namespace pillion::cuda;
using pillion::KvType;

namespace test {

int failures = 0, checks = 0;

void check(bool ok, const std::string& what, const char* file, int line) {
    checks++;
    if (!ok) failures++, printf("FAILED %s:%d: %s\n", file, line, what.c_str());
}
#define CHECK(condition, what) ::test::check((condition), (what), __FILE__, __LINE__)

std::vector<float> normal(size_t n, unsigned seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> v(n);
    for (float& x : v) x = distribution(rng);
    return v;
}

}  // namespace test

// Runs `f` and expects an error whose text contains `text`.
static void expect_error(const char* text, const std::function<void()>& f, const char* file,
                         int line) {
    std::string got = "no error";
    try {
        f();
    } catch (const sim::Error& e) {
        got = e.what();
    }
    test::check(got.find(text) != std::string::npos,
                std::string("expected \"") + text + "\", got: " + got, file, line);
}
#define EXPECT_ERROR(text, ...) expect_error(text, [&] { __VA_ARGS__; }, __FILE__, __LINE__)

// ---- mistakes ---------------------------------------------------------------------------------
static __global__ void half_the_block_skips_a_barrier(int* out) {
    if (threadIdx.x < 32) __syncthreads();
    out[threadIdx.x] = 1;
}
static __global__ void two_different_barriers(int* out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}
static __global__ void divergent_shuffle(int* out) {
    int v = int(threadIdx.x);
    if (threadIdx.x < 7) v = __shfl_xor_sync(PILLION_FULL_MASK, v, 1, 32);
    out[threadIdx.x] = v;
}
static __global__ void shuffle_against_barrier(int* out) {
    if (threadIdx.x == 3) out[0] = __shfl_sync(PILLION_FULL_MASK, 1, 0, 32);
    else __syncthreads();
}
static __global__ void partial_mask(int* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1, 0, 32); }
static __global__ void out_of_bounds(int* out) {
    PILLION_SHARED(int, a, 8);
    a[threadIdx.x] = 1;
    out[threadIdx.x] = 0;
}
static __global__ void misaligned(float* out) {
    PILLION_SHARED(float, a, 64);
    out[threadIdx.x] = shared_cast<float4>(a + 1)[0].x;
}
static __global__ void uninitialised(float* out) {
    PILLION_SHARED(float, a, 64);
    out[threadIdx.x] = a[threadIdx.x];
}
static __global__ void missing_barrier(float* out) {
    PILLION_SHARED(float, a, 64);
    a[threadIdx.x] = 1.0f;
    out[threadIdx.x] = a[63 - threadIdx.x];
}
static __global__ void write_before_others_read(float* out) {
    PILLION_SHARED(float, a, 1);
    if (threadIdx.x == 0) a[0] = 1.0f;
    __syncthreads();
    const float v = a[0];  // a barrier is missing behind this line
    const float w = __shfl_sync(PILLION_FULL_MASK, v, 0, 32);
    if (threadIdx.x == 32) a[0] = 2.0f;
    out[threadIdx.x] = w;
}
static __global__ void copy_without_wait(const float* in, float* out) {
    PILLION_SHARED(float, a, 128);
    cp_async16(a + int(threadIdx.x) * 4, in + threadIdx.x * 4);
    cp_async_commit();
    out[threadIdx.x] = a[int(threadIdx.x) * 4];
    cp_async_wait<0>();
}
static __global__ void copy_never_waited(const float* in, float* out) {
    PILLION_SHARED(float, a, 128);
    cp_async16(a + int(threadIdx.x) * 4, in + threadIdx.x * 4);
    cp_async_commit();
    out[threadIdx.x] = 0.0f;
}
static __global__ void much_static_memory(float* out) {
    PILLION_SHARED(float, a, 13000);
    a[threadIdx.x] = 1.0f;
    out[threadIdx.x] = a[threadIdx.x];
}
static __global__ void nothing() {}

static void test_mistakes() {
    Buffer<int> i(64);
    Buffer<float> f(512), in(std::vector<float>(512, 2.0f));
    EXPECT_ERROR("not reached by all threads",
                 PILLION_LAUNCH(half_the_block_skips_a_barrier, dim3(1), dim3(64), 0, nullptr,
                                i.get()));
    EXPECT_ERROR("32 thread(s) left the kernel",
                 PILLION_LAUNCH(half_the_block_skips_a_barrier, dim3(1), dim3(64), 0, nullptr,
                                i.get()));
    EXPECT_ERROR("meet at different barriers",
                 PILLION_LAUNCH(two_different_barriers, dim3(1), dim3(64), 0, nullptr, i.get()));
    EXPECT_ERROR("not reached by all threads",
                 PILLION_LAUNCH(divergent_shuffle, dim3(1), dim3(32), 0, nullptr, i.get()));
    EXPECT_ERROR("1 thread(s) wait in __shfl_sync",
                 PILLION_LAUNCH(shuffle_against_barrier, dim3(1), dim3(32), 0, nullptr, i.get()));
    EXPECT_ERROR("full mask", PILLION_LAUNCH(partial_mask, dim3(1), dim3(32), 0, nullptr, i.get()));
    EXPECT_ERROR("static shared memory",
                 PILLION_LAUNCH(much_static_memory, dim3(1), dim3(32), 0, nullptr, f.get()));
    EXPECT_ERROR("above the device limit",
                 PILLION_LAUNCH(nothing, dim3(1), dim3(32), 100 * 1024, nullptr));
    EXPECT_ERROR("multiple of 32", PILLION_LAUNCH(nothing, dim3(1), dim3(48), 0, nullptr));
    EXPECT_ERROR("invalid grid", PILLION_LAUNCH(nothing, dim3(1, 70000), dim3(32), 0, nullptr));
#if PILLION_SIM_CHECK
    EXPECT_ERROR("out of bounds",
                 PILLION_LAUNCH(out_of_bounds, dim3(1), dim3(32), 0, nullptr, i.get()));
    EXPECT_ERROR("misaligned", PILLION_LAUNCH(misaligned, dim3(1), dim3(32), 0, nullptr, f.get()));
#endif
    EXPECT_ERROR("never waited for", PILLION_LAUNCH(copy_never_waited, dim3(1), dim3(32), 0,
                                                    nullptr, in.get(), f.get()));

    PILLION_LAUNCH(uninitialised, dim3(1), dim3(32), 0, nullptr, f.get());
    CHECK(std::isnan(f.host()[5]), "uninitialised shared memory reads as NaN");
    PILLION_LAUNCH(copy_without_wait, dim3(1), dim3(32), 0, nullptr, in.get(), f.get());
    CHECK(std::isnan(f.host()[5]), "an asynchronous copy is invisible before the wait");
    const sim::Config saved = sim::config();
    bool changed = false;
    for (unsigned seed = 1; seed <= 4; ++seed) {
        sim::config().order = sim::Order::greedy;
        sim::config().seed = seed;
        PILLION_LAUNCH(write_before_others_read, dim3(1), dim3(128), 0, nullptr, f.get());
        for (int t = 0; t < 128; ++t) changed |= f.host()[t] == 2.0f;
    }
    sim::config() = saved;
    CHECK(changed, "greedy order exposes a write that overtakes a read");
    bool seen = false;
    PILLION_LAUNCH(missing_barrier, dim3(1), dim3(64), 0, nullptr, f.get());
    for (int k = 0; k < 64; ++k) seen |= std::isnan(f.host()[k]);
    CHECK(seen, "a missing barrier leaves NaN behind");
}

// ---- semantics ----------------------------------------------------------------------------------
static __global__ void collectives(int* out) {
    const int t = int(threadIdx.x);
    out[t * 8 + 0] = __shfl_xor_sync(PILLION_FULL_MASK, t, 5, 32);
    out[t * 8 + 1] = __shfl_down_sync(PILLION_FULL_MASK, t, 3, 32);
    out[t * 8 + 2] = __shfl_down_sync(PILLION_FULL_MASK, t, 3, 8);
    out[t * 8 + 3] = __shfl_up_sync(PILLION_FULL_MASK, t, 2, 16);
    out[t * 8 + 4] = __shfl_sync(PILLION_FULL_MASK, t, 9, 8);
    out[t * 8 + 5] = int(__ballot_sync(PILLION_FULL_MASK, t % 3 == 0));
    out[t * 8 + 6] = __any_sync(PILLION_FULL_MASK, t == 77);
    out[t * 8 + 7] = __syncthreads_count(t % 2) + 1000 * __syncthreads_or(t == 95) +
                     10000 * __syncthreads_and(t >= 0);
}
static __global__ void indices(int* out) {
    const int t = int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    const int b = int(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    out[b * 64 + t] = b * 64 + t;
}
static __global__ void count_all(int* total, float* ftotal) {
    atomicAdd(total, 1);
    atomicAdd(ftotal, 0.5f);
}
static __global__ void product(const half* a, const half* b, float* c, int by_row) {
    PILLION_SHARED(half, sa, 16 * 24);
    PILLION_SHARED(half, sb, 16 * 24);
    for (int i = int(threadIdx.x); i < 16 * 16; i += 32) sa[i / 16 * 24 + i % 16] = a[i];
    for (int i = int(threadIdx.x); i < 16 * 8; i += 32) {  // b[k][n]
        if (by_row) sb[i / 8 * 24 + i % 8] = b[i];
        else sb[i % 8 * 24 + i / 8] = b[i];
    }
    __syncwarp();
    FragA fa;
    FragB fb;
    FragC fc = {{1.0f, 1.0f, 1.0f, 1.0f}};
    load_a(fa, sa, 24);
    if (by_row) load_b_by_row(fb, sb, 24);
    else load_b_by_column(fb, sb, 24);
    mma(fc, fa, fb);
    for (int i = 0; i < 4; ++i) c[frag_c_row(i) * 8 + frag_c_col(i)] = fc.x[i];
}

static void test_semantics() {
    Buffer<int> out(96 * 8);
    for (auto order :
         {sim::Order::forward, sim::Order::reverse, sim::Order::shuffled, sim::Order::greedy}) {
        sim::config().order = order;
        PILLION_LAUNCH(collectives, dim3(1), dim3(96), 0, nullptr, out.get());
        const auto r = out.host();
        bool ok = true;
        for (int t = 0; t < 96; ++t) {
            const int w = t / 32 * 32, l = t % 32;
            unsigned ballot = 0;
            for (int k = 0; k < 32; ++k) ballot |= unsigned((w + k) % 3 == 0) << k;
            ok &= r[t * 8 + 0] == w + (l ^ 5);
            ok &= r[t * 8 + 1] == (l + 3 < 32 ? t + 3 : t);
            ok &= r[t * 8 + 2] == (l % 8 + 3 < 8 ? t + 3 : t);
            ok &= r[t * 8 + 3] == (l % 16 >= 2 ? t - 2 : t);
            ok &= r[t * 8 + 4] == w + l / 8 * 8 + 1;
            ok &= unsigned(r[t * 8 + 5]) == ballot;
            ok &= r[t * 8 + 6] == (w == 64);
            ok &= r[t * 8 + 7] == 48 + 1000 + 10000;
        }
        CHECK(ok, "collectives");
    }
    sim::config().order = sim::Order::forward;

    Buffer<int> ids(24 * 64);
    PILLION_LAUNCH(indices, dim3(2, 3, 4), dim3(4, 4, 4), 0, nullptr, ids.get());
    bool ok = true;
    const auto v = ids.host();
    for (int i = 0; i < 24 * 64; ++i) ok &= v[i] == i;
    CHECK(ok, "indices");

    const int before = sim::config().os_threads;
    for (int n : {1, 4}) {
        sim::config().os_threads = n;
        Buffer<int> total(std::vector<int>{0});
        Buffer<float> ftotal(std::vector<float>{0.0f});
        PILLION_LAUNCH(count_all, dim3(100), dim3(64), 0, nullptr, total.get(), ftotal.get());
        CHECK(total.host()[0] == 6400 && ftotal.host()[0] == 3200.0f,
              "atomics across blocks and OS threads");
        EXPECT_ERROR("not reached by all threads",
                     PILLION_LAUNCH(half_the_block_skips_a_barrier, dim3(20), dim3(64), 0, nullptr,
                                    ids.get()));
    }
    sim::config().os_threads = before;

    const auto af = test::normal(16 * 16, 1), bf = test::normal(16 * 8, 2);
    std::vector<half> a(af.begin(), af.end()), b(bf.begin(), bf.end());
    Buffer<half> da(a), db(b);
    Buffer<float> dc(16 * 8);
    for (int by_row : {0, 1}) {
        PILLION_LAUNCH(product, dim3(1), dim3(32), 0, nullptr, da.get(), db.get(), dc.get(),
                       by_row);
        const auto c = dc.host();
        double worst = 0.0;
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 8; ++n) {
                double sum = 1.0;
                for (int k = 0; k < 16; ++k)
                    sum += double(float(a[m * 16 + k])) * float(b[k * 8 + n]);
                worst = std::max(worst, std::fabs(sum - c[m * 8 + n]));
            }
        CHECK(worst < 1e-5, "mma m16n8k16");
    }
}

// ---- number formats ----
static void test_formats() {
    bool round_trip = true, value = true;
    for (unsigned h = 0; h < 0x10000; ++h) {
        const float f = sim::half_bits_to_float(uint16_t(h));
        const int e = int(h >> 10 & 31), m = int(h & 1023);
        if (e == 31) {
            value &= m ? std::isnan(f) : std::isinf(f);
            if (m) continue;
        } else {
            const double want = (h & 0x8000 ? -1.0 : 1.0) *
                                (e ? std::ldexp(1024.0 + m, e - 25) : std::ldexp(double(m), -24));
            value &= double(f) == want;
        }
        round_trip &= sim::float_to_half_bits(f) == h;
    }
    CHECK(value && round_trip, "half to float, all 65536 values");

    bool nearest = true;  // against a search among the neighbours
    std::mt19937 rng(3);
    for (int i = 0; i < 200000; ++i) {
        const float f = sim::bit_cast<float>(
            uint32_t((rng() % 0x12000000u + 0x32000000u) | (rng() & 1u) << 31));
        const uint16_t h = sim::float_to_half_bits(f);
        const double err = std::fabs(double(sim::half_bits_to_float(h)) - f);
        for (int d : {-1, 1}) {
            const uint16_t o = uint16_t(h + d);
            if ((h & 0x7fff) == 0 && d < 0) continue;
            const double other =
                (o & 0x7fff) == 0x7c00 ? 65536.0 : std::fabs(double(sim::half_bits_to_float(o)));
            const double oerr = std::fabs(other - std::fabs(double(f)));
            const double mine =
                (h & 0x7fff) == 0x7c00 ? std::fabs(65536.0 - std::fabs(double(f))) : err;
            nearest &= mine < oerr || (mine == oerr && !(h & 1));
        }
    }
    CHECK(nearest, "float to half rounds to nearest even");
    CHECK(sim::float_to_bf16_bits(1.00390625f) == 0x3f80 &&
              sim::float_to_bf16_bits(1.01171875f) == 0x3f82,
          "float to bfloat16 ties to even");
    CHECK(__dp4a(int(0x80ff7f01u), int(0x7f02ff03u), 5) == 5 - 128 * 127 - 1 * 2 + 127 * -1 + 1 * 3,
          "__dp4a");
}

// ---- launches through a stream: errors stay in it, captures replay ----
static __global__ void add_one(int* x) { x[blockIdx.x * 32 + threadIdx.x]++; }

template <class T>
static bool fails(const pillion::Result<T>& result, pillion::Status code, const char* words) {
    return !result && result.failure().code() == code && strstr(result.failure().sentence(), words);
}

static void test_streams() {
    const auto stream = Stream::create(0).value_or_throw();
    const auto memory = Memory::allocate(0, 64 * sizeof(int), MemoryKind::mapped).value_or_throw();
    CHECK(stream && memory && memory->host() == memory->device(), "a stream and mapped memory");
    int* x = reinterpret_cast<int*>(memory->device());
    for (int i = 0; i < 64; i++) x[i] = i;

    Replay::begin(*stream);
    PILLION_LAUNCH(add_one, dim3(2), dim3(32), 0, stream.get(), x);
    const auto replay = Replay::end(*stream);
    CHECK(replay && x[5] == 5, "a capture does nothing yet");
    for (int i = 0; i < 3; i++) replay->launch(*stream);
    CHECK(stream->wait() && x[5] == 8 && x[63] == 66, "a replay does it every time");

    PILLION_LAUNCH(half_the_block_skips_a_barrier, dim3(1), dim3(64), 0, stream.get(), x);
    PILLION_LAUNCH(add_one, dim3(2), dim3(32), 0, stream.get(), x);
    CHECK(x[5] == 8, "nothing runs after an error");
    CHECK(fails(stream->wait(), pillion::Status::device_lost, "not reached by all threads"),
          "the error comes out");
    PILLION_LAUNCH(add_one, dim3(2), dim3(32), 0, stream.get(), x);
    CHECK(stream->wait() && x[5] == 9, "and then the stream works again");

    CHECK(fails(find_device(1), pillion::Status::no_backend, "number 1"), "one device");
}

// ---- plans: every shape has one that fits ----
static void check_plan(const AttnShape& s, const DeviceLimits& limits, const AttnPlan& p) {
    const int64_t vectors = int64_t(s.n_tokens) * (s.n_head / s.n_head_kv);
    const bool fits = p.kernel != AttnKernel::none && p.kernel != AttnKernel::plain &&
                      p.shared_bytes <= limits.shared_optin;
    const bool is_matvec = s.n_tokens <= kDecodeTokens;
    const bool right =
        is_matvec ? p.kernel == AttnKernel::decode && p.split % 128 == 0 &&
                        int64_t(p.split) * p.n_split >= s.n_positions
                  : p.split == 0 && p.n_split == 1 && (p.kernel == AttnKernel::tile || p.rows == 8);
    const bool grid =
        (vectors + p.rows - 1) / p.rows <= 65535 && p.n_split >= 1 && p.n_split <= kSplitsMax + 1;
    const size_t scratch =
        p.n_split > 1 ? size_t(s.n_tokens) * size_t(s.n_head) * size_t(p.n_split) * size_t(s.d + 2)
                      : 0;
    if (fits && right && grid && p.scratch_floats == scratch) return test::check(true, "", "", 0);
    CHECK(false, "d " + std::to_string(s.d) + ", " + std::to_string(s.n_head) + " heads, " +
                     std::to_string(s.n_tokens) + " tokens, " + std::to_string(s.n_positions) +
                     " positions: " + p.reason);
}

static int test_plans() {
    int n = 0;
    for (size_t shared : {48u << 10, 99u << 10, 163u << 10, 227u << 10})
        for (int d : {64, 80, 96, 128, 256, 512})
            for (int gqa = 1; gqa <= 32; gqa++)
                for (int tokens : {1,  2,  3,  4,  5,  6,  7,  8,   9,   15,  16,
                                   17, 31, 32, 33, 63, 64, 65, 100, 512, 2048})
                    for (int positions : {0, 1, 255, 256, 257, 131072})
                        for (KvType kv : {KvType::f16, KvType::q8_0}) {
                            const AttnShape s = {d,         gqa * 2,      2,      tokens,
                                                 positions, /*window=*/0, 131072, kv};
                            const DeviceLimits limits = {shared, 8};
                            check_plan(s, limits, attn_plan(s, limits));
                            n++;
                        }
    // What a row adds up in which order hangs on the cache alone.
    const DeviceLimits limits = {99 << 10, 8};
    for (int tokens : {1, 2, 9, 16})
        for (int positions : {1, 300, 4096})
            CHECK(attn_plan({256, 8, 2, tokens, positions, 0, 4096, KvType::f16}, limits).split ==
                      attn_plan({256, 8, 2, 1, 4096, 0, 4096, KvType::f16}, limits).split,
                  "split sizes");
    for (int d = 2; d <= 1024; d += 2)
        CHECK(attn_plan({d, 6, 2, 5, 300, 0, 512, KvType::q8_0}, limits).kernel != AttnKernel::none,
              "every even head size has a kernel");
    for (const AttnShape& s : {AttnShape{63, 8, 2, 1, 10, 0, 256, KvType::f16},
                               AttnShape{1026, 8, 2, 1, 10, 0, 256, KvType::f16},
                               AttnShape{64, 7, 2, 1, 10, 0, 256, KvType::f16},
                               AttnShape{64, 8, 2, 0, 10, 0, 256, KvType::f16}})
        CHECK(attn_plan(s, limits).kernel == AttnKernel::none && attn_plan(s, limits).reason[0],
              "what no kernel does has a reason");
    CHECK(attn_plan({512, 8, 2, 64, 4096, 0, 4096, KvType::f16}, {163 << 10, 8}).rows == 64,
          "much shared memory: the widest tile");
    CHECK(attn_plan({512, 8, 2, 64, 4096, 0, 4096, KvType::f16}, {99 << 10, 8}).rows == 32,
          "less: the next");
    CHECK(attn_plan({512, 8, 2, 64, 4096, 0, 4096, KvType::f16}, {48 << 10, 8}).kernel ==
              AttnKernel::decode,
          "little: no tile");
    // Of several segments: blocks for the longest, scratch for all.
    const AttnPlan alone = attn_plan({256, 8, 2, 4, 4096, 0, 4096, KvType::f16}, limits);
    const AttnPlan four =
        attn_plan({256, 8, 2, 16, 4096, 0, 4096, KvType::f16, false, 4, 1}, limits);
    CHECK(four.kernel == AttnKernel::decode && four.rows == 4 && alone.rows == 8 &&
              four.split == alone.split && four.scratch_floats == 4 * alone.scratch_floats,
          "four rows of four sequences");
    return n;
}

// ---- segments: each vector of a run is in one block ----

static pillion::StepState random_run(std::mt19937& rng) {
    pillion::StepState state = {};
    const int n = 1 + int(rng() % PILLION_SEGMENTS_MAX), longest = 1 + int(rng() % 40);
    for (int i = 0; i < n; i++) {
        state.segments[i] = {state.rows, 1 + int(rng() % unsigned(longest)), int(rng() % 1000), i};
        state.rows += state.segments[i].n_rows;
    }
    state.n_segments = n;
    state.out_rows = int(rng() % unsigned(state.rows + 1));
    return state;
}

template <int Size>
static void check_blocks(const pillion::StepState& state, bool is_out, int gqa) {
    AttnCall a = {};
    a.n_head = gqa, a.n_head_kv = 1;
    a.rows = {&state, is_out, is_out ? state.out_rows : state.rows, state.n_segments};
    AttnPlan plan;
    plan.rows = Size;
    std::vector<int> times(size_t(a.rows.bound) * size_t(gqa));
    bool right = true;
    for (int number = 0; number < int(attn_blocks(plan, a.rows, gqa)); number++) {
        const AttnRows rows = rows_of_block<Size>(a, 0, number);
        for (int v = first_of_block<Size>(rows, number), end = v + Size;
             v < std::min(end, rows.n_vectors); v++) {
            times[rows.index(v)]++;
            const RunRows::Place place = a.rows.place(int(rows.index(v)) / gqa);
            right &= place.segment == rows.segment && place.position == rows.position + v / gqa;
        }
    }
    for (const int n : times) right &= n == 1;
    CHECK(right, std::to_string(state.n_segments) + " segments of " + std::to_string(state.rows) +
                     " rows in blocks of " + std::to_string(Size));
}

static void test_blocks() {
    std::mt19937 rng(18);
    for (int i = 0; i < 40; i++) {
        const pillion::StepState state = random_run(rng);
        for (const bool is_out : {false, true})
            for (const int gqa : {1, 3, 4, 16}) {
                check_blocks<1>(state, is_out, gqa), check_blocks<4>(state, is_out, gqa);
                check_blocks<8>(state, is_out, gqa), check_blocks<64>(state, is_out, gqa);
            }
    }
}

// ---- captured runs ----

static void test_replays() {
    const auto stream = Stream::create(0).value_or_throw();
    const auto capture = [&] {
        Replay::begin(*stream);
        return Replay::end(*stream);
    };
    ReplayCache<int> cache(3);
    CHECK(!cache.find(1), "none at first");
    const Replay* const first = cache.add(1, capture());
    cache.add(2, capture()), cache.add(3, capture());
    CHECK(first && cache.find(1) == first && cache.size() == 3, "each has its own");
    cache.add(4, capture());
    CHECK(cache.size() == 3 && cache.find(1) == first && !cache.find(2) && cache.find(3),
          "the one that served least recently makes room");
    CHECK(!cache.add(5, nullptr) && cache.size() == 3, "a failed capture is none");
}

int main() {
    test_mistakes();
    test_semantics();
    test_formats();
    test_streams();
    const int plans = test_plans();
    test_blocks();
    test_replays();
    printf("%d plans, %d checks, %d failures\n", plans, test::checks, test::failures);
    return test::failures ? 1 : 0;
}
