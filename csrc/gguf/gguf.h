// Reader of GGUF files, versions 2 and 3, little-endian, of any model; hparams.h and tensor_check.h
// interpret them. open() checks every length, count, offset and type in the file, so users of the
// result need no further bounds checks.
//
// Zero-copy: keys, names, strings and tensor data are views into the file and live as long as the
// GgufFile, which may be moved. A model in several files (NAME-00001-of-00003.gguf ...) is one
// GgufFile: open() accepts any part and finds the others, tensors point into several Files, and the
// keys that only describe the division (split.*) are left out. Errors begin with the file's path.
// Throws Error: file_corrupt for invalid bytes, a missing key and a value of the wrong type;
// unsupported_model for valid GGUF that this reader does not read (version 1, big-endian, nested
// arrays); file_not_found for a missing part. A tensor of a type that dtype.h does not know is not
// an error here, so that the header can be shown; tensor_check.h refuses to run it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/file.h"

namespace pillion {

// GGUF's own type ids.
enum class GgufType : uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
};

const char* gguf_type_name(GgufType type);  // "u32", "string" ...

// One metadata entry. A scalar reads as an array of one: `element` is its type and `count` is 1.
struct GgufValue {
    std::string_view key;
    GgufType element;
    bool is_array;
    uint64_t count;
    // the elements as in the file, unaligned; each string follows its u64 length
    const uint8_t* bytes;
    size_t n_bytes;
};

struct GgufTensor {
    std::string_view name;
    DType dtype;  // the file's number; is_known(): dtype.h has it
    int n_dims;   // 1 to 4
    // GGUF order: dims[0] is contiguous, a multiple of the block; 1 beyond n_dims
    int64_t dims[4];
    // aligned to GgufFile::alignment(), which may be 1: read values through memcpy
    const uint8_t* data;
    // for an unknown type: up to the next tensor, or to the end of the file
    size_t bytes;
    size_t offset;  // of data in its file
    uint32_t part;  // index of its file in GgufFile::files()
    bool is_known() const { return find_dtype(uint32_t(dtype)) != nullptr; }
    int64_t n_values() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

class GgufFile {
  public:
    // Opens the model that the file holds or is a part of. The other parts lie beside the file, or
    // beside the target of a link.
    static GgufFile open(const std::string& path, bool use_mmap = true);
    // As open(), and accepts parts that were joined by `cat`, in any order. open() refuses those
    // with a sentence about it.
    static GgufFile open_parts(const std::string& path, bool use_mmap = true);
    // Parses one file by itself, also a part.
    static GgufFile parse(File file);

    GgufFile(GgufFile&&) noexcept = default;
    GgufFile& operator=(GgufFile&&) noexcept = default;

    const std::vector<File>& files() const { return files_; }  // one file, or the parts in order
    const std::string& path() const { return path_; }          // the opened path
    uint64_t file_bytes() const;                               // of all files
    // of the model; parts joined by cat are several in one file
    size_t n_parts() const { return n_parts_; }
    // end of the last part's tensors in its file
    size_t end() const { return end_; }
    uint32_t version() const { return version_; }
    size_t alignment() const { return alignment_; }

    const std::vector<GgufValue>& values() const { return values_; }  // in file order
    // in file order, part after part
    const std::vector<GgufTensor>& tensors() const { return tensors_; }
    const GgufValue* find(std::string_view key) const;
    const GgufTensor* find_tensor(std::string_view name) const;
    // Finds a value by its key, or else by a name from shown_keys.
    const GgufValue* find_shown(std::string_view key) const;

    // Displayable keys for terminals and JSON, one for each of values(). A key that is UTF-8
    // without NUL stays; in others U+FFFD replaces the invalid bytes, and " (2)" or the next free
    // number is appended if the result is taken. All are different.
    std::vector<std::string> shown_keys() const;

    // File::drop and File::will_need for bytes [at, at + n) of a tensor.
    void drop(const GgufTensor& tensor, size_t at, size_t n) const noexcept {
        files_[tensor.part].drop(tensor.offset + at, n);
    }
    void drop_all() const noexcept;

