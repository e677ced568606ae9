// The GGUF parser. One rule holds throughout: a number from the file is compared with the rest of
// the file before the code steps, multiplies or allocates by it. Getters and text forms are in
// gguf_values.cpp.
#include "gguf/gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include <algorithm>
#include <utility>

namespace pillion {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "values are copied out of the file as they lie there");

namespace {

// clang-format off
// Tensor types of ggml that dtype.h leaves out, for their names only. Numbers 4, 5, 31-33 and 36-38
// were withdrawn by ggml.
constexpr struct {
    uint32_t type;
    const char* name;
} kForeignTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},        {15, "Q8_K"},       {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
};
// clang-format on

constexpr uint64_t kMaxKeyBytes = 65535;  // the format's limit
// The format says 64; exporters of other models go beyond.
constexpr uint64_t kMaxNameBytes = 1024;
// Files use 32; 2^31 would be a damaged field.
constexpr uint64_t kMaxAlignment = 1 << 20;
// A thousand times the largest model; keeps indices in 32 bits.
constexpr uint64_t kMaxEntries = 1 << 20;
constexpr int64_t kMaxElements = int64_t(1) << 62;
// The least bytes of an entry: a key of one byte and a u8; a name of one byte with one dimension.
constexpr uint64_t kMinValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Bytes of a fixed-size element; 0 for strings, arrays and unknown type ids.
size_t element_bytes(uint32_t type) {
    switch (GgufType(type)) {
        case GgufType::u8:
        case GgufType::i8:
        case GgufType::boolean: return 1;
        case GgufType::u16:
        case GgufType::i16: return 2;
        case GgufType::u32:
        case GgufType::i32:
        case GgufType::f32: return 4;
        case GgufType::u64:
        case GgufType::i64:
        case GgufType::f64: return 8;
        default: return 0;
    }
}

// Sorts the indices of `items` by their string text(item) and returns the index of a duplicate, or
// -1.
template <class Items, class Text>
int64_t sort_index(const Items& items, Text text, std::vector<uint32_t>& index) {
    index.resize(items.size());
    for (size_t i = 0; i < index.size(); ++i) index[i] = uint32_t(i);
    std::sort(index.begin(), index.end(),
              [&](uint32_t a, uint32_t b) { return text(items[a]) < text(items[b]); });
    for (size_t i = 1; i < index.size(); ++i)
        if (text(items[index[i - 1]]) == text(items[index[i]])) return index[i];
    return -1;
}

template <class Items, class Text>
auto find_sorted(const Items& items, Text text, const std::vector<uint32_t>& index,
                 std::string_view wanted) {
    const auto at =
        std::lower_bound(index.begin(), index.end(), wanted,
                         [&](uint32_t i, std::string_view w) { return text(items[i]) < w; });
    return at != index.end() && text(items[*at]) == wanted ? &items[*at] : nullptr;
}

std::string_view key_of(const GgufValue& v) { return v.key; }
std::string_view name_of(const GgufTensor& t) { return t.name; }

}  // namespace

std::string gguf_tensor_type_name(DType dtype) {
    if (const DTypeInfo* known = find_dtype(uint32_t(dtype))) return known->name;
    for (const auto& t : kForeignTypes)
        if (t.type == uint32_t(dtype)) return t.name;
    return "type " + std::to_string(uint32_t(dtype));
}

std::string gguf_tensor_type_text(DType dtype) {
    const std::string number = "type " + std::to_string(uint32_t(dtype)),
                      name = gguf_tensor_type_name(dtype);
    return name == number ? number : number + " (" + name + ")";
}

class GgufParser {
  public:
    // Parses the GGUF that begins at byte `begin` of the file; error sentences count offsets from
    // there.
    GgufParser(GgufFile& out, const File& file, size_t begin)
        : out_(out), data_(file.data() + begin), size_(file.size() - begin), begin_(begin) {}

    void parse() {
        read_header();
        read_values();
        read_alignment();
        read_tensors();
        place_tensors();
    }

  private:
    size_t left() const { return size_ - at_; }

    // `inside` names what is being read; subject_ names the key or tensor.
    template <class T>
    T number(const char* inside) {
        T value;
        memcpy(&value, take(sizeof value, inside), sizeof value);
        return value;
    }

    const uint8_t* take(uint64_t n, const char* inside) {
        if (n > left())
            out_.fail(Status::file_corrupt,
                      "%s%s at byte %zu needs %" PRIu64 " bytes, the file has %zu left",
                      subject().c_str(), inside, at_, n, left());
        const uint8_t* p = data_ + at_;
        at_ += size_t(n);
        return p;
    }

