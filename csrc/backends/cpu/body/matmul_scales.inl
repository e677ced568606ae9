// Scales and minima of one step as f32: the part of matmul.inl that differs between formats.
// Formats of 32 inputs read theirs in place; the others expand theirs once per 256 inputs.

// f16 d[32], and f16 m[32] if the format has a minimum; m is added, so low = -m
template <class F>
struct Scales {
    static constexpr bool kLowNegative = true;
    const uint8_t* step;
    explicit Scales(const uint8_t* s) : step(s) {}
    Floats scale(int /*group*/, int reg) const { return load_f16(step + 2 * kLanes * reg); }
    Floats low(int, int reg) const {
        return F::kLowInputs ? load_f16(step + 2 * kPanel + 2 * kLanes * reg) : zero_floats();
    }
};

// Field I of the sixteen six-bit fields in three words.
template <int I>
PILLION_INLINE Ints six_bits(const Ints (&word)[3]) {
    if constexpr (I == 15)
        return bit_or(bit_or(shift_right<30>(word[0]), shift_left<2>(shift_right<30>(word[1]))),
                      shift_left<4>(shift_right<30>(word[2])));
    else return and_constant(shift_right<6 * (I % 5)>(word[I / 5]), 63);
}
PILLION_INLINE void load_words(const uint8_t* words, int at, Ints (&word)[3]) {
    PILLION_UNROLL
    for (int w = 0; w < 3; w++) word[w] = load_bytes(words + w * kPlaneBytes + 4 * at);
}

template <int Groups, int Lows>
struct ExpandedScales {
    static constexpr bool kLowNegative = false;
    alignas(64) float scales[Groups][kPanel];
    alignas(64) float minima[Lows ? Lows : 1][kPanel];
    Floats scale(int group, int reg) const { return load(scales[group] + reg * kLanes); }
    Floats low(int group, int reg) const {
        return Lows ? load(minima[group] + reg * kLanes) : zero_floats();
    }
};
struct FourFiveScales : ExpandedScales<8, 8> {
    explicit FourFiveScales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = load_f16(s + 2 * at), dmin = load_f16(s + 2 * kPanel + 2 * at);
            Ints word[3];
            load_words(s + 4 * kPanel, at, word);
#define PILLION_GROUP(G)                                        \
    store(scales[G] + at, mul(d, to_float(six_bits<G>(word)))); \
    store(minima[G] + at, mul(dmin, to_float(six_bits<8 + G>(word))));
            PILLION_GROUP(0)
            PILLION_GROUP(1)
            PILLION_GROUP(2)
            PILLION_GROUP(3)
            PILLION_GROUP(4)
            PILLION_GROUP(5)
            PILLION_GROUP(6)
            PILLION_GROUP(7)
#undef PILLION_GROUP
        }
    }
};
template <>
struct Scales<Q4_K> : FourFiveScales {
    explicit Scales(const uint8_t* s) : FourFiveScales(s) {}
};
template <>
struct Scales<Q5_K> : FourFiveScales {
    explicit Scales(const uint8_t* s) : FourFiveScales(s) {}
};
// The minima are stored / 8, see add_block.
template <>
struct Scales<Q2_K> : ExpandedScales<16, 16> {
    explicit Scales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = load_f16(s + 2 * at),
                         low = mul(load_f16(s + 2 * kPanel + 2 * at), splat(0.125f));
            PILLION_UNROLL
            for (int g = 0; g < 16; g++) {
                const Ints both = load_u8(s + (4 + g) * kPanel + at);
                store(scales[g] + at, mul(d, to_float(and_constant(both, 15))));
                store(minima[g] + at, mul(low, to_float(shift_right<4>(both))));
            }
        }
    }
};
template <>
struct Scales<Q3_K> : ExpandedScales<16, 0> {
    explicit Scales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = load_f16(s + 2 * at);
            const Ints zero = splat_int(32);
            Ints word[3];
            load_words(s + 2 * kPanel, at, word);
#define PILLION_GROUP(G) store(scales[G] + at, mul(d, to_float(subtract(six_bits<G>(word), zero))));
            PILLION_GROUP(0)
            PILLION_GROUP(1)
            PILLION_GROUP(2)
            PILLION_GROUP(3)
            PILLION_GROUP(4)
            PILLION_GROUP(5)
            PILLION_GROUP(6)
            PILLION_GROUP(7)
            PILLION_GROUP(8)
            PILLION_GROUP(9)
            PILLION_GROUP(10)
            PILLION_GROUP(11)
            PILLION_GROUP(12)
            PILLION_GROUP(13)
            PILLION_GROUP(14)
            PILLION_GROUP(15)
#undef PILLION_GROUP
        }
    }
};
template <>
struct Scales<Q6_K> : ExpandedScales<16, 0> {
    explicit Scales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = load_f16(s + 2 * at);
            PILLION_UNROLL
            for (int g = 0; g < 16; g++)
                store(scales[g] + at, mul(d, load_i8(s + (2 + g) * kPanel + at)));
        }
    }
};
template <>
struct Scales<IQ4_XS> : ExpandedScales<8, 0> {
    explicit Scales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = load_f16(s + 2 * at);
            const Ints high = load_u16(s + 2 * kPanel + 2 * at),
                       low = load_bytes(s + 4 * kPanel + 4 * at), zero = splat_int(32);
#define PILLION_GROUP(G)                                                                          \
    store(scales[G] + at,                                                                         \
          mul(d,                                                                                  \
              to_float(subtract(bit_or(and_constant(shift_right<4 * G>(low), 15),                 \
                                       shift_left<4>(and_constant(shift_right<2 * G>(high), 3))), \
                                zero))));
            PILLION_GROUP(0)
            PILLION_GROUP(1)
            PILLION_GROUP(2)
            PILLION_GROUP(3)
            PILLION_GROUP(4)
            PILLION_GROUP(5)
            PILLION_GROUP(6)
            PILLION_GROUP(7)
#undef PILLION_GROUP
        }
    }
};

