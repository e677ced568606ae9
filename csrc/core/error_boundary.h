// The error boundary of a backend: turns exceptions thrown inside it into a Failure.
#pragma once
#include <new>

#include "core/result.h"

namespace pillion {

// body() returns a Result.
template <class F>
auto to_result(const F& body) -> decltype(body()) {
    try {
        return body();
    } catch (const Error& e) {
        return Failure(e.code(), "%s", e.what());
    } catch (const std::bad_alloc&) {
        return Failure(Status::out_of_memory, "the host has no memory for this");
    } catch (const std::exception& e) {
        return Failure(Status::internal, "%s", e.what());
    }
}

}  // namespace pillion
