// Writes a GGUF 3 file: metadata copied from an open one, tensors in order. Under another name in the same folder until finish().
#pragma once
#include <stdio.h>

#include <string>
#include <vector>

#include "model/gguf.h"

namespace pillion {

struct NewTensor {
    std::string_view name;
    DType dtype;
    int n_dims;
    const int64_t* dims;
    size_t bytes;
};

class GgufWriter {
  public:
    // Throws Error{file_not_found} when nothing can be written there.
    explicit GgufWriter(const std::string& path);
    ~GgufWriter();             // removes what was not finished
    GgufWriter(const GgufWriter&) = delete;
    GgufWriter& operator=(const GgufWriter&) = delete;

    // All keys of `from`, byte for byte, but those that the writer sets: file type, quantisation version, alignment.
    static bool writes_itself(std::string_view key);
    void begin(const GgufFile& from, uint32_t file_type, const std::vector<NewTensor>& tensors);
    void write(const void* bytes, size_t n);               // of the present tensor
    void end_tensor();                                     // fills up to the alignment
    const std::string& temporary() const { return temporary_; }
    void close();                                          // all bytes on the disk; the file can be read back
    void finish();                                         // gives it its name

  private:
    [[noreturn]] void no_room(const char* what) const;

    std::string path_, temporary_;
    FILE* file_ = nullptr;
    size_t written_ = 0;
    bool finished_ = false;
};

}  // namespace pillion
