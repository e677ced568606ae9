// The runner of tests/cpu/test_matmul_kernels.py, on this machine or under an emulator. Prints "<n>
// checks, <m> failures".
//
//   tables [seed]    every table's kernels against generic, memcmp, on random blocks
//   quantize         every table's quantize against generic, with infinities, NaNs, subnormals
//   pack FORMAT ROWS INPUTS IN OUT
//                    IN: file rows. OUT: bytes of all rows packed and unpacked, their values from
//                    the packed matrix, their values from the file (f32)
//   reference FORMAT ROWS INPUTS COLUMNS IN OUT
//                    IN: file rows, then x[columns][inputs] f32. OUT: activation blocks
//                    [block][column], generic's out[columns][rows] f32
//   tables_present   names of the tables that run here
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "backends/cpu/kernel_table.h"
#include "backends/cpu/lane_pack.h"

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
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

using namespace pillion;
using namespace pillion::cpu;

namespace {

int g_checks = 0, g_failures = 0;
#define CHECK(condition, ...)                    \
    do {                                         \
        g_checks++;                              \
        if (!(condition) && g_failures++ < 20) { \
            printf("%s failed: ", #condition);   \
            printf(__VA_ARGS__);                 \
            printf("\n");                        \
        }                                        \
    } while (0)

const char* const kNames[kFormats] = {"F32",     "F16",     "BF16",      "Q4_0",    "Q4_1",
                                      "Q5_0",    "Q5_1",    "Q8_0",      "Q2_K",    "Q3_K",
                                      "Q4_K",    "Q5_K",    "Q6_K",      "IQ4_NL",  "IQ4_XS",
                                      "MXFP4_X", "NVFP4_X", "IQ3_XXS_X", "IQ3_S_X", "IQ2_X",
                                      "IQ1_X",   "TQ2_0"};

struct Named {
    const char* name;
    KernelTable table;
};
std::vector<Named> usable_tables() {
    std::vector<Named> list;
    const auto add = [&](const char* name, void (*fill)(KernelTable&)) {
        list.push_back({name, {}});
        fill(list.back().table);
    };
    add("generic", generic::fill_matmul);
#if defined(GENERIC_ONLY)
#elif defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        add("x86_avx2", x86_avx2::fill_matmul);
    if (__builtin_cpu_supports("avxvnni")) add("x86_avx_vnni", x86_avx_vnni::fill_matmul);
    if (__builtin_cpu_supports("avx512vnni")) add("x86_avx512", x86_avx512::fill_matmul);
#elif defined(__aarch64__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) add("arm_dotprod", arm_dotprod::fill_matmul);
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM) add("arm_i8mm", arm_i8mm::fill_matmul);
#endif
    return list;
}

struct Random {
    uint64_t state;
    uint32_t next() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return uint32_t(state >> 33);
    }
    float uniform() { return float(next() & 0xFFFFFF) / 8388608.0f - 1.0f; }
};

