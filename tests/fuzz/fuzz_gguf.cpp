// Fuzz entry for the GGUF reader and the readers of its metadata. Only Error may leave it; anything
// else is a bug.
//   clang++ -fsanitize=fuzzer,address,undefined -Icsrc tests/fuzz/fuzz_gguf.cpp csrc/core/...
//           csrc/model/...
// Without libFuzzer, -DPILLION_FUZZ_MAIN adds a main. With file names it replays them. With
// --stream it reads cases from stdin, each behind a little-endian u32 length, and prints for each
// case the status code and the sentence ("0" on success).
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

#include "gguf/gguf.h"
#include "model/centroid_head.h"
#include "model/hparams.h"
#include "model/tensor_check.h"

using namespace pillion;

namespace {

volatile uint64_t g_sink;  // keeps reads alive

// One getter call: a refusal is as good as a value.
template <class F>
void attempt(F f) {
    try {
        f();
    } catch (const Error&) {
    }
}

void touch_values(const GgufFile& file) {
    for (const std::string& key : file.shown_keys()) PILLION_CHECK(file.find_shown(key) != nullptr);
    for (const GgufValue& v : file.values()) {
        g_sink = g_sink + to_json(v).size() + to_json(v, 3).size();
        PILLION_CHECK(file.find_shown(v.key) == &v);
        attempt([&] { g_sink = g_sink + uint64_t(file.integer(v.key)); });
        attempt([&] { g_sink = g_sink + (file.f32(v.key) > 0); });
        attempt([&] { g_sink = g_sink + file.boolean(v.key); });
        attempt([&] { g_sink = g_sink + file.string(v.key).size(); });
        attempt([&] { g_sink = g_sink + file.strings(v.key).size(); });
        attempt([&] { g_sink = g_sink + file.int32s(v.key).size(); });
        attempt([&] { g_sink = g_sink + file.float32s(v.key).size(); });
        attempt([&] { g_sink = g_sink + file.booleans(v.key).size(); });
        attempt([&] { g_sink = g_sink + file.per_layer(v.key, 4).size(); });
    }
}

void touch_tensors(const GgufFile& file) {
    for (const GgufTensor& t : file.tensors()) {
        PILLION_CHECK(file.find_tensor(t.name) == &t);
        for (size_t i = 0; i < t.bytes; ++i) g_sink = g_sink + t.data[i];
        file.files()[t.part].will_need(t.offset, t.bytes);
        file.drop(t, 0, t.bytes);
    }
}

void exercise(const uint8_t* data, size_t size) {
    const GgufFile file = GgufFile::parse(File::from_bytes(data, size, "case.gguf"));
    touch_values(file);
    touch_tensors(file);
    const HParams hparams = read_hparams(file);
    if (hparams.centroid_head != CentroidHead::none)
        g_sink = g_sink + read_centroid_order(file, hparams).size();
    g_sink = g_sink + inspect_tensors(file, hparams).problems.size();
    check_tensors(file, hparams);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        exercise(data, size);
    } catch (const Error& e) {
        if (e.code() == Status::internal) __builtin_trap();
    }
    return 0;
}

#ifdef PILLION_FUZZ_MAIN
namespace {

bool read_exactly(void* to, size_t n) { return fread(to, 1, n, stdin) == n; }

void stream() {
    uint32_t size;
    while (read_exactly(&size, sizeof size)) {
        std::vector<uint8_t> bytes(size);
        if (!read_exactly(bytes.data(), size)) break;
        try {
            exercise(bytes.data(), bytes.size());
            puts("0");
        } catch (const Error& e) {
            printf("%d %s\n", int(e.code()), e.what());
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && !strcmp(argv[1], "--stream")) {
        stream();
        return 0;
    }
    for (int i = 1; i < argc; ++i) {
        const File file = File::open(argv[i], /*use_mmap=*/false);
        LLVMFuzzerTestOneInput(file.data(), file.size());
    }
    return 0;
}
#endif
