// The shape of every call that can fail and must not throw: a value, or the Failure in its place.
// The compiler warns when nobody looks at one.
//
// A backend returns Results: an exception must not leave it, and a question such as "can you run
// this op" is a Result<void> too, whose failure is the reason. All code above the backends throws
// Error; value_or_throw() leads from a Result to it. Code inside a backend may throw too, and
// to_result (error_boundary.h) catches it at the edge.
// The DSP's program is plain C and answers with an htp_answer (backends/htp/wire/htp_wire.h); a
// module's entry fills a ModuleReason (module.h); the C ABI has its codes (include/pillion.h).
#pragma once
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/error.h"

namespace pillion {

// A code other than ok, and the sentence. The text has a fixed size, so that making one
// allocates nothing; a longer sentence is cut.
class Failure {
  public:
    __attribute__((format(printf, 3, 4))) Failure(Status code, const char* format, ...);

    Status code() const { return code_; }
    const char* sentence() const { return text_; }
    // The same failure under a name: "<name>: <sentence>".
    __attribute__((format(printf, 2, 3))) Failure of(const char* format, ...) const;
    // The same sentence with another code.
    Failure as(Status code) const { return Failure(code, "%s", text_); }
    // Throws Error. what: whose failure it is, for the sentence "<what>: ..."; null: as it is.
    [[noreturn]] void raise(const char* what = nullptr) const;

  private:
    Status code_;
    char text_[512];
};

template <class T>
class [[nodiscard]] Result {
  public:
    template <class U, std::enable_if_t<std::is_convertible_v<U&&, T>, int> = 0>
    Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
    Result(const Failure& failure) : state_(std::in_place_index<1>, failure) {}

    explicit operator bool() const { return state_.index() == 0; }
    // The value; only of a success.
    T& operator*() { return *std::get_if<0>(&state_); }
    const T& operator*() const { return *std::get_if<0>(&state_); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }
    // Only of a failure.
    const Failure& failure() const { return *std::get_if<1>(&state_); }

    // The value out of a result that ends here, or Error. what: as in Failure::raise.
    T value_or_throw(const char* what = nullptr) && {
        if (!*this) failure().raise(what);
        return std::move(**this);
    }

  private:
    std::variant<T, Failure> state_;
};

// Success has no value. It writes a flag only: the room for a failure's text stays untouched.
template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(const Failure& failure) : failure_(failure) {}

    explicit operator bool() const { return !failure_; }
    const Failure& failure() const { return *failure_; }
    void value_or_throw(const char* what = nullptr) const {
        if (failure_) failure_->raise(what);
    }

  private:
    std::optional<Failure> failure_;
};

inline Result<void> ok() { return {}; }

}  // namespace pillion
