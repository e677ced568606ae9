// Reader of GGUF files, versions 2 and 3, little-endian. Every length, count, offset and type in
// the file is checked in open(); what comes out can be used without further checks of bounds. Knows
// nothing of models: see hparams.h and tensor_check.h.
//
// Zero-copy: keys, names, strings and tensor data are views into the file and live as long as the
// GgufFile (moving it is fine). A model in several files (NAME-00001-of-00003.gguf ...) is one
// GgufFile: open() finds the other parts of any of them, tensors point into several Files, and the
// keys that only describe the division (split.*) are left out. Errors are thrown with the file's
// path in front: file_corrupt for bytes that can't be right, for a missing key and for a value of
// the wrong type; unsupported_model for what is legal GGUF but not read here (version 1,
// big-endian, nested arrays); file_not_found for a part that is missing. A tensor of a type that
// dtype.h doesn't know is no error here: the header is shown, and who would run the tensor refuses
// it (tensor_check.h).
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

// One metadata entry. A scalar is seen as an array of one: `element` is its type and `count` is 1.
struct GgufValue {
    std::string_view key;
    GgufType element;
    bool is_array;
    uint64_t count;
    const uint8_t*
        bytes;  // the elements as they lie in the file, unaligned; strings each behind a u64 length
    size_t n_bytes;
};

struct GgufTensor {
    std::string_view name;
    DType dtype;      // the file's number; is_known() says whether dtype.h has it
    int n_dims;       // 1 to 4
    int64_t dims[4];  // GGUF order: dims[0] is contiguous, a multiple of the block; 1 beyond n_dims
    const uint8_t*
        data;       // aligned to GgufFile::alignment(), which may be 1: read values through memcpy
    size_t bytes;   // of an unknown type: up to the next tensor, or to the end of the file
    size_t offset;  // of data in its file
    uint32_t part;  // its file: index into GgufFile::files()
    bool is_known() const { return find_dtype(uint32_t(dtype)) != nullptr; }
    int64_t n_values() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

class GgufFile {
  public:
    // The model that the file holds or is a part of. The other parts lie beside it, or beside what
    // it is a link to.
    static GgufFile open(const std::string& path, bool use_mmap = true);
    // The same, and also parts that were joined by `cat`, in any order: what open() refuses, in a
    // sentence of its own.
    static GgufFile open_parts(const std::string& path, bool use_mmap = true);
    // One file by itself, a part too.
    static GgufFile parse(File file);

    GgufFile(GgufFile&&) noexcept = default;
    GgufFile& operator=(GgufFile&&) noexcept = default;

    const std::vector<File>& files() const { return files_; }  // one, or the parts in order
    const std::string& path() const { return path_; }          // what was opened
    uint64_t file_bytes() const;                               // of all files
    size_t n_parts() const {
        return n_parts_;
    }  // of the model; joined by cat they are several in one file
    size_t end() const { return end_; }  // of the last part's tensors in its file
    uint32_t version() const { return version_; }
    size_t alignment() const { return alignment_; }

    const std::vector<GgufValue>& values() const { return values_; }  // in file order
    const std::vector<GgufTensor>& tensors() const {
        return tensors_;
    }  // in file order, part after part
    const GgufValue* find(std::string_view key) const;
    const GgufTensor* find_tensor(std::string_view name) const;
    // A key, or else a name out of shown_keys.
    const GgufValue* find_shown(std::string_view key) const;

    // Keys for people and JSON, one for each of values(): the key itself where it is UTF-8 without
    // NUL; else with U+FFFD for what is not, and where that is taken " (2)" or the next free number
    // behind it. No two are equal.
    std::vector<std::string> shown_keys() const;

    // File::drop and will_need for bytes [at, at + n) of a tensor.
    void drop(const GgufTensor& tensor, size_t at, size_t n) const noexcept {
        files_[tensor.part].drop(tensor.offset + at, n);
    }
    void drop_all() const noexcept;

