#include "gguf/gguf_join.h"

#include <inttypes.h>
#include <string.h>

#include <algorithm>
#include <memory>

#include "gguf/gguf_writer.h"

namespace pillion {
namespace {

constexpr size_t kSlice = size_t(1) << 20;
constexpr size_t kMaxParts = 65535;  // split.count is a u16 in other writers' files

NewTensor same_tensor(const GgufTensor& t) { return {t.name, t.dtype, t.n_dims, t.dims, t.bytes}; }

// One file of the result: some tensors of the source, in order.
struct Part {
    GgufHeader header;
    size_t first, n;
};

class Copier {
  public:
    Copier(const GgufFile& from, const CopyProgress& progress) : from_(from), progress_(progress) {
        for (const GgufTensor& t : from.tensors()) total_ += t.bytes;
        // Some writers pad the last tensor too; others end the file with it.
        tail_ = from.files().back().size() - from.end();
    }

    std::unique_ptr<GgufWriter> write(const std::string& path, const Part& part) {
        refuse_input(from_, path);
        auto writer = std::make_unique<GgufWriter>(path);
        writer->begin(part.header, from_.alignment());
        const size_t end = part.first + part.n;
        writer->end_tensor(part.n == 0 && end == from_.tensors().size() ? tail_ : SIZE_MAX);
        for (size_t i = part.first; i < end; i++) {
            copy(from_.tensors()[i], *writer);
            writer->end_tensor(i + 1 == from_.tensors().size() ? tail_ : SIZE_MAX);
        }
        writer->close();
        verify(writer->temporary(), part);
        return writer;
    }

  private:
    void copy(const GgufTensor& t, GgufWriter& writer) {
        for (size_t at = 0; at < t.bytes; at += kSlice) {
            const size_t n = std::min(kSlice, t.bytes - at);
            writer.write(t.data + at, n);
            from_.drop(t, at, n);
            done_ += n;
            if (progress_ && !progress_(done_, total_)) fail(Status::cancelled, "cancelled");
        }
    }

    void verify(const std::string& path, const Part& part) const {
        const GgufFile back = GgufFile::parse(File::open(path));
        bool same = back.tensors().size() == part.n && back.alignment() == from_.alignment();
        for (size_t i = 0; same && i < part.n; i++) {
            const GgufTensor &a = from_.tensors()[part.first + i], &b = back.tensors()[i];
            same = a.name == b.name && a.dtype == b.dtype &&
                   memcmp(a.dims, b.dims, sizeof a.dims) == 0 && b.bytes >= a.bytes &&
                   same_bytes(a, b, back);
        }
        if (!same)
            back.fail(Status::file_corrupt,
                      "it was not read back as it was written: the disk may be failing");
    }

    bool same_bytes(const GgufTensor& a, const GgufTensor& b, const GgufFile& back) const {
        for (size_t at = 0; at < a.bytes; at += kSlice) {
            const size_t n = std::min(kSlice, a.bytes - at);
            if (memcmp(a.data + at, b.data + at, n) != 0) return false;
            from_.drop(a, at, n), back.drop(b, at, n);
        }
        return true;
    }

    const GgufFile& from_;
    const CopyProgress& progress_;
    uint64_t done_ = 0, total_ = 0;
    size_t tail_;
};

// Decides which tensors go together.
class Divider {
  public:
    Divider(const GgufFile& from, const SplitLimits& limits) : from_(from), limits_(limits) {}

    std::vector<Part> run() {
        if (limits_.max_bytes == 0 && limits_.max_tensors == 0)
            fail(Status::invalid_argument,
                 "neither the most bytes nor the most tensors of a part were given");
        std::vector<std::pair<size_t, size_t>> ranges = divide();
        if (ranges.size() > kMaxParts)
            fail(Status::invalid_argument,
                 "%zu parts are more than the %zu that a split model can have: allow larger ones",
                 ranges.size(), kMaxParts);
        std::vector<Part> parts;
        for (size_t i = 0; i < ranges.size(); i++) {
            Part part = {keys(i, ranges.size()), ranges[i].first, ranges[i].second};
            for (size_t k = 0; k < part.n; k++)
                part.header.tensor(same_tensor(from_.tensors()[part.first + k]));
            parts.push_back(std::move(part));
        }
        return parts;
    }

