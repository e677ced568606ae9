// Runs kernels of one table on inputs from tests/cpu/test_op_kernels.py and returns the results as
// bytes.
//
//   ops_runner list       compiled tables, best first: name, 1 if this machine runs it
//   ops_runner which      the table of choose_kernels(), or its sentence and exit status 1
//   ops_runner features   names of the machine's features
//   ops_runner run TABLE REQUESTS ANSWERS
//                         requests one after another
//
// A request is three int32 (op, number of ints, number of floats), then the ints and the floats. An
// answer is an int32 (bytes), then the bytes. Every buffer has exactly the contract's length, and
// floats start at odd multiples of 4. The address sanitizer therefore sees a kernel that reads or
// writes past an end, and no kernel can rely on alignment. Built without the matmuls.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernel_choice.h"

namespace pillion::cpu {
namespace generic {
void fill_matmul(KernelTable&) {}
}  // namespace generic
namespace x86_avx2 {
void fill_matmul(KernelTable&) {}
}  // namespace x86_avx2
namespace x86_avx512 {
void fill_matmul(KernelTable&) {}
}  // namespace x86_avx512
namespace arm_dotprod {
void fill_matmul(KernelTable&) {}
}  // namespace arm_dotprod
namespace arm_i8mm {
void fill_matmul(KernelTable&) {}
}  // namespace arm_i8mm
}  // namespace pillion::cpu

using namespace pillion::cpu;
using namespace pillion;

namespace {

// n floats, 4 bytes past an aligned address, ending where the allocation ends.
class Row {
  public:
    explicit Row(size_t n, const float* from = nullptr)
        : n_(n), block_(static_cast<char*>(malloc(4 + n * 4))) {
        if (n == 0) return;
        if (from) memcpy(data(), from, n * 4);
        else memset(data(), 0xFF, n * 4);  // NaN: an output that is not written shows
    }
    Row(Row&& other) : n_(other.n_), block_(other.block_) { other.block_ = nullptr; }
    ~Row() { free(block_); }
    float* data() { return reinterpret_cast<float*>(block_ + 4); }
    size_t size() const { return n_; }