    // Scalars. Without a fallback the key is required; a fallback stands in for a missing key only,
    // never for a bad value. Integers of any width and bool convert when the value fits [lo, hi];
    // f32 also takes f64 and integers; an array whose elements are all equal counts as that scalar,
    // because exporters differ in this.
    int64_t integer(std::string_view key, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
    int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo = INT64_MIN,
                       int64_t hi = INT64_MAX) const;
    uint32_t u32(std::string_view key) const { return uint32_t(integer(key, 0, UINT32_MAX)); }
    uint32_t u32(std::string_view key, uint32_t fallback) const {
        return uint32_t(integer_or(key, fallback, 0, UINT32_MAX));
    }
    float f32(std::string_view key) const;  // may be NaN or infinite if the file says so
    float f32(std::string_view key, float fallback) const;
    bool boolean(std::string_view key) const { return integer(key, 0, 1) != 0; }
    bool boolean(std::string_view key, bool fallback) const {
        return integer_or(key, fallback, 0, 1) != 0;
    }
    std::string_view string(std::string_view key) const;
    std::string_view string(std::string_view key, std::string_view fallback) const;

    // One value per layer: an array of exactly n, or a scalar that holds for all.
    std::vector<int64_t> per_layer(std::string_view key, size_t n, int64_t lo = INT64_MIN,
                                   int64_t hi = INT64_MAX) const;

    // Whole arrays; the key must exist and be an array. Copies, because the file's elements are
    // unaligned; strings are views.
    std::vector<std::string_view> strings(std::string_view key) const;
    std::vector<int32_t> int32s(
        std::string_view key) const;  // from any integer type whose values fit
    std::vector<float> float32s(std::string_view key) const;  // from f32 or f64, not from integers
    std::vector<uint8_t> booleans(
        std::string_view key) const;  // 0 or 1, from bool or integers that are 0 or 1

    // fail() with the path in front.
    [[noreturn]] __attribute__((format(printf, 3, 4))) void fail(Status code, const char* format,
                                                                 ...) const;

  private:
    friend class GgufParser;
    friend class GgufParts;
    GgufFile() = default;
    static GgufFile read(const File& file,
                         size_t begin);  // the tables of what begins there, without the file
    void index();
    const GgufValue& required(std::string_view key) const;
    const GgufValue& required_array(std::string_view key) const;
    const GgufValue& scalar(const GgufValue& value) const;

    std::string path_;
    std::vector<File> files_;
    size_t n_parts_ = 1;
    size_t end_ = 0;  // of the last tensor, or of the header where there is none
    uint32_t version_ = 0;
    size_t alignment_ = 32;
    std::vector<GgufValue> values_;
    std::vector<GgufTensor> tensors_;
    std::vector<uint32_t> by_key_,
        by_name_;  // sorted indices: lookups without hashing what a hostile file chose
};

// A tensor's type as a name, "Q4_K", "IQ1_M", "type 41", and for sentences, with its number: "type
// 29 (IQ1_M)", "type 41".
std::string gguf_tensor_type_name(DType dtype);
std::string gguf_tensor_type_text(DType dtype);
// Keys that only describe the division of a model into files.
bool is_split_key(std::string_view key);
// PREFIX-00001-of-00003.gguf; the first part has number 1.
std::string gguf_part_name(const std::string& prefix, size_t number, size_t of);

// Element i as a number. False: the element is of another kind, or (integers) does not fit.
bool gguf_integer(const GgufValue& value, uint64_t i, int64_t& out);
bool gguf_real(const GgufValue& value, uint64_t i, double& out);

// Text out of a file, made fit for a sentence: quotes nothing, cuts at max_bytes, '?' for control
// bytes and broken UTF-8.
std::string printable(std::string_view text, size_t max_bytes = 80);

// JSON (core/json.h). An array longer than max_array becomes {"count": n, "element": "string",
// "first": [...]}.
std::string to_json(const GgufValue& value, size_t max_array = SIZE_MAX);

}  // namespace pillion