    // Scalars. Without a fallback the key is required. A fallback replaces only a missing key,
    // never a bad value. Integers of any width and bool convert if the value fits [lo, hi]. f32
    // also accepts f64 and integers. An array whose elements are all equal counts as that scalar,
    // because exporters differ in this. Throws Error{file_corrupt}.
    int64_t integer(std::string_view key, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
    int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo = INT64_MIN,
                       int64_t hi = INT64_MAX) const;
    uint32_t u32(std::string_view key) const { return uint32_t(integer(key, 0, UINT32_MAX)); }
    uint32_t u32(std::string_view key, uint32_t fallback) const {
        return uint32_t(integer_or(key, fallback, 0, UINT32_MAX));
    }
    float f32(std::string_view key) const;  // NaN or infinite if the file says so
    float f32(std::string_view key, float fallback) const;
    bool boolean(std::string_view key) const { return integer(key, 0, 1) != 0; }
    bool boolean(std::string_view key, bool fallback) const {
        return integer_or(key, fallback, 0, 1) != 0;
    }
    std::string_view string(std::string_view key) const;
    std::string_view string(std::string_view key, std::string_view fallback) const;

    // One value per layer: an array of exactly n, or a scalar that applies to all.
    std::vector<int64_t> per_layer(std::string_view key, size_t n, int64_t lo = INT64_MIN,
                                   int64_t hi = INT64_MAX) const;

    // Whole arrays. The key must exist and be an array. They are copies, because the file's
    // elements are unaligned; strings are views.
    std::vector<std::string_view> strings(std::string_view key) const;
    // from any integer type, if all values fit
    std::vector<int32_t> int32s(std::string_view key) const;
    // from f32 or f64, not from integers
    std::vector<float> float32s(std::string_view key) const;
    // 0 or 1, from bool or from integers that are 0 or 1
    std::vector<uint8_t> booleans(std::string_view key) const;

    // fail() with the path at the front.
    [[noreturn]] __attribute__((format(printf, 3, 4))) void fail(Status code, const char* format,
                                                                 ...) const;

  private:
    friend class GgufParser;
    friend class GgufParts;
    GgufFile() = default;
    // Reads the tables of the GGUF that begins at `begin`, without taking the file.
    static GgufFile read(const File& file, size_t begin);
    void index();
    const GgufValue& required(std::string_view key) const;
    const GgufValue& required_array(std::string_view key) const;
    const GgufValue& scalar(const GgufValue& value) const;

    std::string path_;
    std::vector<File> files_;
    size_t n_parts_ = 1;
    // end of the last tensor; of the header if there are no tensors
    size_t end_ = 0;
    uint32_t version_ = 0;
    size_t alignment_ = 32;
    std::vector<GgufValue> values_;
    std::vector<GgufTensor> tensors_;
    // Sorted indices, instead of hashes that a hostile file could attack.
    std::vector<uint32_t> by_key_, by_name_;
};

// A tensor's type as a name: "Q4_K", "IQ1_M", "type 41"; and with its number, for error sentences:
// "type 29 (IQ1_M)", "type 41".
std::string gguf_tensor_type_name(DType dtype);
std::string gguf_tensor_type_text(DType dtype);
// True for keys that only describe the division of a model into files.
bool is_split_key(std::string_view key);
// PREFIX-00001-of-00003.gguf; the first part has number 1.
std::string gguf_part_name(const std::string& prefix, size_t number, size_t of);

// Reads element i as a number. False if the element has another kind or an integer does not fit.
bool gguf_integer(const GgufValue& value, uint64_t i, int64_t& out);
bool gguf_real(const GgufValue& value, uint64_t i, double& out);

// Makes text from a file printable in an error sentence: cuts it at max_bytes and writes '?' for
// control bytes and invalid UTF-8. Adds no quotes.
std::string printable(std::string_view text, size_t max_bytes = 80);

// The value as JSON (core/json.h). An array longer than max_array becomes {"count": n, "element":
// "string", "first": [...]}.
std::string to_json(const GgufValue& value, size_t max_array = SIZE_MAX);

}  // namespace pillion
