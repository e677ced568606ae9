// Writes a GGUF file: metadata copied from an open one, then tensors in order. Until finish() the
// file has another name in the same folder.
#pragma once
#include <string>
#include <vector>

#include "core/new_file.h"
#include "gguf/gguf.h"

namespace pillion {

struct NewTensor {
    std::string_view name;
    DType dtype;
    int n_dims;
    const int64_t* dims;
    size_t bytes;
};

inline size_t gguf_padding(size_t n, size_t alignment) {
    return (alignment - n % alignment) % alignment;
}

// Builds a header: keys, then tensors. The tensors will lie in this order, with only the
// alignment's padding between them.
class GgufHeader {
  public:
    GgufHeader(uint32_t version, size_t alignment) : version_(version), alignment_(alignment) {}

    void value(const GgufValue& value);  // byte for byte
    template <class T>
    void number(std::string_view key, GgufType type, T v) {
        text(keys_, key), put(keys_, uint32_t(type)), put(keys_, v);
        n_keys_++;
    }
    void tensor(const NewTensor& tensor);

    size_t size() const;                           // size of bytes(), without the padding behind it
    size_t data_bytes() const { return offset_; }  // of the tensors, with padding
    static size_t tensor_size(const NewTensor& tensor);  // bytes that a tensor adds to size()
    std::string bytes() const;                           // without padding

  private:
    template <class T>
    static void put(std::string& to, T v) {
        to.append(reinterpret_cast<const char*>(&v), sizeof v);
    }
    static void text(std::string& to, std::string_view s) {
        put(to, uint64_t(s.size())), to.append(s);
    }

    uint32_t version_;
    size_t alignment_, offset_ = 0;
    uint64_t n_keys_ = 0, n_tensors_ = 0;
    std::string keys_, tensors_;
};

class GgufWriter {
  public:
    explicit GgufWriter(const std::string& path) : file_(path) {}  // throws what NewFile throws

    // Copies all keys of `from`, byte for byte, except those that the writer sets (file type,
    // quantization version, alignment) and those that describe a division into several files.
    // writes_itself: the writer sets this key.
    static bool writes_itself(std::string_view key);
    void begin(const GgufFile& from, uint32_t file_type, const std::vector<NewTensor>& tensors);
    void begin(const GgufHeader& header, size_t alignment);
    // Of the current tensor.
    void write(const void* bytes, size_t n) { file_.write(bytes, n); }
    // pads to the alignment, with at most `most` bytes
    void end_tensor(size_t most = SIZE_MAX);
    size_t written() const { return file_.written(); }
    const std::string& temporary() const { return file_.temporary(); }
    // As of NewFile.
    void close() { file_.close(); }
    void finish() { file_.finish(); }
    void withdraw() noexcept { file_.withdraw(); }
    const std::string& path() const { return file_.path(); }

  private:
    NewFile file_;
    size_t alignment_ = 32;
};

// Throws Error{invalid_argument} if `out` is one of the files of `from`.
void refuse_input(const GgufFile& from, const std::string& out);

}  // namespace pillion
