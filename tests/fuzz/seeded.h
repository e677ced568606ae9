// Inputs made from a seed, for builds without libFuzzer.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fuzz {

// `runs` inputs made from the seed, each shorter than `most` bytes.
inline void replay(long runs, uint64_t seed, size_t most) {
    const auto next = [&seed] {  // splitmix64
        uint64_t z = seed += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    };
    for (long i = 0; i < runs; i++) {
        std::vector<uint8_t> input(size_t(next() % most));
        for (uint8_t& byte : input) byte = uint8_t(next());
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
}

}  // namespace fuzz
