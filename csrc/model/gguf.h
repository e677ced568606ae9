// Reader of GGUF files, versions 2 and 3, little-endian. Every length, count, offset and type in the file is checked in open();
// what comes out can be used without further checks of bounds. Knows nothing of models: see hparams.h and tensor_check.h.
//
// Zero-copy: keys, names, strings and tensor data are views into the file and live as long as the GgufFile (moving it is fine).
// Errors are thrown with the file's path in front: file_corrupt for bytes that can't be right, for a missing key and for a value
// of the wrong type; unsupported_model for what is legal GGUF but not read here (version 1, big-endian, nested arrays, a tensor
// type that dtype.h doesn't know).
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
// clang-format off
enum class GgufType : uint32_t {
    u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9, u64 = 10, i64 = 11, f64 = 12,
};
// clang-format on

const char* gguf_type_name(GgufType type);    // "u32", "string" ...

// One metadata entry. A scalar is seen as an array of one: `element` is its type and `count` is 1.
struct GgufValue {
    std::string_view key;
    GgufType element;
    bool is_array;
    uint64_t count;
    const uint8_t* bytes;    // the elements as they lie in the file, unaligned; strings each behind a u64 length
    size_t n_bytes;
};

struct GgufTensor {
    std::string_view name;
    DType dtype;
    int n_dims;             // 1 to 4
    int64_t dims[4];        // GGUF order: dims[0] is contiguous, a multiple of the block; 1 beyond n_dims
    const uint8_t* data;    // aligned to GgufFile::alignment(), which may be 1: read values through memcpy
    size_t bytes;
    size_t offset;    // of data in the file, for File::drop and will_need
    int64_t n_values() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

class GgufFile {
  public:
    static GgufFile open(const std::string& path, bool use_mmap = true) { return parse(File::open(path, use_mmap)); }
    static GgufFile parse(File file);

    GgufFile(GgufFile&&) noexcept = default;
    GgufFile& operator=(GgufFile&&) noexcept = default;

    const File& file() const { return file_; }
    const std::string& path() const { return file_.path(); }
    uint32_t version() const { return version_; }
    size_t alignment() const { return alignment_; }

    const std::vector<GgufValue>& values() const { return values_; }       // in file order
    const std::vector<GgufTensor>& tensors() const { return tensors_; }    // in file order
    const GgufValue* find(std::string_view key) const;
    const GgufTensor* find_tensor(std::string_view name) const;

    // Scalars. Without a fallback the key is required; a fallback stands in for a missing key only, never for a bad value.
    // Integers of any width and bool convert when the value fits [lo, hi]; f32 also takes f64 and integers; an array whose
    // elements are all equal counts as that scalar, because exporters differ in this.
    int64_t integer(std::string_view key, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
    int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
    uint32_t u32(std::string_view key) const { return uint32_t(integer(key, 0, UINT32_MAX)); }
    uint32_t u32(std::string_view key, uint32_t fallback) const { return uint32_t(integer_or(key, fallback, 0, UINT32_MAX)); }
    float f32(std::string_view key) const;    // may be NaN or infinite if the file says so
    float f32(std::string_view key, float fallback) const;
    bool boolean(std::string_view key) const { return integer(key, 0, 1) != 0; }
    bool boolean(std::string_view key, bool fallback) const { return integer_or(key, fallback, 0, 1) != 0; }
    std::string_view string(std::string_view key) const;
    std::string_view string(std::string_view key, std::string_view fallback) const;

    // One value per layer: an array of exactly n, or a scalar that holds for all.
    std::vector<int64_t> per_layer(std::string_view key, size_t n, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;

    // Whole arrays; the key must exist and be an array. Copies, because the file's elements are unaligned; strings are views.
    std::vector<std::string_view> strings(std::string_view key) const;
    std::vector<int32_t> int32s(std::string_view key) const;      // from any integer type whose values fit
    std::vector<float> float32s(std::string_view key) const;      // from f32 or f64, not from integers
    std::vector<uint8_t> booleans(std::string_view key) const;    // 0 or 1, from bool or integers that are 0 or 1

    // fail() with the path in front.
    [[noreturn]] __attribute__((format(printf, 3, 4))) void fail(Status code, const char* format, ...) const;

  private:
    friend class GgufParser;
    GgufFile() = default;
    const GgufValue& required(std::string_view key) const;
    const GgufValue& required_array(std::string_view key) const;
    const GgufValue& scalar(const GgufValue& value) const;

    File file_;
    uint32_t version_ = 0;
    size_t alignment_ = 32;
    std::vector<GgufValue> values_;
    std::vector<GgufTensor> tensors_;
    std::vector<uint32_t> by_key_, by_name_;    // sorted indices: lookups without hashing what a hostile file chose
};

// Element i as a number. False: the element is of another kind, or (integers) does not fit.
bool gguf_integer(const GgufValue& value, uint64_t i, int64_t& out);
bool gguf_real(const GgufValue& value, uint64_t i, double& out);

// Text out of a file, made fit for a sentence: quotes nothing, cuts at max_bytes, '?' for control bytes and broken UTF-8.
std::string printable(std::string_view text, size_t max_bytes = 80);

// JSON. An array longer than max_array becomes {"count": n, "element": "string", "first": [...]}. Invalid UTF-8 becomes U+FFFD,
// floats are the shortest text that reads back as the same value, NaN and infinities are null.
std::string to_json(const GgufValue& value, size_t max_array = SIZE_MAX);
std::string json_string(std::string_view text);
std::string json_number(double value);
std::string json_number(float value);

}    // namespace pillion