  private:
    size_t n_;
    char* block_;
};

struct Bytes {
    explicit Bytes(size_t n, int fill)
        : size(n), data(static_cast<uint8_t*>(aligned_alloc(64, n))) {
        memset(data, fill, n);
    }
    ~Bytes() { free(data); }
    Bytes(const Bytes&) = delete;
    size_t size;
    uint8_t* data;
};

struct Request {
    const int32_t* ints;
    const float* floats;
    const float* take(size_t n) {
        const float* p = floats;
        floats += n;
        return p;
    }
};

struct Answer {
    std::string bytes;
    void put(const void* p, size_t n) { bytes.append(static_cast<const char*>(p), n); }
    void put(Row& r) { put(r.data(), r.size() * 4); }
    void put(float f) { put(&f, 4); }
    void put(int i) { put(&i, 4); }
};

// ints: head_dim, format, capacity, positions stored, byte under the slots at first, n_q, split
// from, to, then first[n_q], last[n_q] floats: scale, softcap, then k, v [positions][head_dim], q
// [n_q][head_dim] answer: m, l [n_q], o [n_q][head_dim] after merging all splits (o not divided by
// l), then the bytes of keys and values
void attend(const KernelTable& t, Request r, Answer& out) {
    const int hd = r.ints[0], capacity = r.ints[2], positions = r.ints[3], n_q = r.ints[5],
              from = r.ints[6], to = r.ints[7];
    const KvType format = KvType(r.ints[1]);
    const int32_t *first = r.ints + 8, *last = first + n_q;
    Bytes k(kv_k_bytes(format, hd, capacity), r.ints[4]),
        v(kv_v_bytes(format, hd, capacity), r.ints[4]);
    const KvHead kv{k.data, v.data, capacity, hd, format};
    const float scale = *r.take(1), cap = *r.take(1);
    const float *ks = r.take(size_t(positions) * hd), *vs = r.take(size_t(positions) * hd);
    for (int p = 0; p < positions; p++) {
        Row key(hd, ks + size_t(p) * hd), value(hd, vs + size_t(p) * hd);
        t.kv_store(kv, p % capacity, key.data(), value.data());
    }
    std::vector<Row> q, o, os;
    std::vector<float*> q_at, os_at;
    for (int c = 0; c < n_q; c++) {
        q.emplace_back(hd, r.take(hd));
        o.emplace_back(hd);
        os.emplace_back(hd);
        memset(o[c].data(), 0, 4 * hd);
        q_at.push_back(q[c].data());
        os_at.push_back(os[c].data());
    }
    Row m(n_q), l(n_q), ms(n_q), ls(n_q);
    for (int c = 0; c < n_q; c++) m.data()[c] = -INFINITY, l.data()[c] = 0;
    for (int begin = from / KV_SPLIT * KV_SPLIT; begin < to; begin += KV_SPLIT) {
        AttendArgs a;
        a.kv = kv;
        a.q = q_at.data();
        a.first = first, a.last = last, a.n_q = n_q;
        a.begin = begin, a.end = begin + KV_SPLIT < to ? begin + KV_SPLIT : to;
        a.scale = scale, a.softcap = cap;
        a.m = ms.data(), a.l = ls.data(), a.o = os_at.data();
        t.attend_split(a);
        for (int c = 0; c < n_q; c++)
            t.attend_merge(&m.data()[c], &l.data()[c], o[c].data(), ms.data()[c], ls.data()[c],
                           os[c].data(), hd);
    }
    out.put(m);
    out.put(l);
    for (Row& row : o) out.put(row);
    out.put(k.data, k.size);
    out.put(v.data, v.size);
}

// bands, in, out | eps x[3][2 * bands + 1][in] weight norm
void conv_row(const KernelTable& t, Request& r, Answer& out) {
    const int bands = r.ints[0], in = r.ints[1], n = r.ints[2], width = (2 * bands + 1) * in;
    const float eps = *r.take(1);
    Row a(width, r.take(width)), b(width, r.take(width)), c(width, r.take(width));
    Row weight(9 * in * n, r.take(9 * in * n)), norm(n, r.take(n)), y(bands * n);
    t.conv_row(
        {{a.data(), b.data(), c.data()}, weight.data(), norm.data(), in, n, bands, eps, y.data()});
    out.put(y);
}

// head_dim, n | softcap q q_scale k[n] v[n] relative[n]
void attend_local(const KernelTable& t, Request& r, Answer& out) {
    const int dim = r.ints[0], n = r.ints[1];
    const float softcap = *r.take(1);
    Row q(dim, r.take(dim)), scale(dim, r.take(dim)), k(n * dim, r.take(n * dim)),
        v(n * dim, r.take(n * dim)), relative(n * dim, r.take(n * dim)), y(dim);
    t.attend_local({q.data(), scale.data(), k.data(), v.data(), dim, dim, relative.data(), dim, n,
                    dim, softcap, y.data()});
    out.put(y);
}

void answer(const KernelTable& t, int op, int n_ints, Request r, Answer& out) {
    const int n = r.ints[0], flag = n_ints > 1 ? r.ints[1] : 0;
    switch (op) {
        case 1: {  // rms_norm   n, has weight, in place | eps x w
            const float eps = *r.take(1);
            Row x(n, r.take(n)), y(n), w(flag ? n : 0, flag ? r.take(n) : nullptr);
            t.rms_norm(x.data(), flag ? w.data() : nullptr, r.ints[2] ? x.data() : y.data(), n,
                       eps);
            out.put(r.ints[2] ? x : y);
            break;
        }
        case 2: {  // rms_norm_add   n, has weight, 0 y / 1 y = x / 2 y = a | eps scale a x w
            const float eps = *r.take(1), scale = *r.take(1);
            Row a(n, r.take(n)), x(n, r.take(n)), y(n), w(flag ? n : 0, flag ? r.take(n) : nullptr);
            Row& to = r.ints[2] == 0 ? y : r.ints[2] == 1 ? x : a;
            t.rms_norm_add(a.data(), flag ? w.data() : nullptr, x.data(), scale, to.data(), n, eps);
            out.put(to);
            break;
        }
        case 3: {  // head_norm_rope   head_dim, rope_dims, normalize, interleaved, has weight,
                   // rotate | eps x cos sin w
            HeadArgs h;
            h.head_dim = n, h.rope_dims = flag, h.normalize = r.ints[2], h.interleaved = r.ints[3];
            h.eps = *r.take(1);
            Row x(n, r.take(n)), c(flag / 2, r.take(flag / 2)), s(flag / 2, r.take(flag / 2));
            Row w(r.ints[4] ? n : 0, r.ints[4] ? r.take(n) : nullptr);
            h.x = x.data(), h.weight = r.ints[4] ? w.data() : nullptr;
            h.cos = r.ints[5] ? c.data() : nullptr, h.sin = r.ints[5] ? s.data() : nullptr;
            t.head_norm_rope(h);
            out.put(x);
            break;
        }
        case 4:
        case 5:
        case 6: {  // add, scale, multiply_add   n, in place | a b    or s x y
            const float s = op == 4 ? 0.0f : *r.take(1);
            Row a(n, r.take(n)), b(n, op == 5 ? nullptr : r.take(n)), fresh(n);
            Row& y = op == 6 ? b : flag ? a : fresh;
            if (op == 4) t.add(a.data(), b.data(), y.data(), n);
            if (op == 5) t.scale(a.data(), s, y.data(), n);
            if (op == 6) t.multiply_add(a.data(), s, y.data(), n);
            out.put(y);
            break;
        }
        case 7: {  // glu   n, kind, in place | gate up
            Row gate(n, r.take(n)), up(n, r.take(n)), y(n);
            Row& to = r.ints[2] ? gate : y;
            t.glu(gate.data(), up.data(), to.data(), n, Activation(flag));
            out.put(to);
            break;
        }
        case 8: {  // softcap   n | cap x
            const float cap = *r.take(1);
            Row x(n, r.take(n));
            t.softcap(x.data(), n, cap);
            out.put(x);
            break;
        }
        case 9: {
            Row x(n, r.take(n));
            out.put(t.argmax(x.data(), n));
            break;
        }
        case 10: {
            Row a(n, r.take(n)), b(n, r.take(n));
            out.put(t.dot(a.data(), b.data(), n));
            break;
        }
        case 11: {
            Row x(n, r.take(n));
            float top = NAN, sum = NAN;
            t.softmax_stats(x.data(), n, &top, &sum);
            out.put(top), out.put(sum);
            break;
        }
        case 12: attend(t, r, out); break;
        case 13: {  // exp of each x <= 0, through attend_merge: o = 1 * exp(ms - 0) + 0
            const float* x = r.take(n);
            for (int i = 0; i < n; i++) {
                float m = 0, l = 0, o = 0, one = 1;
                t.attend_merge(&m, &l, &o, x[i], 1.0f, &one, 1);
                out.put(o);
            }
            break;
        }
        case 14: {  // attend_merge   head_dim | m l ms ls o os
            float m = *r.take(1), l = *r.take(1);
            const float ms = *r.take(1), ls = *r.take(1);
            Row o(n, r.take(n)), os(n, r.take(n));
            t.attend_merge(&m, &l, o.data(), ms, ls, os.data(), n);
            out.put(m), out.put(l), out.put(o);
            break;
        }
        case 15: {  // glu without up   n, kind | x
            Row x(n, r.take(n)), y(n);
            t.glu(x.data(), nullptr, y.data(), n, Activation(flag));
            out.put(y);
            break;
        }
        case 16: {  // weigh_rows   n, taps | x[taps][n] w[taps][n]
            std::vector<Row> rows;
            std::vector<const float*> x;
            for (int i = 0; i < flag; i++) rows.emplace_back(n, r.take(n));
            for (Row& row : rows) x.push_back(row.data());
            Row w(flag * n, r.take(flag * n)), y(n);
            t.weigh_rows(x.data(), w.data(), flag, y.data(), n);
            out.put(y);
            break;
        }
        case 17: conv_row(t, r, out); break;
        case 18: attend_local(t, r, out); break;
        default: fprintf(stderr, "op %d?\n", op), exit(2);
    }
}

int run(const char* name, const char* from, const char* to) {
    const pillion::Result<const KernelTable*> table = find_kernels(name);
    if (!table) return fprintf(stderr, "%s\n", table.failure().sentence()), 1;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out) return fprintf(stderr, "cannot open %s or %s\n", from, to), 1;
    int32_t head[3];
    while (fread(head, 4, 3, in) == 3) {
        std::vector<int32_t> ints(head[1]);
        std::vector<float> floats(head[2]);
        if (fread(ints.data(), 4, ints.size(), in) != ints.size() ||
            fread(floats.data(), 4, floats.size(), in) != floats.size())
            return 1;
        Answer a;
        answer(**table, head[0], head[1], Request{ints.data(), floats.data()}, a);
        const int32_t size = int32_t(a.bytes.size());
        fwrite(&size, 4, 1, out);
        fwrite(a.bytes.data(), 1, a.bytes.size(), out);
    }
    fclose(in);
    return fclose(out) == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "list") {
        int n;
        const KernelCandidate* c = kernel_candidates(&n);
        for (int i = 0; i < n; i++) printf("%s %d\n", c[i].name, can_run(c[i]) ? 1 : 0);
        return 0;
    }
    if (command == "which") {
        const auto table = choose_kernels(), again = choose_kernels();
        if (!table) return printf("%s\n", table.failure().sentence()), 1;
        if (!again || *again != *table) return printf("changed its mind\n"), 1;
        return printf("%s\n", (*table)->name), 0;
    }
    if (command == "features") {
        char text[256];
        feature_names(cpu_features(), text, sizeof text);
        return printf("%s\n", text), 0;
    }
    if (command == "run" && argc == 5) return run(argv[2], argv[3], argv[4]);
    return fprintf(stderr, "usage: first lines of tests/runners/ops_runner.cpp\n"), 2;
}
