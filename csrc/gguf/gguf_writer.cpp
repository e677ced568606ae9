#include "gguf/gguf_writer.h"

#include <sys/stat.h>

#include <algorithm>

namespace pillion {
namespace {

constexpr uint32_t kVersion = 3, kQuantizationVersion = 2;

}  // namespace

void GgufHeader::value(const GgufValue& v) {
    text(keys_, v.key);
    if (v.is_array) put(keys_, uint32_t(GgufType::array));
    put(keys_, uint32_t(v.element));
    if (v.is_array) put(keys_, uint64_t(v.count));
    keys_.append(reinterpret_cast<const char*>(v.bytes), v.n_bytes);
    n_keys_++;
}

void GgufHeader::tensor(const NewTensor& t) {
    text(tensors_, t.name), put(tensors_, uint32_t(t.n_dims));
    for (int i = 0; i < t.n_dims; i++) put(tensors_, uint64_t(t.dims[i]));
    put(tensors_, uint32_t(t.dtype)), put(tensors_, uint64_t(offset_));
    offset_ += t.bytes + gguf_padding(t.bytes, alignment_);
    n_tensors_++;
}

size_t GgufHeader::tensor_size(const NewTensor& t) {
    return 8 + t.name.size() + 4 + 8 * size_t(t.n_dims) + 4 + 8;
}
size_t GgufHeader::size() const { return 4 + 4 + 8 + 8 + keys_.size() + tensors_.size(); }

std::string GgufHeader::bytes() const {
    std::string out = "GGUF";
    put(out, version_), put(out, n_tensors_), put(out, n_keys_);
    return out + keys_ + tensors_;
}

bool GgufWriter::writes_itself(std::string_view key) {
    return key == "general.file_type" || key == "general.quantization_version" ||
           key == "general.alignment" || is_split_key(key);
}

void GgufWriter::begin(const GgufFile& from, uint32_t file_type,
                       const std::vector<NewTensor>& tensors) {
    GgufHeader h(kVersion, alignment_);
    for (const GgufValue& v : from.values())
        if (!writes_itself(v.key)) h.value(v);
    h.number("general.quantization_version", GgufType::u32, kQuantizationVersion);
    h.number("general.file_type", GgufType::u32, file_type);
    for (const NewTensor& t : tensors) h.tensor(t);
    begin(h, alignment_);
    end_tensor();
}

void GgufWriter::begin(const GgufHeader& header, size_t alignment) {
    alignment_ = alignment;
    const std::string bytes = header.bytes();
    write(bytes.data(), bytes.size());
}

void GgufWriter::end_tensor(size_t most) {
    static const char zeros[4096] = {};
    for (size_t left = std::min(gguf_padding(written(), alignment_), most); left > 0;) {
        const size_t n = std::min(left, sizeof zeros);
        write(zeros, n);
        left -= n;
    }
}

void refuse_input(const GgufFile& from, const std::string& out) {
    struct stat a, b;
    if (stat(out.c_str(), &b) != 0) return;
    for (const File& file : from.files())
        if (stat(file.path().c_str(), &a) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            fail(Status::invalid_argument, "%s is %s that is read", shown_path(out).c_str(),
                 from.files().size() > 1 ? "a part of the model" : "the file");
}

}  // namespace pillion