// Random rows with finite scales: random bytes, then every f16 of scale or minimum in 2^-8 .. 2^-6.
template <class B>
auto fix_low(B& b, uint16_t v, int) -> decltype(b.dmin, void()) {
    b.dmin = v;
}
template <class B>
auto fix_low(B& b, uint16_t v, int) -> decltype(b.m, void()) {
    b.m = v;
}
template <class B>
void fix_low(B&, uint16_t, long) {}
template <class B>
void fix_scale(B& b, uint16_t v) {
    b.d = v;
}
void fix_scale(BlockNVFP4_X& b, uint16_t v) { b.d[0] = v, b.d[1] = uint16_t(v ^ 0x0180); }
void fix_scale(BlockMXFP4_X& b, uint16_t v) { b.d = uint16_t((v & 0x0780) + 0x3800); }  // a bf16
std::vector<uint8_t> random_rows(Format f, int rows, int inputs, Random& random) {
    std::vector<uint8_t> bytes(size_t(rows) * panel_bytes(f, inputs) / kPanel);
    const auto half = [&] {
        return uint16_t((0x1C00 + random.next() % 0x800) | (random.next() & 0x8000));
    };
    for (uint8_t& b : bytes) b = uint8_t(random.next() >> 8);
    const size_t n = bytes.size();
    switch (f) {
        case Format::f32:
            for (size_t i = 0; i < n / 4; i++) {
                const float v = random.uniform();
                memcpy(&bytes[4 * i], &v, 4);
            }
            break;
        case Format::f16:
            for (size_t i = 0; i < n / 2; i++) {
                const uint16_t v = f32_to_f16(random.uniform());
                memcpy(&bytes[2 * i], &v, 2);
            }
            break;
        case Format::bf16:
            for (size_t i = 0; i < n / 2; i++) {
                const uint16_t v = f32_to_bf16(random.uniform());
                memcpy(&bytes[2 * i], &v, 2);
            }
            break;
#define FIX(F)                                                \
    case F::kFormat: {                                        \
        for (size_t at = 0; at < n; at += sizeof(F::Block)) { \
            F::Block b;                                       \
            memcpy(&b, &bytes[at], sizeof b);                 \
            fix_scale(b, half());                             \
            fix_low(b, half(), 0);                            \
            memcpy(&bytes[at], &b, sizeof b);                 \
        }                                                     \
        break;                                                \
    }
            PILLION_QUANT_FORMATS(FIX)
#undef FIX
    }
    return bytes;
}

// Rows whose codes are all ones or all zero bits: the largest products, where 16-bit sums would
// overflow.
void make_extreme(Format f, std::vector<uint8_t>& bytes, int inputs) {
    const size_t row = panel_bytes(f, inputs) / kPanel;
    if (is_float(f) || bytes.size() < row) return;
    for (size_t at = 0; at < row; at++) bytes[at] = 0xFF;
#define FIX(F)                                                                                    \
    if (f == F::kFormat)                                                                          \
        for (size_t at = 0; at < row; at += sizeof(F::Block)) {                                   \
            F::Block b;                                                                           \
            memcpy(&b, &bytes[at], sizeof b);                                                     \
            fix_scale(b, 0x2000);                                                                 \
            fix_low(b, 0x2100, 0);                                                                \
            if (F::kFormat == Format::q8_0) memset(reinterpret_cast<uint8_t*>(&b) + 2, 0x80, 32); \
            memcpy(&bytes[at], &b, sizeof b);                                                     \
        }
    PILLION_QUANT_FORMATS(FIX)
#undef FIX
}

std::vector<float> random_columns(int columns, int inputs, Random& random) {
    std::vector<float> x(size_t(columns) * size_t(inputs));
    for (float& v : x) v = random.uniform() * (random.next() % 7 == 0 ? 8.0f : 1.0f);
    for (int i = 0; i < inputs && i < 32; i++) x[size_t(i)] = 0.0f;  // a block of zeros
    for (int i = 32; i < inputs && i < 64; i++)
        x[size_t(i)] = i % 2 ? 3.0f : -3.0f;                                       // extremes only
    for (int i = 64; i < inputs && i < 96; i++) x[size_t(i)] = 1e-36f * float(i);  // counts as zero
    if (columns > 1)
        for (int i = 0; i < inputs; i++)
            x[size_t(inputs) + size_t(i)] = 1.0f;  // all 127: the largest sums
    if (columns > 2)
        for (int i = 0; i < inputs; i++) x[2 * size_t(inputs) + size_t(i)] = -1.0f;
    if (columns > 3)
        for (int i = 0; i < inputs; i++)
            x[3 * size_t(inputs) + size_t(i)] = i % 16 < 8 ? 5.0f : 5.0f * random.uniform();
    return x;
}

std::vector<ActBlock> quantized(const KernelTable& t, const std::vector<float>& x, int inputs,
                                int columns) {
    std::vector<ActBlock> act(size_t(inputs / 32) * size_t(columns));
    for (int c = 0; c < columns; c++)
        t.quantize(&x[size_t(c) * size_t(inputs)], inputs, act.data() + c, columns);
    return act;
}