    std::string_view string(const char* inside, uint64_t longest = UINT64_MAX) {
        const size_t begin = at_;
        const uint64_t length = number<uint64_t>(inside);
        if (length > longest)
            out_.fail(Status::file_corrupt,
                      "%s%s at byte %zu is %" PRIu64 " bytes long, the limit is %" PRIu64,
                      subject().c_str(), inside, begin, length, longest);
        return {reinterpret_cast<const char*>(take(length, inside)), size_t(length)};
    }

    std::string subject() const {
        return subject_.data() ? std::string(subject_is_) + " " + printable(subject_) + ": "
                               : std::string();
    }

    void about(const char* what, std::string_view name) {
        subject_is_ = what;
        subject_ = name;
    }

    void read_header();
    uint64_t read_count(const char* what, uint64_t least_bytes);
    void read_values();
    void read_array(GgufValue& value);
    void check_booleans(const GgufValue& value);
    void read_alignment();
    void read_tensors();
    void read_dtype_and_size(GgufTensor& tensor);
    void read_size(GgufTensor& tensor, const DTypeInfo& info);
    void place_tensors();
    void measure_unknown(const std::vector<GgufTensor*>& in_order);
    [[noreturn]] void fail_magic();

    GgufFile& out_;
    const uint8_t* data_;
    size_t size_, begin_;
    size_t at_ = 0;
    uint64_t n_values_ = 0, n_tensors_ = 0;
    const char* subject_is_ = "";
    std::string_view subject_;
};

void GgufParser::fail_magic() {
    const std::string_view start(reinterpret_cast<const char*>(data_), std::min<size_t>(size_, 64));
    // Without Git LFS, a clone has this text in place of the model.
    if (start.substr(0, 8) == "version ")
        out_.fail(Status::file_corrupt,
                  "this is a Git LFS pointer of %zu bytes, not the model; fetch the file itself",
                  size_);
    out_.fail(Status::file_corrupt,
              "this is not a GGUF file: it begins with \"%s\", expected \"GGUF\"",
              printable(start.substr(0, 4)).c_str());
}

void GgufParser::read_header() {
    if (size_ < 4 || memcmp(data_, "GGUF", 4) != 0) fail_magic();
    at_ = 4;
    const uint32_t version = number<uint32_t>("the version");
    const uint32_t swapped = __builtin_bswap32(version);
    if (version == 1)
        out_.fail(Status::unsupported_model,
                  "GGUF version 1 is not supported (2, 3); convert the model anew");
    if (swapped >= 1 && swapped <= 0xffff)  // neither kind of version number is that large
        out_.fail(Status::unsupported_model,
                  "the file is big-endian (version %" PRIu32
                  "); only little-endian GGUF is supported",
                  swapped);
    if (version != 2 && version != 3)
        out_.fail(Status::unsupported_model, "GGUF version %" PRIu32 " is not supported (2, 3)",
                  version);
    out_.version_ = version;
    n_tensors_ = number<uint64_t>("the tensor count");
    n_values_ = number<uint64_t>("the metadata count");
    const struct {
        const char* what;
        uint64_t n, each;
    } counts[] = {{"tensors", n_tensors_, kMinTensorBytes},
                  {"metadata keys", n_values_, kMinValueBytes}};
    for (const auto& c : counts) {
        if (c.n > left() / c.each)
            out_.fail(Status::file_corrupt,
                      "the header counts %" PRIu64 " %s, the file's %zu bytes can't hold that many",
                      c.n, c.what, size_);
        if (c.n > kMaxEntries)
            out_.fail(Status::unsupported_model,
                      "the header counts %" PRIu64 " %s, the limit is %" PRIu64, c.n, c.what,
                      kMaxEntries);
    }
}

void GgufParser::read_values() {
    for (uint64_t i = 0; i < n_values_; ++i) {
        about("", {});
        GgufValue value{};
        value.key = string("a metadata key", kMaxKeyBytes);
        if (value.key.empty())
            out_.fail(Status::file_corrupt, "metadata key number %" PRIu64 " is empty", i);
        about("key", value.key);
        uint32_t type = number<uint32_t>("the type");
        value.count = 1;
        value.is_array = GgufType(type) == GgufType::array;
        if (value.is_array) {
            type = number<uint32_t>("the element type");
            value.count = number<uint64_t>("the element count");
            if (GgufType(type) == GgufType::array)
                out_.fail(Status::unsupported_model, "%san array of arrays is not supported",
                          subject().c_str());
        }
        value.element = GgufType(type);
        if (element_bytes(type) == 0 && value.element != GgufType::string)
            out_.fail(Status::file_corrupt, "%stype %" PRIu32 " does not exist (0 to 12)",
                      subject().c_str(), type);
        read_array(value);
        if (value.element == GgufType::boolean) check_booleans(value);
        out_.values_.push_back(value);
    }
    about("", {});
    const int64_t twice = sort_index(out_.values_, key_of, out_.by_key_);
    if (twice >= 0)
        out_.fail(Status::file_corrupt, "key %s occurs twice",
                  printable(out_.values_[size_t(twice)].key).c_str());
}

