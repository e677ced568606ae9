// Checks core/result.h and core/error_boundary.h. Prints each failed check; the exit code is their
// number.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <string>

#include "core/error_boundary.h"

using namespace pillion;

static int g_failed = 0;
static size_t g_allocations = 0;

void* operator new(size_t bytes) {
    g_allocations++;
    if (void* p = malloc(bytes ? bytes : 1)) return p;
    throw std::bad_alloc();
}
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }

static void check(bool holds, const char* what, int line) {
    if (!holds) g_failed++, printf("line %d: %s\n", line, what);
}
#define CHECK(condition) check(bool(condition), #condition, __LINE__)

template <class T>
static bool fails(const Result<T>& result, Status code, const char* sentence) {
    return !result && result.failure().code() == code &&
           strcmp(result.failure().sentence(), sentence) == 0;
}

struct Base {
    virtual ~Base() = default;
    virtual int number() const { return 1; }
};
struct Derived : Base {
    int number() const override { return 2; }
};

static Result<std::unique_ptr<Base>> make(bool works) {
    if (!works) return Failure(Status::out_of_memory, "no memory for %d bytes", 5);
    return std::make_unique<Derived>();
}

static Result<size_t> size_of(bool works) {
    const Result<std::unique_ptr<Base>> made = make(works);
    if (!made) return made.failure();
    return sizeof **made;
}

static void test_values() {
    const Result<std::unique_ptr<Base>> made = make(true);
    CHECK(made && (*made)->number() == 2);
    CHECK(make(true).value_or_throw()->number() == 2);
    CHECK(size_of(true) && *size_of(true) == sizeof(Derived));
    CHECK(*Result<bool>(false) == false && Result<bool>(false));  // a value, not a failure
    CHECK(ok());
}

static void test_failures() {
    CHECK(fails(make(false), Status::out_of_memory, "no memory for 5 bytes"));
    CHECK(fails(size_of(false), Status::out_of_memory, "no memory for 5 bytes"));
    const Failure failure(Status::busy, "it %s", "is busy");
    CHECK(fails(Result<void>(failure.of("tensor %s", "x")), Status::busy, "tensor x: it is busy"));
    CHECK(fails(Result<int>(failure.as(Status::closed)), Status::closed, "it is busy"));
    Result<void> later = ok();
    later = failure;
    CHECK(fails(later, Status::busy, "it is busy"));
    const std::string text(1000, 'x');  // cut to the size of the text, and ended
    CHECK(strlen(Failure(Status::internal, "%s", text.c_str()).sentence()) == 511);
    CHECK(strlen(failure.of("%s", text.c_str()).sentence()) == 511);
}

template <class F>
static std::string thrown(Status code, const F& body) {
    try {
        body();
    } catch (const Error& e) {
        return e.code() == code ? e.what() : "another code";
    }
    return "nothing";
}

static void test_throwing() {
    CHECK(thrown(Status::out_of_memory, [] { (void)make(false).value_or_throw(); }) ==
          "no memory for 5 bytes");
    CHECK(thrown(Status::out_of_memory, [] { (void)make(false).value_or_throw("outputs"); }) ==
          "outputs: no memory for 5 bytes");
    CHECK(thrown(Status::busy, [] {
              Result<void>(Failure(Status::busy, "busy")).value_or_throw("it");
          }) == "it: busy");
    ok().value_or_throw();
}

static void test_boundary() {
    CHECK(to_result([] { return size_of(true); }));
    CHECK(fails(to_result([] { return size_of(false); }), Status::out_of_memory,
                "no memory for 5 bytes"));
    CHECK(fails(to_result([]() -> Result<int> { fail(Status::closed, "%s", "gone"); }),
                Status::closed, "gone"));
    CHECK(fails(to_result([]() -> Result<void> { throw std::bad_alloc(); }), Status::out_of_memory,
                "the host has no memory for this"));
    CHECK(fails(to_result([]() -> Result<void> { throw std::runtime_error("odd"); }),
                Status::internal, "odd"));
}

static Result<void> lost() { return Failure(Status::device_lost, "device %d is lost", 0); }
static Result<int> passed_on() {
    const Result<void> done = lost();
    return done ? Result<int>(1) : Result<int>(done.failure().of("layer %d", 3));
}

static void test_that_a_failure_allocates_nothing() {
    const size_t before = g_allocations;
    const bool same = fails(passed_on(), Status::device_lost, "layer 3: device 0 is lost");
    CHECK(g_allocations == before);
    CHECK(same);
}

int main() {
    test_values();
    test_failures();
    test_throwing();
    test_boundary();
    test_that_a_failure_allocates_nothing();
    return g_failed;
}