// out[column][rows + kGuard], the guard filled with a mark that no kernel may touch.
constexpr int kGuard = 40;
constexpr float kMark = 12345.5f;
struct Output {
    int rows, columns;
    std::vector<float> data;
    std::vector<float*> at;
    Output(int r, int c) : rows(r), columns(c), data(size_t(c) * size_t(r + kGuard), kMark) {
        for (int i = 0; i < c; i++) at.push_back(data.data() + size_t(i) * size_t(r + kGuard));
    }
    bool guards_stand() const {
        for (int c = 0; c < columns; c++)
            for (int i = 0; i < kGuard; i++)
                if (at[size_t(c)][rows + i] != kMark) return false;
        return true;
    }
};

struct Case {
    Format format;
    int rows, inputs;
    std::vector<uint8_t> panels;
    std::vector<float> x;
    std::vector<ActBlock> act;  // of all columns
    int all;                    // columns there are
};

PanelArgs args_of(const Case& k, int columns, const std::vector<ActBlock>& act,
                  const std::vector<const float*>& x, Output& out) {
    PanelArgs a = {};
    a.weights = k.panels.data();
    a.panel_bytes = panel_bytes(k.format, k.inputs);
    a.begin = 0, a.end = (k.rows + kPanel - 1) / kPanel;
    a.rows = k.rows, a.inputs = k.inputs;
    a.act = act.data(), a.x = x.data();
    a.columns = columns, a.act_columns = columns;
    a.out = out.at.data();
    return a;
}

void check_case(const std::vector<Named>& tables, const Case& k) {
    std::vector<const float*> x;
    for (int c = 0; c < k.all; c++) x.push_back(&k.x[size_t(c) * size_t(k.inputs)]);
    Output reference(k.rows, k.all);
    const PanelArgs whole = args_of(k, k.all, k.act, x, reference);
    tables[0].table.matmul[int(k.format)](whole);
    for (const Named& named : tables) {
        const KernelTable& t = named.table;
        for (int columns : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 31, 64, 128}) {
            if (columns > k.all) continue;
            std::vector<ActBlock> act(size_t(k.inputs / 32) *
                                      size_t(columns));  // exact size: address sanitizer watches
            for (int b = 0; b < k.inputs / 32 && !k.act.empty(); b++)
                for (int c = 0; c < columns; c++)
                    act[size_t(b * columns + c)] = k.act[size_t(b * k.all + c)];
            for (const bool matvec : {true, false})
                for (const bool one_by_one :
                     {false, true}) {  // panels in one call, or each in its own
                    if (matvec && columns > kMatvecMax) continue;
                    if (one_by_one && columns > 17) continue;
                    Output out(k.rows, columns);
                    PanelArgs a = args_of(k, columns, act, x, out);
                    a.prefetch = one_by_one ? 0 : columns % 2 ? 6144 : -6144;  // a hint only
                    const PanelKernel kernel =
                        matvec ? t.matvec[int(k.format)][columns] : t.matmul[int(k.format)];
                    const int end = a.end;
                    if (one_by_one)
                        for (int p = 0; p < end; p++) a.begin = p, a.end = p + 1, kernel(a);
                    else kernel(a);
                    bool equal = true;
                    for (int c = 0; c < columns; c++)
                        equal &= memcmp(out.at[size_t(c)], reference.at[size_t(c)],
                                        4 * size_t(k.rows)) == 0;
                    CHECK(equal, "%s %s [%d x %d] columns %d matvec %d one_by_one %d", named.name,
                          kNames[int(k.format)], k.rows, k.inputs, columns, matvec, one_by_one);
                    CHECK(out.guards_stand(),
                          "%s %s [%d x %d] columns %d matvec %d writes past its rows", named.name,
                          kNames[int(k.format)], k.rows, k.inputs, columns, matvec);
                }
        }
    }
}

