// Fuzzes pillion_quantization_* with a GGUF file made from the input, sometimes with an importance
// matrix made from it too. A run that succeeds leaves a file that opens; a run that fails leaves no
// file.
#include <math.h>

#include "checked_call.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;
using fuzz::ok;

namespace {

// Sums and counts for the matrices of a tiny model, then edits.
std::vector<uint8_t> read_imatrix(const fuzz::TinyFile& model, Input& in) {
    fuzz::TinyFile f;
    f.add("general.type", std::string("imatrix"));
    for (const fuzz::TinyTensor& t : model.tensors) {
        if (t.dims.size() < 2 || in.chance(60)) continue;
        const uint64_t depth = t.dims.size() > 2 ? t.dims[2] : 1;
        f.tensor(t.name + ".in_sum2", pillion::DType::f32, {t.dims[0], depth});
        f.tensor(t.name + ".counts", pillion::DType::f32, {1, depth});
        if (in.chance(10))
            f.tensors.back().fill = f.tensors[f.tensors.size() - 2].fill =
                fuzz::Fill(in.byte() % uint8_t(fuzz::Fill::kinds));
    }
    for (int n = in.byte() % 3; n > 0; n--)
        in.chance(60) ? fuzz::edit_key(f, in) : fuzz::edit_tensor(f, in);
    return f.serialize();
}

void look_at(const pillion_quantization* q) {
    size_t n = 0;
    uint64_t bytes = 0;
    ok(pillion_quantization_count(q, &n, &bytes));
    for (size_t i = 0; i < n; i++) {
        pillion_quantized_tensor t;
        if (!ok(pillion_quantization_tensor(q, i, &t, sizeof t)))
            broken("a tensor that was counted is not there");
        if (!memchr(t.name, 0, sizeof t.name) || !memchr(t.reason, 0, sizeof t.reason))
            broken("a text without its end");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static constexpr const char* kTypes[] = {"Q4_K_M", "F32",    "F16",  "BF16", "Q8_0",
                                             "Q4_0",   "Q4_1",   "Q5_0", "Q5_1", "Q4_K_S",
                                             "Q5_K_S", "Q5_K_M", "Q6_K", "Q9",   ""};
    static constexpr const char* kNames[] = {"token_embd.weight",   "ffn_.*",
                                             "attn_[qk]",           "(",
                                             "blk.0.attn_q.weight", "[",
                                             "output_norm.weight"};
    static const std::string out = "/tmp/pillion-fuzz-" + std::to_string(getpid()) + ".gguf";
    Input in(data, size);
    pillion_quantize_config config;
    pillion_quantize_config_init(&config, sizeof config);
    const uint8_t bits = in.byte();
    config.pure = bits & 1, config.allow_requantize = bits >> 1 & 1,
    config.n_threads = 1 + (bits >> 2 & 1), config.type = in.pick(kTypes);
    const char *names[2] = {in.pick(kNames), in.pick(kNames)},
               *types[2] = {in.pick(kTypes), in.pick(kTypes)};
    if (bits & 8)
        config.n_overrides = 1 + (bits >> 4 & 1), config.override_names = names,
        config.override_types = types;
    fuzz::TinyFile model = fuzz::tiny_model(fuzz::read_sizes(in));
    for (int n = in.byte() % 4; n > 0; n--)
        in.chance(60) ? fuzz::edit_key(model, in) : fuzz::edit_tensor(model, in);
    const fuzz::MemoryFile file(model.serialize()),
        matrix(bits & 32 ? read_imatrix(model, in) : std::vector<uint8_t>(1));
    if (bits & 32) config.imatrix = matrix.path();
    pillion_quantization* q = nullptr;
    if (!ok(pillion_quantization_new(file.path(), &config, &q))) return 0;
    look_at(q);
    int left = bits & 128 ? in.byte() : 1 << 30;
    const auto progress = [](uint64_t, uint64_t, void* n) -> int32_t {
        return --*static_cast<int*>(n) < 0;
    };
    const bool done = ok(pillion_quantization_run(q, out.c_str(), progress, &left));
    look_at(q);
    pillion_quantization_free(q);
    if (done != (access(out.c_str(), F_OK) == 0))
        broken("a failed run left a file, or a good one none");
    if (!done) return 0;
    size_t n = 0;
    if (pillion_file_json(out.c_str(), 1, nullptr, 0, &n) != PILLION_ERROR_BUFFER_TOO_SMALL)
        broken("what was written can't be read:", pillion_last_error());
    unlink(out.c_str());
    return 0;
}
