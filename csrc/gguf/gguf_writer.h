// Writes a GGUF file: metadata copied from an open one, tensors in order. Under another name in the
// same folder until finish().
#pragma once
#include <stdio.h>

#include <string>
#include <vector>

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

// A header piece by piece: keys, then tensors, which will lie in this order with no more between
// them than the alignment asks.
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

    size_t size() const;                           // of bytes(), without the padding behind it
    size_t data_bytes() const { return offset_; }  // of the tensors, each filled up
    static size_t tensor_size(const NewTensor& tensor);  // what one adds to size()
    std::string bytes() const;                           // not filled up

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
    // Throws Error{file_not_found} when nothing can be written there, and Error{invalid_argument}
    // when a folder, a device or a FIFO lies there.
    explicit GgufWriter(const std::string& path);
    ~GgufWriter();  // removes what was not finished
    GgufWriter(const GgufWriter&) = delete;
    GgufWriter& operator=(const GgufWriter&) = delete;

    // All keys of `from`, byte for byte, but those that the writer sets: file type, quantisation
    // version, alignment. The result is one file: what describes a division into several is left
    // out.
    static bool writes_itself(std::string_view key);
    void begin(const GgufFile& from, uint32_t file_type, const std::vector<NewTensor>& tensors);
    void begin(const GgufHeader& header, size_t alignment);
    void write(const void* bytes, size_t n);  // of the present tensor
    void end_tensor(
        size_t most = SIZE_MAX);  // fills up to the alignment, with so many bytes at most
    size_t written() const { return written_; }
    const std::string& temporary() const { return temporary_; }
    void close();              // all bytes on the disk; the file can be read back
    void finish();             // gives it its name
    void withdraw() noexcept;  // takes a finished file away again
    const std::string& path() const { return path_; }

  private:
    [[noreturn]] void no_room(const char* what) const;

    std::string path_, temporary_;
    FILE* file_ = nullptr;
    size_t written_ = 0, alignment_ = 32;
    bool finished_ = false;
};

// Throws when `out` is one of the files that `from` lies in.
void refuse_input(const GgufFile& from, const std::string& out);

}  // namespace pillion
