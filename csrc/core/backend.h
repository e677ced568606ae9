// The interface of a device. The rest of the library reaches devices only through these classes and
// the registry. Every function that can fail returns a Result. No exception leaves a backend.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/contract/step_state.h"
#include "core/graph.h"
#include "core/json.h"
#include "core/result.h"

namespace pillion {

// One step of a plan, for reports.
struct StepInfo {
    Op op;  // count: of no op
    int layer;
    const char* backend;
    std::string kernel;
    int session = -1;  // on a device that has several
};

// A compiled graph: immutable and replayable. It borrows its weights, caches and external buffers.
class Plan {
  public:
    virtual ~Plan() = default;
    // Enqueues one run; on the CPU it has run when this returns. state.rows <= rows_max and
    // state.out_rows <= out_rows_max of the graph. The tokens lie in their buffer.
    virtual Result<void> run(const StepState& state) = 0;
    // Waits for the last run. Fails with cancelled if the run saw the queue's cancel flag; the
    // outputs are then undefined.
    virtual Result<void> wait() = 0;
    virtual size_t scratch_bytes() const = 0;
    virtual std::vector<StepInfo> steps() const = 0;
    Json to_json() const;  // [{"op", "layer", "backend", "kernel"}, ...], some with "session"
};

// Receives the inputs of a run's matrix products: f32 rows, before a kernel rounds them to its own
// format. A plan compiled without an observer has no step for it.
class MatmulObserver {
  public:
    virtual ~MatmulObserver() = default;
    // At compile time: returns the number that stands for this weight in observe(); -1: the
    // observer skips this weight.
    virtual int number_of(const Tensor& weight) const = 0;
    // Receives inputs [begin, end) of the rows that go through a weight, or through matrix `expert`
    // of a stack. Any thread may call it. Concurrent calls for one weight differ in expert or
    // inputs, and each input receives its rows in the order of the run.
    virtual void observe(int number, int expert, const float* const* rows, int n_rows, int begin,
                         int end) = 0;
};

enum class Flash : uint8_t { automatic, on, off };

struct CompileOptions {
    MatmulObserver* observer = nullptr;  // outlives the plan
    // on: attention that only a kernel without tiling can run is an error. off: that kernel runs
    // all attention. The CPU backend has one kernel, which tiles every shape, so all three are the
    // same there.
    Flash flash = Flash::automatic;
};

// An execution stream: the CPU's thread pool, a CUDA stream. The plans of one queue run one after
// another.
class Queue {
  public:
    virtual ~Queue() = default;
    virtual int n_threads() const = 0;
    std::atomic<bool> cancel{false};  // any thread sets it; the owner clears it before a run
};

struct WeightSource {
    const char* name;  // for error sentences
    DType dtype;
    int64_t width, rows, depth;
    // as in the file; null: reserves the weight's memory without content (Model::without_content)
    const uint8_t* data;
    enum class Use : uint8_t {
        matrix,  // operand of matmul; embed may read it too
        vector,  // norm weights and similar vectors; becomes f32
        // read only by embed, or a list of token ids; stays in the file's mapping if `mapped`
        // allows it
        table,
    } use;
    // the file as a buffer, if its bytes stay for the model's life; else null
    Buffer* mapped;
    size_t mapped_offset;
    // Reports source bytes that the import will not read again. May be null. The import calls it as
    // it goes, so that the source and the copy of a big tensor are never whole in memory together.
    void (*done)(const void* owner, const uint8_t* data, size_t bytes) = nullptr;
    const void* owner = nullptr;
    // matrix: row r of the result is row row_order[r] of the file; null: the file's order
    const int32_t* row_order = nullptr;
};

// Measured upper limits of the machine. 0: unknown.
struct MachineLimits {
    double read_bytes_per_second = 0;     // memory reads, all threads of the queue
    double multiply_adds_per_second = 0;  // int8, all threads
};

// The memory that weights, caches and scratch come from. 0: unknown.
struct MemoryInfo {
    size_t total = 0, free = 0;
    bool unified = false;  // the device uses the host's memory
};
// This machine's memory. `free` includes what the page cache would give back.
MemoryInfo host_memory();

class Backend {
  public:
    virtual ~Backend() = default;
    virtual const char* name() const = 0;
    virtual Json info_json() const = 0;
    // True if the backend works on every buffer that has host(), of any backend: the CPU.
    virtual bool is_host() const { return false; }
    virtual MemoryInfo memory() const { return {}; }
    // True if a run may have rows of several sequences: segments, and caches with page tables.
    // Otherwise a run has one segment, and its caches have no table.
    virtual bool batches() const { return false; }
    // In runs of up to so many rows a row has the same bits whatever stands beside it. In longer
    // ones they may change with the rows of the run. 0: they are the same in all runs.
    virtual int few_rows() const { return 0; }
    // Whether the backend runs this node; unsupported_op with the reason: it does not.
    virtual Result<void> supports(const Graph& graph, const Node& node) const = 0;
    virtual Result<std::unique_ptr<Buffer>> allocate(size_t size, BufferKind kind) = 0;
    // Null if this device cannot read host memory.
    virtual std::unique_ptr<Buffer> map_host(uint8_t* bytes, size_t size) = 0;
    // Copies bytes out of or into any buffer, also one without host(), after the runs enqueued so
    // far. Slow: for set-up and tests.
    virtual Result<void> read(const Buffer& from, size_t offset, size_t bytes, void* to);
    virtual Result<void> write(const void* from, size_t bytes, Buffer& to, size_t offset);
    virtual Result<std::unique_ptr<Queue>> make_queue(int n_threads) = 0;

    // weight_bytes: bytes of the weight in the backend's layout; 0: it stays mapped. import_weight
    // writes that layout once, at load, at `offset` of `buffer`.
    virtual Result<size_t> weight_bytes(const WeightSource& source) const = 0;
    virtual Result<Tensor> import_weight(const WeightSource& source, Buffer& buffer, size_t offset,
                                         Queue& queue) = 0;
    virtual size_t kv_bytes(const KvSpec& spec) const = 0;
    // Names the layout of a cache. A host backend reads another backend's cache in place if both
    // names are equal and the buffer has host().
    virtual const char* kv_layout() const = 0;
    // Where rows lie in a store of that layout, so that they can be copied. Together the strips are
    // all that belongs to a slot.
    virtual std::vector<KvStrip> kv_strips(const KvSpec& spec) const = 0;

    virtual Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                                  const CompileOptions& options = {}) = 0;
    // Scratch bytes that a plan of this graph would allocate. Reads only shapes, so the buffers
    // need no memory behind them.
    virtual Result<size_t> plan_bytes(const Graph& graph, Queue& queue,
                                      const CompileOptions& options = {});
    // Takes about half a second and, for that time, some hundred MB.
    virtual Result<MachineLimits> measure_limits(Queue& queue) = 0;
};

// --- registry ---
// Names: "cpu"; "cuda", "cuda:<number>" and "htp" (modules opened on demand, core/module.h);
// "auto": a CUDA device if one is present, else "cpu". Throws Error{no_backend} with the device's
// name and the reason why it is absent.
Backend& find_backend(const std::string& device);
Json backends_json();  // [{"name", "available", "info" or "reason"}, ...]

using BackendFactory = Result<Backend*> (*)();
// api/ registers the linked backends before their first use.
void register_backend(const char* name, BackendFactory factory);

}  // namespace pillion