void GgufParser::read_array(GgufValue& value) {
    value.bytes = data_ + at_;
    const size_t begin = at_;
    const size_t each = element_bytes(uint32_t(value.element));
    // A string takes at least the 8 bytes of its length, so a huge count fails at once and not
    // after a long walk.
    if (value.count > left() / (each ? each : 8))
        out_.fail(Status::file_corrupt,
                  "%s%" PRIu64 " %s of type %s at byte %zu do not fit, the file has %zu bytes left",
                  subject().c_str(), value.count, value.count == 1 ? "value" : "values",
                  gguf_type_name(value.element), at_, left());
    if (each) take(value.count * each, "the value");
    else
        for (uint64_t i = 0; i < value.count; ++i) string("a string");
    value.n_bytes = at_ - begin;
}

void GgufParser::check_booleans(const GgufValue& value) {
    for (uint64_t i = 0; i < value.count; ++i)
        if (value.bytes[i] > 1)
            out_.fail(Status::file_corrupt, "%sa bool holds the byte %d (0 or 1)",
                      subject().c_str(), int(value.bytes[i]));
}

void GgufParser::read_alignment() {
    out_.alignment_ = 32;  // the format's default
    if (!out_.find("general.alignment")) return;
    const int64_t alignment = out_.integer("general.alignment");
    if (alignment < 1 || alignment > int64_t(kMaxAlignment) || (alignment & (alignment - 1)) != 0)
        out_.fail(Status::file_corrupt,
                  "key general.alignment: %" PRId64 " is not a power of two from 1 to %" PRIu64,
                  alignment, kMaxAlignment);
    out_.alignment_ = size_t(alignment);
}

void GgufParser::read_tensors() {
    for (uint64_t i = 0; i < n_tensors_; ++i) {
        about("", {});
        GgufTensor tensor{};
        tensor.name = string("a tensor name", kMaxNameBytes);
        if (tensor.name.empty())
            out_.fail(Status::file_corrupt, "the name of tensor number %" PRIu64 " is empty", i);
        about("tensor", tensor.name);
        const uint32_t n_dims = number<uint32_t>("the number of dimensions");
        if (n_dims < 1 || n_dims > 4)
            out_.fail(Status::file_corrupt, "%s%" PRIu32 " dimensions (1 to 4)", subject().c_str(),
                      n_dims);
        tensor.n_dims = int(n_dims);
        int64_t product = 1;
        for (uint32_t d = 0; d < 4; ++d) {
            const int64_t dim = d < n_dims ? number<int64_t>("a dimension") : 1;
            if (dim < 1)
                out_.fail(Status::file_corrupt,
                          "%sdimension %" PRIu32 " is %" PRId64 ", it must be at least 1",
                          subject().c_str(), d, dim);
            if (dim > kMaxElements / product)
                out_.fail(Status::file_corrupt, "%sthe product of its dimensions exceeds 2^62",
                          subject().c_str());
            product *= dim;
            tensor.dims[d] = dim;
        }
        read_dtype_and_size(tensor);
        out_.tensors_.push_back(tensor);
    }
    about("", {});
    const int64_t twice = sort_index(out_.tensors_, name_of, out_.by_name_);
    if (twice >= 0)
        out_.fail(Status::file_corrupt, "tensor %s occurs twice",
                  printable(out_.tensors_[size_t(twice)].name).c_str());
}

void GgufParser::read_dtype_and_size(GgufTensor& tensor) {
    const uint32_t type = number<uint32_t>("the type");
    const uint64_t offset = number<uint64_t>("the offset");
    tensor.dtype = DType(type);
    if (const DTypeInfo* info = find_dtype(type)) read_size(tensor, *info);
    if (offset % out_.alignment_ != 0)
        out_.fail(Status::file_corrupt,
                  "%soffset %" PRIu64 " is not a multiple of the alignment %zu", subject().c_str(),
                  offset, out_.alignment_);
    // place_tensors checks the exact bound, once the start of the data is known.
    if (offset > size_)
        out_.fail(Status::file_corrupt,
                  "%soffset %" PRIu64
                  " lies beyond the file's %zu bytes; the download may be incomplete",
                  subject().c_str(), offset, size_);
    tensor.offset = size_t(offset);
}

