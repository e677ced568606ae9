// Shared by the fuzz programs: reading decisions from the input's bytes, and a main() for builds
// without libFuzzer.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "seeded.h"

namespace fuzz {

// Bytes as decisions; behind the end all are zero, so that a short input is a short case.
class Input {
  public:
    Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    bool empty() const { return at_ == end_; }
    uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
    bool chance(int of_256) { return byte() < of_256; }
    // 0 .. n-1
    size_t below(size_t n) { return n ? size_t(byte() | byte() << 8) % n : 0; }
    template <class T, size_t N>
    T pick(const T (&list)[N]) {
        return list[byte() % N];
    }
    uint64_t word() {
        uint64_t w = 0;
        for (int i = 0; i < 8; i++) w |= uint64_t(byte()) << 8 * i;
        return w;
    }
    // Mostly small, at times a limit of some type or anything.
    int64_t number() {
        static constexpr int64_t kEdges[] = {
            0,         1,       -1,      2,         3,         31,        32,         33,
            255,       256,     257,     1023,      1024,      4095,      4096,       65535,
            65536,     1 << 20, 1 << 24, 1 << 30,   INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX,
            INT64_MIN, -2,      -32,     1LL << 40, 1LL << 61, 1LL << 62};
        const uint8_t how = byte();
        if (how < 128) return byte() % 70;
        if (how < 240) return pick(kEdges);
        return int64_t(word());
    }

  private:
    const uint8_t *at_, *end_;
};

[[noreturn]] inline void broken(const char* what, const char* detail = "") {
    fprintf(stderr, "broken: %s %s\n", what, detail);
    abort();
}

}  // namespace fuzz

#ifdef PILLION_FUZZ_MAIN
// With file names it replays them; with "--runs N [SEED]" it replays N inputs made from the seed,
// each up to 400 bytes.
int main(int argc, char** argv) {
    if (argc < 3 || strcmp(argv[1], "--runs") != 0) {
        for (int i = 1; i < argc; i++) {
            FILE* f = fopen(argv[i], "rb");
            if (!f) fuzz::broken("cannot open", argv[i]);
            std::vector<uint8_t> bytes;
            for (int c; (c = fgetc(f)) != EOF;) bytes.push_back(uint8_t(c));
            fclose(f);
            LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
        }
        return 0;
    }
    const long runs = atol(argv[2]);
    fuzz::replay(runs, argc > 3 ? strtoull(argv[3], nullptr, 10) : 1, 400);
    printf("%ld inputs\n", runs);
    return 0;
}
#endif