// Some columns of a wider tile, as groups of KernelTable::matvec_group are multiplied, give the
// same bits as the whole tile.
void check_groups(const std::vector<Named>& tables, const Case& k) {
    std::vector<const float*> x;
    for (int c = 0; c < k.all; c++) x.push_back(&k.x[size_t(c) * size_t(k.inputs)]);
    Output reference(k.rows, k.all);
    tables[0].table.matmul[int(k.format)](args_of(k, k.all, k.act, x, reference));
    for (const Named& named : tables)
        for (int columns = 1; columns <= kMatvecMax; columns++)
            for (const int first : {0, 1, k.all - columns}) {
                if (first < 0 || first + columns > k.all) continue;
                Output out(k.rows, columns);
                PanelArgs a = args_of(k, columns, k.act, x, out);
                a.act_columns = k.all;
                if (!k.act.empty()) a.act += first;
                a.x += first;
                a.prefetch = columns % 2 ? -6144 : 6144;
                named.table.matvec[int(k.format)][columns](a);
                bool equal = true;
                for (int c = 0; c < columns; c++)
                    equal &= memcmp(out.at[size_t(c)], reference.at[size_t(first + c)],
                                    4 * size_t(k.rows)) == 0;
                CHECK(equal && out.guards_stand(), "%s %s [%d x %d] columns %d from %d of %d",
                      named.name, kNames[int(k.format)], k.rows, k.inputs, columns, first, k.all);
            }
}

void run_tables(uint64_t seed, int all) {
    Random random = {seed};
    const std::vector<Named> tables = usable_tables();
    struct Shape { int rows, inputs; };
    for (int f = 0; f < kFormats; f++) {
        const Format format = Format(f);
        std::vector<Shape> shapes = {{1, 256}, {33, 512}, {77, 256}, {47, 1280}};
        if (is_float(format)) shapes = {{1, 1}, {33, 100}, {77, 64}, {47, 259}};
        else if (panel_bytes(format, 32)) shapes.push_back({19, 32}), shapes.push_back({64, 96});
        for (const Shape s : shapes) {
            Case k = {format, s.rows, s.inputs, {}, random_columns(all, s.inputs, random), {}, all};
            std::vector<uint8_t> rows = random_rows(format, s.rows, s.inputs, random);
            make_extreme(format, rows, s.inputs);
            k.panels.resize(packed_bytes(format, s.rows, s.inputs));
            pack_panels(format, rows.data(), s.rows, s.inputs, 0, (s.rows + kPanel - 1) / kPanel,
                        k.panels.data());
            if (!is_float(format)) k.act = quantized(tables[0].table, k.x, s.inputs, all);
            check_case(tables, k);
            check_groups(tables, k);
        }
    }
}

