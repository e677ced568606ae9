#include "model/gguf_writer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

namespace pillion {
namespace {

constexpr size_t kAlignment = 32;
constexpr uint32_t kVersion = 3, kQuantizationVersion = 2;

size_t padding(size_t n) { return (kAlignment - n % kAlignment) % kAlignment; }

class Header {
  public:
    template <class T>
    void put(T v) { bytes_.append(reinterpret_cast<const char*>(&v), sizeof v); }
    void text(std::string_view s) { put(uint64_t(s.size())), bytes_.append(s); }
    void raw(const uint8_t* p, size_t n) { bytes_.append(reinterpret_cast<const char*>(p), n); }
    void number(std::string_view key, uint32_t v) { text(key), put(uint32_t(GgufType::u32)), put(v); }
    void value(const GgufValue& v) {
        text(v.key);
        if (v.is_array) put(uint32_t(GgufType::array));
        put(uint32_t(v.element));
        if (v.is_array) put(uint64_t(v.count));
        raw(v.bytes, v.n_bytes);
    }
    void pad() { bytes_.append(padding(bytes_.size()), '\0'); }
    const std::string& bytes() const { return bytes_; }

  private:
    std::string bytes_;
};

}  // namespace

GgufWriter::GgufWriter(const std::string& path) : path_(path), temporary_(path + "." + std::to_string(getpid()) + ".part") {
    file_ = fopen(temporary_.c_str(), "wbx");
    if (!file_) fail(Status::file_not_found, "%s: cannot be written: %s", shown_path(path_).c_str(), strerror(errno));
    setvbuf(file_, nullptr, _IOFBF, 1 << 20);
}

GgufWriter::~GgufWriter() {
    if (file_) fclose(file_);
    if (!finished_) unlink(temporary_.c_str());
}

void GgufWriter::no_room(const char* what) const {
    fail(Status::file_corrupt, "%s: %s failed after %zu bytes: %s", shown_path(path_).c_str(), what, written_, strerror(errno));
}

bool GgufWriter::writes_itself(std::string_view key) {
    return key == "general.file_type" || key == "general.quantization_version" || key == "general.alignment";
}

void GgufWriter::begin(const GgufFile& from, uint32_t file_type, const std::vector<NewTensor>& tensors) {
    uint64_t n_keys = 2;
    for (const GgufValue& v : from.values()) n_keys += !writes_itself(v.key);
    Header h;
    h.raw(reinterpret_cast<const uint8_t*>("GGUF"), 4);
    h.put(kVersion), h.put(uint64_t(tensors.size())), h.put(n_keys);
    for (const GgufValue& v : from.values())
        if (!writes_itself(v.key)) h.value(v);
    h.number("general.quantization_version", kQuantizationVersion), h.number("general.file_type", file_type);
    uint64_t offset = 0;
    for (const NewTensor& t : tensors) {
        h.text(t.name), h.put(uint32_t(t.n_dims));
        for (int i = 0; i < t.n_dims; i++) h.put(uint64_t(t.dims[i]));
        h.put(uint32_t(t.dtype)), h.put(offset);
        offset += t.bytes + padding(t.bytes);
    }
    h.pad();
    write(h.bytes().data(), h.bytes().size());
}

void GgufWriter::write(const void* bytes, size_t n) {
    if (fwrite(bytes, 1, n, file_) != n) no_room("writing");
    written_ += n;
}

void GgufWriter::end_tensor() {
    static const char zeros[kAlignment] = {};
    write(zeros, padding(written_));
}

void GgufWriter::close() {
    if (fflush(file_) != 0 || fsync(fileno(file_)) != 0) no_room("writing");
    FILE* file = file_;
    file_ = nullptr;
    if (fclose(file) != 0) no_room("closing");
}

void GgufWriter::finish() {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) no_room("renaming");
    finished_ = true;
}

}  // namespace pillion
