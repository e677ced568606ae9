// Bytes on one backend, and the only owner of device memory. Backend::allocate makes a Buffer; its
// destructor frees the bytes.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pillion {

enum class BufferKind : uint8_t { weights, kv, scratch, state };
// For sentences.
constexpr const char* kind_name(BufferKind kind) {
    constexpr const char* kNames[] = {"weights", "KV cache", "scratch", "state"};
    return kNames[int(kind)];
}

class Buffer {
  public:
    Buffer(size_t size, BufferKind kind) : size_(size), kind_(kind) {}
    virtual ~Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    size_t size() const { return size_; }
    BufferKind kind() const { return kind_; }
    // The CPU's address of the bytes; nullptr if the CPU cannot reach them. A buffer of kind
    // `state` always has one.
    virtual uint8_t* host() const = 0;

  private:
    size_t size_;
    BufferKind kind_;
};

}  // namespace pillion
