// The CPU backend under a script. Plans run as ever: memory, caches, cancellation and errors are
// the library's own. Then their outputs are overwritten: the next token of a row is the script's
// where there is one, else the letter behind the row's token ('z' is followed by 'a', all else by
// 'a'); an assistant's drafts are the next tokens too, unless fake_lies() has them say '!'.
//
// It registers as "cpu" before the library's own does; the first of a name stays.
#include "fake_backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <mutex>

#include "backends/cpu/cpu_backend.h"

namespace {

using namespace pillion;

std::mutex g_mutex;  // of script and marks
std::vector<int32_t> g_script;
size_t g_base = 0;
std::string g_marks;
std::atomic<int32_t> g_slow_us{0};
std::atomic<uint32_t> g_lies{0};
std::atomic<int32_t> g_break{-1};
std::atomic<bool> g_no_queues{false}, g_in_turn{false};
std::atomic<size_t> g_evaluated{0}, g_begun{0};

int32_t next_token(size_t length, int32_t last) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (length >= g_base && length - g_base < g_script.size()) return g_script[length - g_base];
    return last >= 'a' && last < 'z' ? last + 1 : 'a';
}

void mark(const char* at) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (g_marks.empty()) return;
    if (FILE* file = fopen((g_marks + "/" + at).c_str(), "a")) fclose(file);
}

// A row or a weight begins and takes its time. False: cancelled.
bool take_time(const char* at, const Queue& queue) {
    ++g_begun;
    mark(at);
    for (int32_t waited = 0; waited < g_slow_us && !queue.cancel; waited += 1000) {
        const timespec slice = {0, std::min(1000, g_slow_us - waited) * 1000L};
        nanosleep(&slice, nullptr);
    }
    return !queue.cancel;
}

int32_t position(const StepState& state, int row) {
    const Segment* segment = state.segments;
    while (row >= segment->row + segment->n_rows) segment++;
    return segment->pos + row - segment->row;
}

class FakePlan final : public Plan {
  public:
    FakePlan(std::unique_ptr<Plan> plan, const Graph& graph, const Queue& queue)
        : plan_(std::move(plan)), queue_(queue) {
        for (const ValueInfo& value : graph.values())
            if (value.kind == ValueInfo::Kind::external) outputs_.push_back(value);
    }

    Result<void> run(const StepState& state) override {
        const bool drafts = find("draft token");
        if (!drafts && g_break >= 0 && g_break-- == 0)
            return Failure(Status::internal, "the run is broken");
        for (int i = 0; !drafts && i < state.rows; i++) {
            if (!take_time("eval", queue_)) return Failure(Status::cancelled, "cancelled");
            ++g_evaluated;
        }
        // An assistant's drafts may lie in the same buffer.
        const std::vector<int32_t> first(tokens(), tokens() + state.rows);
        Result<void> done = plan_->run(state);
        if (!done) return done;
        if (drafts) write_drafts(state, first);
        else write_rows(state);
        return done;
    }
    Result<void> wait() override { return plan_->wait(); }
    size_t scratch_bytes() const override { return plan_->scratch_bytes(); }
    std::vector<StepInfo> steps() const override { return plan_->steps(); }

  private:
    const ValueInfo* find(const char* name) const {
        for (const ValueInfo& value : outputs_)
            if (strcmp(value.name, name) == 0) return &value;
        return nullptr;
    }
    const int32_t* tokens() const {
        return reinterpret_cast<const int32_t*>(find("tokens")->tensor.host());
    }
    // `next` at 8, all others falling slowly with their distance from it.
    static void write_logits(float* logits, int64_t n, int32_t next) {
        for (int64_t j = 0; j < n; j++)
            logits[j] = j == next ? 8.0f : -0.01f * float(std::abs(j - next));
    }

    void write_rows(const StepState& state) const {
        const ValueInfo *logits = find("logits"), *hidden = find("hidden"),
                        *most_likely = find("argmax_tokens");
        for (int out = 0; out < state.out_rows; out++) {
            const int row = state.rows - state.out_rows + out;
            const int32_t last = tokens()[row],
                          next = next_token(size_t(position(state, row)) + 1, last);
            float* h = row_of<float>(*hidden, out);
            for (int64_t j = 0; j < hidden->width; j++) h[j] = float(last) + float(j);
            if (logits) write_logits(row_of<float>(*logits, out), logits->width, next);
            if (most_likely) *row_of<int32_t>(*most_likely, out) = next;
        }
    }