  private:
    // The first part has the model's keys; every part has its own split keys.
    GgufHeader keys(size_t part, size_t n_parts) const {
        GgufHeader header(from_.version(), from_.alignment());
        for (const GgufValue& v : from_.values())
            if (!is_split_key(v.key) && (part == 0 || v.key == "general.alignment"))
                header.value(v);
        header.number("split.no", GgufType::u16, uint16_t(part));
        header.number("split.count", GgufType::u16, uint16_t(n_parts));
        header.number("split.tensors.count", GgufType::i32, int32_t(from_.tensors().size()));
        return header;
    }

    std::vector<std::pair<size_t, size_t>> divide() const {
        const size_t n_tensors = from_.tensors().size();
        std::vector<std::pair<size_t, size_t>> ranges = {{0, 0}};
        size_t header = keys(0, 1).size(), data = 0;
        const auto total = [&](size_t h, size_t d) {
            return h + gguf_padding(h, from_.alignment()) + d;
        };
        if (limits_.max_bytes && total(header, 0) > limits_.max_bytes)
            fail(Status::invalid_argument,
                 "the keys alone take %zu bytes, more than the %" PRIu64 " that a part may have",
                 total(header, 0), limits_.max_bytes);
        for (size_t i = 0; i < n_tensors; i++) {
            const NewTensor t = same_tensor(from_.tensors()[i]);
            const size_t t_header = GgufHeader::tensor_size(t),
                         t_data = t.bytes + gguf_padding(t.bytes, from_.alignment());
            const bool full = limits_.max_tensors && ranges.back().second >= limits_.max_tensors;
            if (full || (limits_.max_bytes &&
                         total(header + t_header, data + t_data) > limits_.max_bytes)) {
                header = keys(1, 1).size(), data = 0;
                if (limits_.max_bytes && total(header + t_header, t_data) > limits_.max_bytes)
                    fail(Status::invalid_argument,
                         "tensor %s takes %zu bytes in a part of its own, more than the %" PRIu64
                         " that a part may have",
                         printable(t.name).c_str(), total(header + t_header, t_data),
                         limits_.max_bytes);
                ranges.push_back({i, 0});
            }
            header += t_header, data += t_data;
            ranges.back().second++;
        }
        return ranges;
    }

    const GgufFile& from_;
    SplitLimits limits_;
};

// Finishes all files or none.
void finish_all(std::vector<std::unique_ptr<GgufWriter>>& writers) {
    try {
        for (auto& writer : writers) writer->finish();
    } catch (const Error&) {
        for (auto& writer : writers) writer->withdraw();
        throw;
    }
}

}  // namespace

void join_gguf(const std::string& part, const std::string& out, const CopyProgress& progress) {
    const GgufFile from = GgufFile::open_parts(part);
    if (from.n_parts() == 1 && !from.find("split.count"))
        from.fail(Status::invalid_argument,
                  "this is no part of a split model: there is nothing to join");
    Part whole = {GgufHeader(from.version(), from.alignment()), 0, from.tensors().size()};
    for (const GgufValue& v : from.values())
        if (!is_split_key(v.key)) whole.header.value(v);
    for (const GgufTensor& t : from.tensors()) whole.header.tensor(same_tensor(t));
    Copier(from, progress).write(out, whole)->finish();
}

// A folder's name as prefix would put the parts beside the folder, or name them by a number alone.
static void refuse_folder(const std::string& prefix) {
    const std::string name = prefix.substr(prefix.rfind('/') + 1);
    if (name.empty() || name == "." || name == "..")
        fail(Status::invalid_argument,
             "the prefix '%s' is a folder; it must end in the name of the parts",
             shown_path(prefix).c_str());
}

size_t split_gguf(const std::string& in, const std::string& prefix, const SplitLimits& limits,
                  const CopyProgress& progress) {
    refuse_folder(prefix);
    const GgufFile from = GgufFile::open(in);
    const std::vector<Part> parts = Divider(from, limits).run();
    const bool has_ending = prefix.size() > 5 && prefix.compare(prefix.size() - 5, 5, ".gguf") == 0;
    const std::string stem = has_ending ? prefix.substr(0, prefix.size() - 5) : prefix;
    std::vector<std::string> names;
    for (size_t i = 0; i < parts.size(); i++) {
        names.push_back(gguf_part_name(stem, i + 1, parts.size()));
        refuse_input(from, names.back());  // before anything is written
    }
    Copier copier(from, progress);
    std::vector<std::unique_ptr<GgufWriter>> writers;
    for (size_t i = 0; i < parts.size(); i++) writers.push_back(copier.write(names[i], parts[i]));
    finish_all(writers);
    return parts.size();
}

}  // namespace pillion
