// How errors travel. All code above the backends throws Error. Backends and plans return a Result
// (result.h), which value_or_throw turns into an Error. api/ turns an Error into a code and a
// thread-local sentence. A sentence names the thing, the value and the limit: "tensor
// blk.3.attn_q.weight: type 39 is not supported (F32, F16, BF16, Q4_0 ...)".
#pragma once
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <stdexcept>
#include <string>

namespace pillion {

// The numbers equal those of pillion_status in include/pillion.h (api/api.cpp asserts it). A number
// is never reused.
enum class [[nodiscard]] Status : int32_t {
    ok = 0,
    // usage
    invalid_argument = 1,
    busy = 2,
    closed = 3,
    buffer_too_small = 4,
    context_full = 5,
    // file
    file_not_found = 10,
    file_corrupt = 11,
    unsupported_model = 12,
    pairing = 13,
    // machine
    no_backend = 20,
    unsupported_op = 21,
    out_of_memory = 22,
    device_lost = 23,
    // other
    cancelled = 30,
    internal = 31,
};

class Error : public std::runtime_error {
  public:
    Error(Status code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
    Status code() const { return code_; }

  private:
    Status code_;
};

// Throws Error{code, printf-style sentence}.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(Status code, const char* format, ...);

// Checks an internal invariant; throws Error{internal}. If a caller or a file can cause the
// failure, use fail() with its own sentence instead.
#define PILLION_CHECK(condition)                                                          \
    do {                                                                                  \
        if (!(condition))                                                                 \
            ::pillion::fail(::pillion::Status::internal, "%s:%d: %s", __FILE__, __LINE__, \
                            #condition);                                                  \
    } while (0)

}  // namespace pillion
