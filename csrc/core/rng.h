/* Counter-based random numbers: a pure function of (seed, counter), so that every backend draws the
 * same bits and a draw can be repeated. It applies the finaliser of SplitMix64 (Steele, Lea, Flood
 * 2014) twice, over seed and counter. Plain C. */
#pragma once
#include <stdint.h>

static inline uint64_t pillion_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static inline uint64_t pillion_random_bits(uint64_t seed, uint64_t counter) {
    return pillion_mix64(pillion_mix64(seed + 0x9E3779B97F4A7C15ull) +
                         counter * 0x9E3779B97F4A7C15ull);
}

/* Uniform in [0, 1), 53 bits. */
static inline double pillion_random_unit(uint64_t seed, uint64_t counter) {
    return (double)(pillion_random_bits(seed, counter) >> 11) * (1.0 / 9007199254740992.0);
}