void run_quantize() {
    const std::vector<Named> tables = usable_tables();
    Random random = {7};
    constexpr int kInputs = 32 * 64;
    for (int round = 0; round < 40; round++) {
        std::vector<float> x(kInputs);
        for (int b = 0; b < kInputs / 32; b++) {
            const float scale = ldexpf(1.0f, int(random.next() % 250) - 130);
            for (int i = 0; i < 32; i++) x[size_t(32 * b + i)] = random.uniform() * scale;
            float& any = x[size_t(32 * b) + random.next() % 32];
            switch (random.next() % 12) {
                case 0: any = INFINITY; break;
                case 1: any = -INFINITY; break;
                case 2: any = NAN; break;
                case 3: any = -NAN; break;
                case 4: any = float_of_bits(0x7F800001); break;  // signalling
                case 5: any = 3.4028234e38f; break;
                case 6: any = float_of_bits(uint32_t(kActTopMin)); break;
                case 7: any = float_of_bits(uint32_t(kActTopMin) - 1); break;
                case 8:
                    for (int i = 0; i < 32; i++)
                        x[size_t(32 * b + i)] = (i % 2 ? 1.0f : -1.0f) * (float(i) + 0.5f);
                    break;  // ties
                case 9:
                    for (int i = 0; i < 32; i++) x[size_t(32 * b + i)] = i % 2 ? 0.0f : -0.0f;
                    break;
                default: break;
            }
        }
        const int stride = 1 + round % 3;
        std::vector<ActBlock> reference(size_t(kInputs / 32 * stride));
        memset(reference.data(), 0x5A, reference.size() * sizeof(ActBlock));
        tables[0].table.quantize(x.data(), kInputs, reference.data(), stride);
        for (int b = 0; b < kInputs / 32; b++) {  // the definition's corners
            const ActBlock& a = reference[size_t(b * stride)];
            bool finite = true;
            float top = 0;
            for (int i = 0; i < 32; i++) {
                const float v = x[size_t(32 * b + i)];
                finite &= isfinite(v) != 0;
                top = fabsf(v) > top ? fabsf(v) : top;
            }
            int sum = 0, high = 0, largest = 0;
            for (int i = 0; i < 32; i++) {
                sum += a.q[i];
                high += i < 16 ? 0 : a.q[i];
                largest = abs(a.q[i]) > largest ? abs(a.q[i]) : largest;
                if (finite)
                    CHECK(fabs(double(a.q[i]) * a.d - x[size_t(32 * b + i)]) <=
                              (top < 0x1p-110f ? top : 0.5001 * a.d),
                          "block %d input %d", b, i);
            }
            CHECK(finite ? largest == (top < 0x1p-110f ? 0 : 127)
                         : largest == 0 && float_bits(a.d) == 0x7FC00000,
                  "block %d", b);
            CHECK(a.zero8 == -8 * sum && a.zero8_high == -8 * high, "block %d sums", b);
        }
        for (const Named& t : tables) {
            std::vector<ActBlock> act(reference.size());
            memset(act.data(), 0x5A, act.size() * sizeof(ActBlock));
            t.table.quantize(x.data(), kInputs, act.data(), stride);
            CHECK(memcmp(act.data(), reference.data(), act.size() * sizeof(ActBlock)) == 0,
                  "%s quantize round %d", t.name, round);
        }
    }
    // A block that is not a number makes the whole row of its column one, in every table, and
    // leaves other columns alone.
    std::vector<uint8_t> rows = random_rows(Format::q4_k, 40, 256, random);
    std::vector<uint8_t> panels(packed_bytes(Format::q4_k, 40, 256));
    pack_panels(Format::q4_k, rows.data(), 40, 256, 0, 2, panels.data());
    std::vector<float> x = random_columns(2, 256, random);
    x[300] = INFINITY;
    for (const Named& t : tables) {
        const std::vector<ActBlock> act = quantized(t.table, x, 256, 2);
        Output out(40, 2);
        PanelArgs a = {};
        a.weights = panels.data(), a.panel_bytes = panel_bytes(Format::q4_k, 256), a.end = 2,
        a.rows = 40, a.inputs = 256;
        a.act = act.data(), a.columns = 2, a.act_columns = 2, a.out = out.at.data();
        t.table.matvec[int(Format::q4_k)][2](a);
        for (int r = 0; r < 40; r++)
            CHECK(isnan(out.at[1][r]) && isfinite(out.at[0][r]), "%s row %d", t.name, r);
    }
}

std::vector<uint8_t> read_file(const char* path) {
    std::vector<uint8_t> bytes;
    FILE* f = fopen(path, "rb");
    if (!f) printf("no file %s\n", path), exit(2);
    uint8_t buffer[65536];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
        bytes.insert(bytes.end(), buffer, buffer + n);
    fclose(f);
    return bytes;
}

Format format_of(const char* name) {
    for (int f = 0; f < kFormats; f++)
        if (strcmp(name, kNames[f]) == 0) return Format(f);
    printf("no format %s\n", name), exit(2);
}

