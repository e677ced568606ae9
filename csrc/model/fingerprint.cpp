#include "model/fingerprint.h"

#include <algorithm>
#include <string>

namespace pillion {
namespace {

// FNV-1a with 64 bits.
class Hash {
  public:
    void bytes(const void* from, size_t n) {
        const auto* at = static_cast<const uint8_t*>(from);
        for (size_t i = 0; i < n; i++) value_ = (value_ ^ at[i]) * 0x100000001B3ull;
    }
    void number(uint64_t n) { bytes(&n, sizeof n); }
    void text(std::string_view s) { number(s.size()), bytes(s.data(), s.size()); }
    uint64_t value() const { return value_; }

  private:
    uint64_t value_ = 0xCBF29CE484222325ull;
};

// In the middle of a tensor: its ends are padding or rare tokens more often.
constexpr size_t kSampleBytes = 256;

}  // namespace

uint64_t fingerprint(const GgufFile& file) {
    Hash hash;
    const std::string prefix = std::string(file.string("general.architecture")) + ".";
    for (const GgufValue& v : file.values()) {
        if (v.key.substr(0, prefix.size()) != prefix) continue;
        hash.text(v.key), hash.number(uint64_t(v.element)), hash.number(v.count);
        hash.bytes(v.bytes, v.n_bytes);
    }
    for (const GgufTensor& t : file.tensors()) {
        hash.text(t.name), hash.number(uint64_t(t.dtype));
        for (const int64_t dim : t.dims) hash.number(uint64_t(dim));
        const size_t n = std::min(t.bytes, kSampleBytes);
        hash.bytes(t.data + (t.bytes - n) / 2, n);
    }
    return hash.value();
}

}  // namespace pillion
