// Tests the memory of the CUDA backend over the emulated runtime: arenas, refused allocations, lost
// devices. Prints a line for each fault and a summary. Run by tests/cuda/test_cuda_memory.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <random>
#include <vector>

#include "backends/cuda/cuda_arena.h"
#include "backends/cuda/device/host.h"

using namespace pillion::cuda;
using pillion::Status;

static int failures = 0, checks = 0;
static void check(bool ok, const char* what, int line) {
    checks++;
    if (!ok) failures++, printf("FAILED line %d: %s\n", line, what);
}
#define CHECK(condition) check((condition), #condition, __LINE__)

static void faults(const char* text) { setenv("PILLION_SIM_FAULTS", text, 1); }
static size_t used() { return sim::Faults::get().used(); }
constexpr size_t kMiB = 1u << 20;

static std::unique_ptr<Allocation> take(Arena& arena, size_t bytes, Status want = Status::ok) {
    auto allocation = arena.take(bytes);
    check((allocation ? Status::ok : allocation.failure().code()) == want,
          allocation ? "take" : allocation.failure().sentence(), int(bytes));
    return allocation ? std::move(*allocation) : nullptr;
}

static void test_sharing() {
    Arena arena(0, MemoryKind::device, 8 * kMiB);
    auto a = take(arena, 100), b = take(arena, 1000), c = take(arena, 300);
    CHECK(arena.n_chunks() == 1 && arena.reserved_bytes() == 8 * kMiB);
    CHECK(b->device() - a->device() == 256 && c->device() - b->device() == 1024);
    CHECK(reinterpret_cast<uintptr_t>(a->device()) % 256 == 0 && a->host() == nullptr);
    uint8_t* const place = b->device();
    b.reset();
    auto d = take(arena, 1024);
    CHECK(d->device() == place);  // into the gap
    auto large = take(arena, 9 * kMiB);
    CHECK(arena.n_chunks() == 2 && arena.reserved_bytes() == 17 * kMiB);
    large.reset();
    CHECK(arena.n_chunks() == 1);
    a.reset(), c.reset(), d.reset();
    CHECK(arena.n_chunks() == 0 && used() == 0);
}

// Whatever the order of taking and giving back, blocks never overlap and nothing is left.
static void test_random_order() {
    Arena arena(0, MemoryKind::device, 1 << 16);
    std::mt19937 rng(7);
    struct Held {
        std::unique_ptr<Allocation> allocation;
        size_t bytes;
        uint8_t mark;
    };
    std::vector<Held> held;
    bool intact = true;
    for (int i = 0; i < 3000; i++) {
        if (held.size() < 40 && rng() % 5 < 3) {
            const size_t bytes = 1 + rng() % 20000;
            held.push_back({take(arena, bytes), bytes, uint8_t(rng())});
            memset(held.back().allocation->device(), held.back().mark, bytes);
        } else if (!held.empty()) {
            const size_t k = rng() % held.size();
            for (size_t j = 0; j < held[k].bytes; j++)
                intact &= held[k].allocation->device()[j] == held[k].mark;
            held.erase(held.begin() + long(k));
        }
    }
    CHECK(intact);
    held.clear();
    CHECK(arena.n_chunks() == 0 && used() == 0);
}

static void test_refusals() {
    Arena arena(0, MemoryKind::device, 8 * kMiB);
    faults("above=1048576");
    auto a = take(arena, 1000);
    CHECK(arena.reserved_bytes() == kMiB);  // 8, 4, 2 refused
    CHECK(take(arena, 2 * kMiB, Status::out_of_memory) == nullptr);
    faults("above=2000");
    auto b = take(arena, 1500);  // in the chunk that is there
    CHECK(b->device() - a->device() == 1024 && arena.n_chunks() == 1);
    a.reset(), b.reset();
    faults("above=512");
    a = take(arena, 400);  // down to the request itself
    CHECK(arena.reserved_bytes() == 512);
    CHECK(take(arena, 600, Status::out_of_memory) == nullptr);
    a.reset();
    faults("alloc=1");
    a = take(arena, 400);
    CHECK(arena.reserved_bytes() == 4 * kMiB);
    a.reset();
    faults("memory=3000000");
    a = take(arena, 400);
    CHECK(arena.reserved_bytes() == 2 * kMiB);
    size_t total = 0, free = 0;
    memory_now(0, total, free);
    CHECK(total == 3000000 && free == 3000000 - 2 * kMiB);
    a.reset();
    memory_now(0, total, free);
    CHECK(free == total && used() == 0);
    faults("");
    CHECK(take(arena, SIZE_MAX, Status::out_of_memory) == nullptr);
}

static void test_shared_memory_changes_hands() {
    const auto stream = Stream::create(0).value_or_throw();
    Arena arena(0, MemoryKind::shared, 0);
    auto allocation = take(arena, 1000);
    CHECK(allocation->host() == allocation->device());
    allocation->host()[0] = 5;
    allocation->give_to_device(*stream);
    CHECK(allocation->host() == nullptr && allocation->device()[0] == 5 && stream->wait());
}

static __global__ void count(int* x) {
    if (threadIdx.x == 0) x[0]++;
}

template <class T>
static bool lost(const pillion::Result<T>& result, const char* words) {
    return !result && result.failure().code() == Status::device_lost &&
           strstr(result.failure().sentence(), words);
}

static void test_errors() {
    const auto stream = Stream::create(0).value_or_throw(),
               other = Stream::create(0).value_or_throw();
    const auto memory = Memory::allocate(0, 64, MemoryKind::mapped).value_or_throw();
    int* x = reinterpret_cast<int*>(memory->device());
    x[0] = 0;
    Replay::begin(*stream);
    for (int i = 0; i < 3; i++) PILLION_LAUNCH(count, dim3(1), dim3(32), 0, stream.get(), x);
    const auto replay = Replay::end(*stream);

    faults("launch=2");
    replay->launch(*stream);
    CHECK(x[0] == 1 && lost(stream->wait(), "count was made to fail"));
    replay->launch(*stream);
    CHECK(x[0] == 4 && stream->wait());

    faults("lost=2");
    replay->launch(*stream);
    const auto first_wait = stream->wait();
    CHECK(x[0] == 5 && lost(first_wait, "lost until the process ends"));
    const std::string first = first_wait ? "" : first_wait.failure().sentence();
    faults("");
    replay->launch(*stream);
    PILLION_LAUNCH(count, dim3(1), dim3(32), 0, other.get(), x);
    const auto is_first = [&](const auto& result) {
        return lost(result, "") && first == result.failure().sentence();
    };
    CHECK(x[0] == 5 && is_first(stream->wait()));
    CHECK(is_first(other->wait()));
    CHECK(is_first(Stream::create(0)));
    CHECK(is_first(Memory::allocate(0, 64, MemoryKind::device)));
    CHECK(!is_lost(1) && is_lost(0));  // another device goes on
}

int main() {
    test_sharing();
    test_random_order();
    test_refusals();
    test_shared_memory_changes_hands();
    test_errors();  // last: the device stays lost
    printf("%d checks, %d failures\n", checks, failures);
    return failures ? 1 : 0;
}