void run_pack(Format format, int rows, int inputs, const char* in, const char* out) {
    const std::vector<uint8_t> file = read_file(in);
    const size_t row_bytes = panel_bytes(format, inputs) / kPanel;
    CHECK(file.size() == row_bytes * size_t(rows), "input has %zu bytes", file.size());
    const int64_t panels = (rows + kPanel - 1) / kPanel;
    CHECK(packed_bytes(format, rows, inputs) == size_t(panels) * kPanel * row_bytes,
          "packed size is the file's, in whole panels");
    std::vector<uint8_t> packed(packed_bytes(format, rows, inputs), 0xAA), parts = packed;
    pack_panels(format, file.data(), rows, inputs, 0, panels, packed.data());
    for (int64_t p = panels - 1; p >= 0; p--)
        pack_panels(format, file.data(), rows, inputs, p, p + 1, parts.data());
    CHECK(packed == parts, "panels one by one, in any order");
    std::vector<uint8_t> back(file.size());
    std::vector<float> values(size_t(rows) * size_t(inputs)), direct(values.size());
    for (int r = 0; r < rows; r++) {
        unpack_row_bytes(format, packed.data(), r, inputs, &back[size_t(r) * row_bytes]);
        unpack_row(format, packed.data(), r, inputs, &values[size_t(r) * size_t(inputs)]);
        dequantize_row(format, &file[size_t(r) * row_bytes], inputs,
                       &direct[size_t(r) * size_t(inputs)]);
    }
    std::vector<float> beyond(static_cast<size_t>(inputs));
    for (int64_t r = rows; r < panels * kPanel; r++) {
        unpack_row(format, packed.data(), r, inputs, beyond.data());
        bool zero = true;
        for (float v : beyond) zero &= v == 0.0f;
        CHECK(zero, "row %d past the end is zero", int(r));
    }
    std::vector<int32_t> order;
    for (int r = 0; r < rows; r++) order.push_back(int32_t((int64_t(r) * 7 + 3) % rows));
    std::vector<uint8_t> permuted(packed.size()), shuffled(file.size()), expected(packed.size());
    for (int r = 0; r < rows; r++)
        memcpy(&shuffled[size_t(r) * row_bytes], &file[size_t(order[size_t(r)]) * row_bytes],
               row_bytes);
    pack_panels_permuted(format, file.data(), order.data(), rows, inputs, 0, panels,
                         permuted.data());
    pack_panels(format, shuffled.data(), rows, inputs, 0, panels, expected.data());
    CHECK(permuted == expected, "permuted rows");
    FILE* f = fopen(out, "wb");
    CHECK(f && fwrite(back.data(), 1, back.size(), f) == back.size() &&
              fwrite(values.data(), 4, values.size(), f) == values.size() &&
              fwrite(direct.data(), 4, direct.size(), f) == direct.size() && fclose(f) == 0,
          "cannot write %s", out);
}

void run_reference(Format format, int rows, int inputs, int columns, const char* in,
                   const char* out_path) {
    const std::vector<uint8_t> file = read_file(in);
    const size_t weight_bytes = panel_bytes(format, inputs) / kPanel * size_t(rows);
    Case k = {format, rows, inputs, {}, {}, {}, columns};
    k.x.resize(size_t(columns) * size_t(inputs));
    CHECK(file.size() == weight_bytes + 4 * k.x.size(), "input has %zu bytes", file.size());
    memcpy(k.x.data(), &file[weight_bytes], 4 * k.x.size());
    k.panels.resize(packed_bytes(format, rows, inputs));
    pack_panels(format, file.data(), rows, inputs, 0, (rows + kPanel - 1) / kPanel,
                k.panels.data());
    KernelTable t = {};
    generic::fill_matmul(t);
    if (!is_float(format)) k.act = quantized(t, k.x, inputs, columns);
    std::vector<const float*> x;
    for (int c = 0; c < columns; c++) x.push_back(&k.x[size_t(c) * size_t(inputs)]);
    Output out(rows, columns);
    t.matmul[int(format)](args_of(k, columns, k.act, x, out));
    FILE* f = fopen(out_path, "wb");
    CHECK(f && (k.act.empty() ||
                fwrite(k.act.data(), sizeof(ActBlock), k.act.size(), f) == k.act.size()),
          "cannot write");
    for (int c = 0; c < columns; c++)
        CHECK(fwrite(out.at[size_t(c)], 4, size_t(rows), f) == size_t(rows), "cannot write");
    fclose(f);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "tables")
        run_tables(argc > 2 ? uint64_t(atoi(argv[2])) : 1, argc > 3 ? atoi(argv[3]) : 128);
    else if (what == "quantize") run_quantize();
    else if (what == "pack" && argc == 7)
        run_pack(format_of(argv[2]), atoi(argv[3]), atoi(argv[4]), argv[5], argv[6]);
    else if (what == "reference" && argc == 8)
        run_reference(format_of(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), argv[6],
                      argv[7]);
    else if (what == "tables_present") {
        for (const Named& t : usable_tables()) printf("%s\n", t.name);
        return 0;
    } else return printf("see the first lines of matmul_runner.cpp\n"), 2;
    printf("%d checks, %d failures\n", g_checks, g_failures);
    return g_failures != 0;
}
