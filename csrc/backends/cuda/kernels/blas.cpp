#include "backends/cuda/kernels/blas.h"

#include <dlfcn.h>
#include <stdio.h>

#include <memory>

namespace pillion::cuda {
namespace {

// The used parts of cublas_api.h and library_types.h; unchanged since CUDA 11.
using Handle = void*;
enum { kOpN = 0, kOpT = 1 };
enum { kR32F = 0, kR16F = 2, kR16BF = 14 };
enum { kCompute32F = 68, kGemmDefault = -1 };

struct Library {
    int (*create)(Handle*) = nullptr;
    int (*destroy)(Handle) = nullptr;
    int (*set_stream)(Handle, void* stream) = nullptr;
    int (*gemm)(Handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                int type_a, int lda, const void* b, int type_b, int ldb, const void* beta, void* c,
                int type_c, int ldc, int compute, int algorithm) = nullptr;
};

template <class F>
bool find(void* library, const char* name, F& f) {
    f = reinterpret_cast<F>(dlsym(library, name));
    return f != nullptr;
}

// Stays open for the life of the process. Null: the library is absent or lacks a function.
const Library* library() {
    static const std::unique_ptr<Library> opened = []() -> std::unique_ptr<Library> {
        for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
            void* const handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
            if (!handle) continue;
            auto l = std::make_unique<Library>();
            if (find(handle, "cublasCreate_v2", l->create) &&
                find(handle, "cublasDestroy_v2", l->destroy) &&
                find(handle, "cublasSetStream_v2", l->set_stream) &&
                find(handle, "cublasGemmEx", l->gemm))
                return l;
            dlclose(handle);
        }
        return nullptr;
    }();
    return opened.get();
}

// One handle per stream, because a handle serves one thread at a time, like a stream. If the handle
// cannot be made, the machine counts as one without cuBLAS.
struct OnStream {
    Handle handle = nullptr;
    explicit OnStream(Stream& stream) {
        if (library()->create(&handle) != 0) handle = nullptr;
        if (handle && library()->set_stream(handle, stream.handle()) != 0)
            library()->destroy(handle), handle = nullptr;
    }
    ~OnStream() {
        if (handle) library()->destroy(handle);
    }
    OnStream(const OnStream&) = delete;
    OnStream& operator=(const OnStream&) = delete;
};

}  // namespace

bool blas_product(const BlasProduct& p, Stream& stream) {
    if (!library() || stream.failed()) return false;
    if (!stream.companion()) stream.companion() = std::make_shared<OnStream>(stream);
    const Handle handle = static_cast<const OnStream*>(stream.companion().get())->handle;
    if (!handle) return false;
    // cuBLAS sees rows side by side as columns: out^T = weight * x^T.
    const float one = 1.0f, beta = p.add ? 1.0f : 0.0f;
    const int type = p.dtype == DType::f16 ? kR16F : kR16BF;
    const int status = library()->gemm(handle, kOpT, kOpN, int(p.rows), p.n, int(p.width), &one,
                                       p.weight, type, int(p.stride), p.x, type, int(p.stride),
                                       &beta, p.out, kR32F, int(p.rows), kCompute32F, kGemmDefault);
    if (status != 0) {
        char why[64];
        snprintf(why, sizeof why, "cublasGemmEx gives status %d", status);
        stream.fail(Status::internal, "product", why);
    }
    return true;
}

}  // namespace pillion::cuda
