// A fake for libcublas.so.13 that multiplies on the CPU, for the emulation, whose device memory
// is the host's. Counts its calls; FAKE_CUBLAS=create or gemm makes that function fail.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

static int n_gemms = 0, n_handles = 0;

static bool fails(const char* what) {
    const char* which = getenv("FAKE_CUBLAS");
    return which && strcmp(which, what) == 0;
}

static float bits_to_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static float value(const void* p, int64_t i, int type) {
    uint16_t v;
    memcpy(&v, static_cast<const uint8_t*>(p) + 2 * i, 2);
    if (type == 14) return bits_to_float(uint32_t(v) << 16);  // bf16
    const uint32_t sign = uint32_t(v >> 15) << 31, e = v >> 10 & 31, m = v & 1023u;
    if (e == 31) return bits_to_float(sign | 0x7F800000u | m << 13);
    const float magnitude =
        e ? bits_to_float((e + 112) << 23 | m << 13) : float(m) * bits_to_float(103u << 23);
    return sign ? -magnitude : magnitude;
}

EXPORT int cublasCreate_v2(void** handle) {
    if (fails("create")) return 1;
    n_handles++;
    *handle = &n_gemms;
    return 0;
}
EXPORT int cublasDestroy_v2(void*) {
    n_handles--;
    return 0;
}
EXPORT int cublasSetStream_v2(void* handle, void*) { return handle == &n_gemms ? 0 : 7; }

// c[j][i] (column j of m floats, ldc apart) = alpha * sum over l of a[i * lda + l] * b[j * ldb + l]
// + beta * c: the one form that is used.
EXPORT int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                        const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                        const void* beta, void* c, int type_c, int ldc, int compute,
                        int algorithm) {
    const bool known = handle == &n_gemms && op_a == 1 && op_b == 0 &&
                       (type_a == 2 || type_a == 14) && type_b == type_a && type_c == 0 &&
                       compute == 68 && algorithm == -1 && lda >= k && ldb >= k && ldc >= m;
    if (!known) return 7;  // CUBLAS_STATUS_INVALID_VALUE
    if (fails("gemm")) return 13;
    n_gemms++;
    const float by = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    float* out = static_cast<float*>(c);
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum +=
                    double(value(a, i * lda + l, type_a)) * double(value(b, j * ldb + l, type_b));
            float& to = out[j * ldc + i];
            to = by * float(sum) + (keep == 0 ? 0.0f : keep * to);  // with beta 0, c is not read
        }
    return 0;
}

EXPORT int fake_gemms() { return n_gemms; }
EXPORT int fake_handles() { return n_handles; }
