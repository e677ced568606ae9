#include "quantize/quantize.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include <algorithm>
#include <mutex>
#include <regex>

#include "core/cpu_count.h"
#include "core/expand.h"
#include "core/parallel.h"
#include "gguf/gguf_writer.h"
#include "quantize/encode.h"

namespace pillion {
namespace {

enum class Mix : uint8_t { none, small, medium };

// The types that a caller may ask for. file_type: general.file_type of the GGUF specification.
struct FileType {
    const char* name;
    DType base;
    Mix mix;
    uint32_t file_type;
};
const FileType kFileTypes[] = {
    {"F32", DType::f32, Mix::none, 0},       {"F16", DType::f16, Mix::none, 1},
    {"BF16", DType::bf16, Mix::none, 32},    {"Q8_0", DType::q8_0, Mix::none, 7},
    {"Q4_0", DType::q4_0, Mix::none, 2},     {"Q4_1", DType::q4_1, Mix::none, 3},
    {"Q5_0", DType::q5_0, Mix::none, 8},     {"Q5_1", DType::q5_1, Mix::none, 9},
    {"Q4_K_S", DType::q4_k, Mix::small, 14}, {"Q4_K_M", DType::q4_k, Mix::medium, 15},
    {"Q5_K_S", DType::q5_k, Mix::small, 16}, {"Q5_K_M", DType::q5_k, Mix::medium, 17},
    {"Q6_K", DType::q6_k, Mix::none, 18},
};
const FileType& file_type(const std::string& name) {
    for (const FileType& t : kFileTypes)
        if (strcasecmp(t.name, name.c_str()) == 0) return t;
    fail(Status::invalid_argument, "type %s can't be written; quantize writes %s",
         printable(name).c_str(), quantize_types().c_str());
}

DType tensor_type(const std::string& name) {
    for (const DType d :
         {DType::f32, DType::f16, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
          DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k})
        if (strcasecmp(info(d).name, name.c_str()) == 0) return d;
    fail(Status::invalid_argument,
         "tensor type %s can't be written; quantize writes F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, "
         "Q8_0, Q4_K, "
         "Q5_K, Q6_K",
         printable(name).c_str());
}

bool ends_with(std::string_view s, std::string_view end) {
    return s.size() >= end.size() && s.substr(s.size() - end.size()) == end;
}
bool begins_with(std::string_view s, std::string_view begin) {
    return s.substr(0, begin.size()) == begin;
}
bool is_float(DType d) { return d == DType::f32 || d == DType::f16 || d == DType::bf16; }

// Why a tensor keeps its type; null if it does not. Such tensors are small, and their errors affect
// everything.
const char* exact_because(const GgufTensor& t) {
    if (t.dtype != DType::f64 && !info(t.dtype).is_quantized && !is_float(t.dtype))
        return "integers";
    if (t.dtype == DType::f64) return "f64";
    if (t.n_dims < 2 || t.dims[1] * t.dims[2] * t.dims[3] == 1) return "vector";
    if (ends_with(t.name, "norm.weight")) return "norm";
    if (ends_with(t.name, "ffn_gate_inp.weight")) return "router";
    if (ends_with(t.name, ".scale")) return "scale";
    if (begins_with(t.name, "rope_freqs")) return "rotation factors";
    if (begins_with(t.name, "masked_embd_")) return "centroid head";
    return nullptr;
}

bool contains(std::string_view s, std::string_view part) {
    return s.find(part) != std::string_view::npos;
}

// The same of an mmproj file, where readers of all programs take these for F32.
const char* exact_in_towers_because(const GgufTensor& t) {
    if (contains(t.name, "position_embd")) return "position table";
    if (contains(t.name, "conv1d") || contains(t.name, "conv_dw")) return "convolution";
    if (begins_with(t.name, "a.input_projection")) return "projection of a convolution";
    return exact_because(t);
}

bool is_patch_embedding(const GgufTensor& t) { return ends_with(t.name, "patch_embd.weight"); }

// True for the first and last eighth of the layers and every third layer between: they get more
// bits, as in llama.cpp's "M" mixes.
bool favoured(size_t i, size_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

constexpr size_t kSliceValues = 1 << 18;

// FNV-1a over words. It detects a change by a disk or by a bug here.
uint64_t fold(uint64_t sum, const uint8_t* bytes, size_t n) {
    for (; n >= 8; bytes += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        sum = (sum ^ word) * 0x100000001B3ull;
        sum ^= sum >> 29;
    }
    for (; n > 0; bytes++, n--) sum = (sum ^ *bytes) * 0x100000001B3ull;
    return sum;
}
constexpr uint64_t kFoldStart = 0xCBF29CE484222325ull;

// Index of the first value that is not finite; the size if all are.
size_t first_broken(const std::vector<float>& x) {
    int broken = 0;
    for (const float v : x) broken |= !(fabsf(v) <= FLT_MAX);
    return broken ? size_t(std::find_if(x.begin(), x.end(),
                                        [](float v) { return !std::isfinite(v); }) -
                           x.begin())
                  : x.size();
}

// Adds the squares of x and of y - x, in lanes, so that the compiler may use vectors.
void add_squares(const std::vector<float>& x, const std::vector<float>& y, double& squares,
                 double& errors) {
    constexpr size_t kLanes = 4;
    double s[kLanes] = {}, e[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= x.size(); i += kLanes)
        for (size_t k = 0; k < kLanes; k++) {
            const double a = double(x[i + k]), d = double(y[i + k]) - a;
            s[k] += a * a, e[k] += d * d;
        }
    for (; i < x.size(); i++)
        s[0] += double(x[i]) * double(x[i]),
            e[0] += (double(y[i]) - double(x[i])) * (double(y[i]) - double(x[i]));
    squares += (s[0] + s[1]) + (s[2] + s[3]), errors += (e[0] + e[1]) + (e[2] + e[3]);
}

}  // namespace

std::string quantize_types() {
    std::string out;
    for (const FileType& t : kFileTypes) out += std::string(out.empty() ? "" : ", ") + t.name;
    return out;
}

Quantization::Quantization(const std::string& path, const QuantizeOptions& options)
    : file_(GgufFile::open(path)), options_(options),
      has_towers_(file_.string("general.architecture", "") == "clip") {
    if (options_.n_threads < 0)
        fail(Status::invalid_argument, "n_threads %d must not be negative", options_.n_threads);
    if (options_.n_threads == 0) options_.n_threads = usable_cpus();
    options_.n_threads = std::min(options_.n_threads, 256);
    plan();
    override_types();
    for (PlannedTensor& t : tensors_)
        t.bytes = t.target == t.source->dtype ? t.source->bytes
                                              : row_bytes(t.target, t.source->n_values());
    if (!options_.imatrix.empty()) load_importance();
}

size_t Quantization::bytes() const {
    size_t n = 0;
    for (const PlannedTensor& t : tensors_) n += t.bytes;
    return n;
}

void Quantization::plan() {
    size_t n_v = 0, n_down = 0;
    const auto is_v = [](std::string_view name) { return ends_with(name, "attn_v.weight"); };
    const auto is_down = [](std::string_view name) {
        return ends_with(name, "ffn_down.weight") || ends_with(name, "ffn_down_exps.weight");
    };
    const size_t n_layers = size_t(file_.integer_or(
        std::string(file_.string("general.architecture", "")) + ".block_count", 0, 0, 1 << 20));
    for (const GgufTensor& t : file_.tensors()) {
        if (!t.is_known())
            file_.fail(Status::unsupported_model,
                       "tensor %s has %s, which can't be read for quantizing",
                       printable(t.name).c_str(), gguf_tensor_type_text(t.dtype).c_str());
        PlannedTensor p = {&t, t.dtype, 0, ""};
        const size_t nth = is_v(t.name) ? n_v++ : is_down(t.name) ? n_down++ : 0;
        choose(p, nth, n_layers);
        tensors_.push_back(std::move(p));
    }
}

void Quantization::choose(PlannedTensor& t, size_t nth, size_t n_layers) const {
    const FileType& type = file_type(options_.type);
    const GgufTensor& s = *t.source;
    if (const char* why = stays_because(s)) {
        if (has_towers_ && is_float(s.dtype)) t.target = DType::f32;
        t.reason = why;
        return;
    }
    t.target = type.base;
    const auto prefer = [&](DType d, const char* why) { t.target = d, t.reason = why; };
    if (!options_.pure && !is_float(type.base) && !has_towers_) {
        const bool head = s.name == "output.weight" ||
                          (s.name == "token_embd.weight" && !file_.find_tensor("output.weight"));
        const bool v = ends_with(s.name, "attn_v.weight"),
                   down = s.name.find("ffn_down") != std::string_view::npos;
        if (head && type.base != DType::q8_0) prefer(DType::q6_k, "output head");
        else if (type.mix == Mix::medium && (v || down) && favoured(nth, n_layers))
            prefer(DType::q6_k, "mix: more bits");
        else if (type.base == DType::q4_k && type.mix == Mix::small && v && nth < 4)
            prefer(DType::q5_k, "mix: more bits");
        else if (type.base == DType::q4_k && type.mix == Mix::small && down && nth < n_layers / 8)
            prefer(DType::q5_k, "mix: more bits");
    }
    if (s.dims[0] % info(t.target).block == 0) return;
    const DType wanted = t.target;
    switch (wanted) {
        case DType::q4_k: t.target = DType::q5_0; break;
        case DType::q5_k: t.target = DType::q5_1; break;
        case DType::q6_k: t.target = DType::q8_0; break;
        default: t.target = DType::f16; break;
    }
    if (s.dims[0] % info(t.target).block) t.target = DType::f16;
    t.reason =
        "rows of " + std::to_string(s.dims[0]) + " are no whole blocks of " + info(wanted).name;
}

const char* Quantization::stays_because(const GgufTensor& t) const {
    if (!has_towers_) return exact_because(t);
    if (is_patch_embedding(t) && file_type(options_.type).base != DType::f16)
        return "patch embedding";
    return exact_in_towers_because(t);
}

// The tensors that a pattern means. A tensor's full name means that tensor; any other pattern is a
// regular expression that may match anywhere in a name.
std::vector<PlannedTensor*> Quantization::meant(const std::string& pattern) {
    std::vector<PlannedTensor*> found;
    try {
        const std::regex expression(pattern);
        const bool is_name = file_.find_tensor(pattern) != nullptr;
        for (PlannedTensor& t : tensors_)
            if (is_name ? t.source->name == pattern
                        : std::regex_search(std::string(t.source->name), expression))
                found.push_back(&t);
    } catch (const std::regex_error&) {
        fail(Status::invalid_argument, "%s is no regular expression", printable(pattern).c_str());
    }
    return found;
}

void Quantization::override_types() {
    for (const auto& [pattern, type] : options_.overrides) {
        const DType d = tensor_type(type);
        // the last matching tensor that keeps its type
        const GgufTensor* exact = nullptr;
        bool fits = false;
        for (PlannedTensor* t : meant(pattern)) {
            const std::string name = printable(t->source->name);
            if (stays_because(*t->source)) {
                exact = t->source;
                continue;
            }
            fits = true;
            if (t->source->dims[0] % info(d).block)
                fail(Status::invalid_argument,
                     "tensor %s: rows of %lld are no whole blocks of %s, which hold %d",
                     name.c_str(), (long long)t->source->dims[0], info(d).name, info(d).block);
            t->target = d, t->reason = "asked for";
        }
        if (!fits && exact)
            fail(Status::invalid_argument, "tensor %s stays as it is (%s)",
                 printable(exact->name).c_str(), stays_because(*exact));
        if (!fits)
            fail(Status::invalid_argument, "no tensor is called %s", printable(pattern).c_str());
    }
    for (const PlannedTensor& t : tensors_) {
        if (t.target == t.source->dtype) continue;
        if (!can_read(t.source->dtype))
            file_.fail(Status::unsupported_model, "tensor %s: type %s can't be read for quantizing",
                       printable(t.source->name).c_str(), info(t.source->dtype).name);
        if (info(t.source->dtype).is_quantized && !options_.allow_requantize)
            file_.fail(Status::invalid_argument,
                       "tensor %s is %s already; quantizing it again loses twice: start from the "
                       "original, or pass allow_requantize",
                       printable(t.source->name).c_str(), info(t.source->dtype).name);
    }
}

// ---- importance matrix ----

// An importance matrix has tensors NAME.in_sum2 [inputs, matrices] and NAME.counts [1, matrices].
// The result is the mean square of each input over the rows that reached it.
void Quantization::load_importance() {
    const GgufFile m = [&] {
        try {
            return GgufFile::open(options_.imatrix);
        } catch (const Error& e) {
            fail(e.code(),
                 "%s (an importance matrix is a GGUF file; llama.cpp converts older ones)",
                 e.what());
        }
    }();
    if (m.string("general.type", "") != "imatrix")
        m.fail(Status::unsupported_model, "general.type is %s, an importance matrix has imatrix",
               printable(m.string("general.type", "")).c_str());
    for (const PlannedTensor& t : tensors_) {
        const std::string name(t.source->name);
        const GgufTensor *sums = m.find_tensor(name + ".in_sum2"),
                         *counts = m.find_tensor(name + ".counts");
        if (!sums || !counts) continue;
        const int64_t n_in = t.source->dims[0], n_matrices = t.source->dims[2];
        if (sums->dtype != DType::f32 || counts->dtype != DType::f32 || sums->dims[0] != n_in ||
            sums->n_values() != n_in * n_matrices || counts->n_values() != n_matrices)
            m.fail(Status::file_corrupt,
                   "tensor %s.in_sum2 does not fit %lld inputs of %lld matrices",
                   printable(name).c_str(), (long long)n_in, (long long)n_matrices);
        std::vector<float> mean(size_t(n_in * n_matrices), 1.0f);
        for (int64_t k = 0; k < n_matrices; k++) {
            float count;
            memcpy(&count, counts->data + 4 * k, 4);
            // For an expert that no row reached, all inputs count the same.
            for (int64_t i = 0; i < n_in && count > 0; i++) {
                float sum;
                memcpy(&sum, sums->data + 4 * (k * n_in + i), 4);
                if (!(sum >= 0) || !std::isfinite(sum))
                    m.fail(Status::file_corrupt, "tensor %s.in_sum2, entry %lld is %g",
                           printable(name).c_str(), (long long)(k * n_in + i), double(sum));
                mean[size_t(k * n_in + i)] = sum / count;
            }
        }
        importance_.push_back({t.source->name, std::move(mean)});
    }
    if (importance_.empty())
        m.fail(Status::invalid_argument, "no tensor of %s is in it", file_.path().c_str());
}

const float* Quantization::importance(const GgufTensor& t) const {
    for (const auto& [name, values] : importance_)
        if (name == t.name) return values.data();
    return nullptr;
}

// ---- run ----

void Quantization::run(const std::string& out,
                       const std::function<bool(uint64_t, uint64_t)>& progress) {
    refuse_input(file_, out);
    GgufWriter writer(out);
    std::vector<NewTensor> news;
    uint64_t total = 0, done = 0;
    for (const PlannedTensor& t : tensors_) {
        news.push_back({t.source->name, t.target, t.source->n_dims, t.source->dims, t.bytes});
        total += t.source->bytes;
    }
    writer.begin(file_, file_type(options_.type).file_type, news);
    std::vector<uint64_t> sums;
    for (PlannedTensor& t : tensors_) {
        sums.push_back(encode(t, writer, [&](size_t n) {
            done += n;
            if (progress && !progress(done, total)) fail(Status::cancelled, "cancelled");
        }));
        writer.end_tensor();
    }
    writer.close();
    verify(writer.temporary(), sums);
    writer.finish();
}

// Quantizes slices of rows, a few per thread at a time. Returns the checksum of the written bytes.
uint64_t Quantization::encode(PlannedTensor& t, GgufWriter& writer,
                              const std::function<void(size_t)>& done) const {
    const GgufTensor& s = *t.source;
    uint64_t sum = kFoldStart;
    const int64_t width = s.dims[0], rows = s.n_values() / width;
    if (t.target == s.dtype) {
        for (size_t at = 0; at < s.bytes; at += kSliceValues) {
            const size_t n = std::min(kSliceValues, s.bytes - at);
            writer.write(s.data + at, n);
            sum = fold(sum, s.data + at, n);
            file_.drop(s, at, n);
            done(n);
        }
        return sum;
    }
    const size_t in_row = row_bytes(s.dtype, width), out_row = row_bytes(t.target, width);
    const int64_t slice = std::max<int64_t>(1, int64_t(kSliceValues) / width);
    const int64_t batch = slice * 4 * options_.n_threads;
    std::vector<uint8_t> result(size_t(std::min(batch, rows)) * out_row);
    const float* weights = importance(s);
    double error = 0, squares = 0;
    std::mutex mutex;
    for (int64_t first = 0; first < rows; first += batch) {
        const int64_t n = std::min(batch, rows - first);
        parallel_for(options_.n_threads, size_t((n + slice - 1) / slice), [&](size_t piece) {
            const size_t columns = size_t(width);
            std::vector<float> x(columns), y(columns);
            double e = 0, q = 0;
            const int64_t end = std::min(n, int64_t(piece + 1) * slice);
            for (int64_t r = int64_t(piece) * slice; r < end; r++) {
                read_row(s.dtype, s.data + size_t(first + r) * in_row, width, x.data());
                if (const size_t i = first_broken(x); i < columns)
                    file_.fail(Status::file_corrupt, "tensor %s, row %lld, column %zu is %g",
                               printable(s.name).c_str(), (long long)(first + r), i, double(x[i]));
                uint8_t* to = result.data() + size_t(r) * out_row;
                encode_row(t.target, x.data(),
                           weights ? weights + (first + r) / s.dims[1] * width : nullptr, width,
                           to);
                read_row(t.target, to, width, y.data());
                add_squares(x, y, q, e);
            }
            const std::lock_guard<std::mutex> lock(mutex);
            error += e, squares += q;
        });
        writer.write(result.data(), size_t(n) * out_row);
        sum = fold(sum, result.data(), size_t(n) * out_row);
        file_.drop(s, size_t(first) * in_row, size_t(n) * in_row);
        done(size_t(n) * in_row);
    }
    t.error = squares > 0 ? sqrt(error / squares) : 0;
    if (!(t.error < 1))
        file_.fail(
            Status::unsupported_model,
            "tensor %s loses itself as %s (relative error %g): its values do not fit the type",
            printable(s.name).c_str(), info(t.target).name, t.error);
    return sum;
}

void Quantization::verify(const std::string& path, const std::vector<uint64_t>& sums) const {
    const GgufFile back = GgufFile::open(path);
    if (back.tensors().size() != tensors_.size())
        back.fail(Status::internal, "read back %zu tensors of %zu", back.tensors().size(),
                  tensors_.size());
    for (const GgufValue& v : file_.values()) {
        if (GgufWriter::writes_itself(v.key)) continue;
        const GgufValue* w = back.find(v.key);
        if (!w || w->n_bytes != v.n_bytes || memcmp(w->bytes, v.bytes, v.n_bytes) != 0)
            back.fail(Status::file_corrupt, "key %s was not read back as it was written",
                      printable(v.key).c_str());
    }
    for (size_t i = 0; i < tensors_.size(); i++) {
        const GgufTensor& t = back.tensors()[i];
        uint64_t sum = kFoldStart;
        for (size_t at = 0; at < t.bytes; at += kSliceValues * 4) {
            const size_t n = std::min(kSliceValues * 4, t.bytes - at);
            sum = fold(sum, t.data + at, n);
            back.drop(t, at, n);
        }
        if (t.dtype != tensors_[i].target || t.bytes != tensors_[i].bytes || sum != sums[i])
            back.fail(Status::file_corrupt,
                      "tensor %s was not read back as it was written: the disk may be failing",
                      printable(t.name).c_str());
    }
}

}  // namespace pillion