template <>
struct Scales<MXFP4_X> {
    static constexpr bool kLowNegative = true;
    const uint8_t* step;
    explicit Scales(const uint8_t* s) : step(s) {}
    Floats scale(int, int reg) const { return load_bf16(step + 2 * kLanes * reg); }
    Floats low(int, int) const { return zero_floats(); }
};
template <>
struct Scales<NVFP4_X> {
    static constexpr bool kLowNegative = true;
    const uint8_t* step;
    explicit Scales(const uint8_t* s) : step(s) {}
    Floats scale(int group, int reg) const {
        return load_f16(step + 2 * kPanel * group + 2 * kLanes * reg);
    }
    Floats low(int, int) const { return zero_floats(); }
};
// Nibbles s that stand for 2 * s + 1. Dividing d is exact.
template <int Groups, int Divide>
struct OddScales : ExpandedScales<Groups, 0> {
    explicit OddScales(const uint8_t* s) {
        for (int at = 0; at < kPanel; at += kLanes) {
            const Floats d = mul(load_f16(s + 2 * at), splat(1.0f / Divide));
            for (int half = 0; half < Groups / 8; half++) {
                const Ints s4 = load_bytes(s + 2 * kPanel + half * kPlaneBytes + 4 * at),
                           one = splat_int(1);
#define PILLION_GROUP(G)                   \
    store(this->scales[8 * half + G] + at, \
          mul(d, to_float(bit_or(shift_left<1>(and_constant(shift_right<4 * G>(s4), 15)), one))));
                PILLION_GROUP(0)
                PILLION_GROUP(1)
                PILLION_GROUP(2)
                PILLION_GROUP(3)
                PILLION_GROUP(4)
                PILLION_GROUP(5)
                PILLION_GROUP(6)
                PILLION_GROUP(7)
#undef PILLION_GROUP
            }
        }
    }
};
template <>
struct Scales<IQ3_XXS_X> : OddScales<8, IQ3_XXS_X::kDivide> {
    explicit Scales(const uint8_t* s) : OddScales(s) {}
};
template <>
struct Scales<IQ3_S_X> : OddScales<8, IQ3_S_X::kDivide> {
    explicit Scales(const uint8_t* s) : OddScales(s) {}
};
template <>
struct Scales<IQ2_X> : OddScales<16, IQ2_X::kDivide> {
    explicit Scales(const uint8_t* s) : OddScales(s) {}
};
template <>
struct Scales<IQ1_X> : OddScales<16, IQ1_X::kDivide> {
    explicit Scales(const uint8_t* s) : OddScales(s) {}
};