void GgufParser::read_size(GgufTensor& tensor, const DTypeInfo& info) {
    if (tensor.dims[0] % info.block != 0)
        out_.fail(Status::file_corrupt,
                  "%sits rows hold %" PRId64 " values, type %s needs a multiple of %d",
                  subject().c_str(), tensor.dims[0], info.name, info.block);
    const uint64_t blocks = uint64_t(tensor.n_values()) / uint64_t(info.block);
    if (blocks > size_ / uint64_t(info.block_bytes))
        out_.fail(Status::file_corrupt,
                  "%s%" PRId64 " values of type %s are more than the whole file of %zu bytes holds",
                  subject().c_str(), tensor.n_values(), info.name, size_);
    tensor.bytes = size_t(blocks) * size_t(info.block_bytes);
}

void GgufParser::place_tensors() {
    out_.end_ = begin_ + at_;
    // Vocabulary-only files end here, often without padding.
    if (out_.tensors_.empty()) return;
    const size_t padding = (out_.alignment_ - at_ % out_.alignment_) % out_.alignment_;
    if (padding > left())
        out_.fail(Status::file_corrupt, "the file ends at byte %zu, before the tensor data", size_);
    const size_t start = at_ + padding;
    std::vector<GgufTensor*> in_order;
    in_order.reserve(out_.tensors_.size());
    for (GgufTensor& t : out_.tensors_) {
        const size_t room = size_ - start;
        if (t.offset > room || t.bytes > room - t.offset)
            out_.fail(Status::file_corrupt,
                      "tensor %s: its %zu bytes at offset %zu do not fit, the file holds %zu bytes "
                      "of tensor data; the download may "
                      "be incomplete",
                      printable(t.name).c_str(), t.bytes, t.offset, room);
        t.offset += start;
        t.data = data_ + t.offset;
        in_order.push_back(&t);
    }
    std::sort(in_order.begin(), in_order.end(),
              [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
    measure_unknown(in_order);
    for (size_t i = 1; i < in_order.size(); ++i)
        if (in_order[i - 1]->offset + in_order[i - 1]->bytes > in_order[i]->offset ||
            in_order[i - 1]->bytes == 0)
            out_.fail(Status::file_corrupt, "tensors %s and %s overlap",
                      printable(in_order[i - 1]->name).c_str(),
                      printable(in_order[i]->name).c_str());
    out_.end_ = begin_ + in_order.back()->offset + in_order.back()->bytes;
    for (GgufTensor& t : out_.tensors_) t.offset += begin_;
}

// The bytes of a block of an unknown type are unknown. Such a tensor ends before the next one
// begins.
void GgufParser::measure_unknown(const std::vector<GgufTensor*>& in_order) {
    for (size_t i = 0; i < in_order.size(); ++i) {
        GgufTensor& t = *in_order[i];
        if (!t.is_known())
            t.bytes = (i + 1 < in_order.size() ? in_order[i + 1]->offset : size_) - t.offset;
    }
    const GgufTensor& last = *in_order.back();
    if (last.bytes == 0)
        out_.fail(Status::file_corrupt,
                  "tensor %s: the file ends where it begins; the download may be incomplete",
                  printable(last.name).c_str());
}

GgufFile GgufFile::read(const File& file, size_t begin) {
    GgufFile out;
    out.path_ = file.path();
    GgufParser(out, file, begin).parse();
    return out;
}

GgufFile GgufFile::parse(File file) {
    GgufFile out = read(file, 0);
    out.files_.push_back(std::move(file));
    return out;
}

void GgufFile::index() {
    sort_index(values_, key_of, by_key_);
    sort_index(tensors_, name_of, by_name_);
}

uint64_t GgufFile::file_bytes() const {
    uint64_t n = 0;
    for (const File& file : files_) n += file.size();
    return n;
}

void GgufFile::drop_all() const noexcept {
    for (const File& file : files_) file.drop(0, file.size());
}

const GgufValue* GgufFile::find(std::string_view key) const {
    return find_sorted(values_, key_of, by_key_, key);
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
    return find_sorted(tensors_, name_of, by_name_, name);
}

void GgufFile::fail(Status code, const char* format, ...) const {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    throw Error(code, shown_path(path()) + ": " + text);
}

}  // namespace pillion