    void write_drafts(const StepState& state, std::vector<int32_t> next) const {
        const auto said = [&](int i, int32_t token) { return g_lies >> i & 1 ? '!' : token; };
        const auto next_at = [&](int row, int step, int32_t last) {
            return next_token(size_t(position(state, row) + 1 + step), last);
        };
        int step = 0;
        for (int row = 0; row < state.rows; row++)
            next[size_t(row)] = next_at(row, 0, next[size_t(row)]);
        bool has_ids = false;  // of a centroid head: scores of the tokens from the said one on
        for (const ValueInfo& value : outputs_) {  // ids, logits, token: in this order, by step
            const bool is_token = strcmp(value.name, "draft token") == 0;
            for (int row = 0; row < state.rows; row++) {
                const int32_t token = said(step, next[size_t(row)]);
                if (strcmp(value.name, "draft ids") == 0) {
                    has_ids = true;
                    for (int64_t j = 0; j < value.width; j++)
                        row_of<int32_t>(value, row)[j] = (token + int32_t(j)) % 256;
                } else if (strcmp(value.name, "draft logits") == 0) {
                    write_logits(row_of<float>(value, row), value.width, has_ids ? 0 : token);
                } else if (strcmp(value.name, "draft probability") == 0) {
                    *row_of<float>(value, row) = 1.0f;
                } else if (is_token) {
                    *row_of<int32_t>(value, row) = token;
                    next[size_t(row)] = next_at(row, step + 1, next[size_t(row)]);
                }
            }
            step += is_token;
        }
    }

    template <class T>
    static T* row_of(const ValueInfo& value, int64_t row) {
        return reinterpret_cast<T*>(value.tensor.host()) + row * value.width;
    }

    std::unique_ptr<Plan> plan_;
    const Queue& queue_;
    std::vector<ValueInfo> outputs_;
};

class FakeBackend final : public Backend {
  public:
    explicit FakeBackend(Backend& cpu) : cpu_(cpu) {}
    const char* name() const override { return cpu_.name(); }
    Json info_json() const override { return cpu_.info_json(); }
    bool is_host() const override { return true; }
    bool batches() const override { return !g_in_turn && cpu_.batches(); }
    MemoryInfo memory() const override { return cpu_.memory(); }
    Result<void> supports(const Graph& graph, const Node& node) const override {
        return cpu_.supports(graph, node);
    }
    Result<std::unique_ptr<Buffer>> allocate(size_t size, BufferKind kind) override {
        return cpu_.allocate(size, kind);
    }
    std::unique_ptr<Buffer> map_host(uint8_t* bytes, size_t size) override {
        return cpu_.map_host(bytes, size);
    }
    Result<std::unique_ptr<Queue>> make_queue(int n_threads) override {
        if (g_no_queues) return Failure(Status::out_of_memory, "no memory for a queue");
        return cpu_.make_queue(n_threads);
    }
    Result<size_t> weight_bytes(const WeightSource& source) const override {
        return cpu_.weight_bytes(source);
    }
    Result<Tensor> import_weight(const WeightSource& source, Buffer& buffer, size_t offset,
                                 Queue& queue) override {
        if (source.data && !take_time("load", queue))
            return Failure(Status::cancelled, "cancelled");
        return cpu_.import_weight(source, buffer, offset, queue);
    }
    size_t kv_bytes(const KvSpec& spec) const override { return cpu_.kv_bytes(spec); }
    const char* kv_layout() const override { return cpu_.kv_layout(); }
    std::vector<KvStrip> kv_strips(const KvSpec& spec) const override {
        return cpu_.kv_strips(spec);
    }
    int few_rows() const override { return cpu_.few_rows(); }
    Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                          const CompileOptions& options) override {
        Result<std::unique_ptr<Plan>> plan = cpu_.compile(graph, queue, options);
        if (!plan) return plan;
        return std::unique_ptr<Plan>(new FakePlan(std::move(*plan), graph, queue));
    }
    Result<size_t> plan_bytes(const Graph& graph, Queue& queue,
                              const CompileOptions& options) override {
        return cpu_.plan_bytes(graph, queue, options);
    }
    Result<MachineLimits> measure_limits(Queue&) override { return MachineLimits{1e9, 1e10}; }

  private:
    Backend& cpu_;
};

Result<Backend*> make_fake_backend() {
    const Result<Backend*> cpu = cpu::make_cpu_backend();
    if (!cpu) return cpu;
    return static_cast<Backend*>(new FakeBackend(**cpu));
}

const bool g_registered = [] {
    register_backend("cpu", make_fake_backend);
    return true;
}();

}  // namespace

void fake_reset(void) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    g_script.clear();
    g_marks.clear();
    g_slow_us = 0, g_lies = 0, g_break = -1, g_no_queues = false, g_in_turn = false;
    g_evaluated = 0, g_begun = 0;
}
void fake_script(size_t base, const int32_t* tokens, size_t n) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    g_base = base;
    g_script.assign(tokens, tokens + n);
}
void fake_slow(int32_t us) { g_slow_us = us; }
void fake_lies(uint32_t positions) { g_lies = positions; }
void fake_break(int32_t runs) { g_break = runs; }
void fake_in_turn(int32_t on) { g_in_turn = on != 0; }
void fake_no_queues(int32_t on) { g_no_queues = on != 0; }
size_t fake_evaluated(void) { return g_evaluated; }
size_t fake_begun(void) { return g_begun; }
void fake_marks(const char* folder) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    g_marks = folder;
}
