// The error boundary of a backend: turns exceptions thrown inside it into a Status and a sentence.
#pragma once
#include <new>

#include "core/error.h"

namespace pillion {

template <class F>
Status to_status(Reason& reason, const F& body) {
    try {
        return body();
    } catch (const Error& e) {
        reason.set("%s", e.what());
        return e.code();
    } catch (const std::bad_alloc&) {
        reason.set("the host has no memory for this");
        return Status::out_of_memory;
    } catch (const std::exception& e) {
        reason.set("%s", e.what());
        return Status::internal;
    }
}

}  // namespace pillion
