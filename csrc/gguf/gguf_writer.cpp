#include "gguf/gguf_writer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace pillion {
namespace {

constexpr uint32_t kVersion = 3, kQuantizationVersion = 2;

// rename() would replace a device or a FIFO by a file, and would fail on a folder after all the
// work.
void refuse_what_is_no_file(const std::string& path) {
    struct stat there;
    if (stat(path.c_str(), &there) != 0 || S_ISREG(there.st_mode)) return;
    fail(Status::invalid_argument, "%s: cannot be written: it is %s", shown_path(path).c_str(),
         S_ISDIR(there.st_mode) ? "a directory" : "not a regular file");
}

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

GgufWriter::GgufWriter(const std::string& path)
    : path_(path), temporary_(path + "." + std::to_string(getpid()) + ".part") {
    refuse_what_is_no_file(path);
    file_ = fopen(temporary_.c_str(), "wbx");
    if (!file_)
        fail(Status::file_not_found, "%s: cannot be written: %s", shown_path(path_).c_str(),
             strerror(errno));
    setvbuf(file_, nullptr, _IOFBF, 1 << 20);
}

GgufWriter::~GgufWriter() {
    if (file_) fclose(file_);
    if (!finished_) unlink(temporary_.c_str());
}

void GgufWriter::no_room(const char* what) const {
    fail(Status::file_corrupt, "%s: %s failed after %zu bytes: %s", shown_path(path_).c_str(), what,
         written_, strerror(errno));
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

void GgufWriter::write(const void* bytes, size_t n) {
    if (fwrite(bytes, 1, n, file_) != n) no_room("writing");
    written_ += n;
}

void GgufWriter::end_tensor(size_t most) {
    static const char zeros[4096] = {};
    for (size_t left = std::min(gguf_padding(written_, alignment_), most); left > 0;) {
        const size_t n = std::min(left, sizeof zeros);
        write(zeros, n);
        left -= n;
    }
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

void GgufWriter::withdraw() noexcept {
    if (finished_) unlink(path_.c_str());
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
