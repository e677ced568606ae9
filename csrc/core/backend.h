// What a device must offer. The rest of the library reaches devices only through these classes and
// the registry. Everything that can fail returns Status with the sentence in `reason`; no exception
// leaves a backend.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/contract/step_state.h"
#include "core/error.h"
#include "core/graph.h"

namespace pillion {

// A compiled graph: immutable, replayable. Borrows its weights, caches and external buffers.
class Plan {
  public:
    virtual ~Plan() = default;
    // Enqueues one run. state.rows <= rows_max and state.out_rows <= out_rows_max of the graph;
    // tokens lie in their buffer.
    virtual Status run(const StepState& state, Reason& reason) = 0;
    // Until the last run is done. cancelled when the queue's cancel flag was seen; the outputs are
    // then undefined.
    virtual Status wait(Reason& reason) = 0;
    virtual size_t scratch_bytes() const = 0;
    virtual std::string to_json() const = 0;  // array of {op, layer, backend, kernel}
};

// Is shown what the matrix products of a run are fed: f32 rows, before any kernel rounds them to a
// format of its own. A plan compiled without one has no step for it.
class MatmulObserver {
  public:
    virtual ~MatmulObserver() = default;
    // At compile time: the number by which a run will name this weight; -1: not of interest.
    virtual int number_of(const Tensor& weight) const = 0;
    // Inputs [begin, end) of rows that go through a weight (of a stack: through its matrix
    // `expert`). Any thread; parts of one weight that run at the same time differ in expert or
    // inputs, and each input meets its rows in the order of the run.
    virtual void observe(int number, int expert, const float* const* rows, int n_rows, int begin,
                         int end) = 0;
};

enum class Flash : uint8_t { automatic, on, off };

struct CompileOptions {
    MatmulObserver* observer = nullptr;  // outlives the plan
    // on: attention that only a kernel without tiling can run is an error. off: that kernel for all
    // attention. Where a backend has one kernel, which tiles and runs every shape (cpu), all three
    // are the same.
    Flash flash = Flash::automatic;
};

// An execution stream: the CPU's thread pool, a CUDA stream. Plans of one queue run one after
// another.
class Queue {
  public:
    virtual ~Queue() = default;
    virtual int n_threads() const = 0;
    std::atomic<bool> cancel{false};  // set by anyone, cleared by the owner before a run
};

struct WeightSource {
    const char* name;  // for sentences
    DType dtype;
    int64_t width, rows, depth;
    const uint8_t* data;  // as in the file; null: the weight gets its place and no content
    enum class Use : uint8_t {
        matrix,  // operand of matmul, may also be embedded from
        vector,  // norm weights and the like: becomes f32
        table,   // only embedded from, or token ids: stays where it is when `mapped` allows
    } use;
    Buffer* mapped;  // the file as a buffer, when its bytes stay for the model's life
    size_t mapped_offset;
    // The import will not read these source bytes again (may be null). Called as it goes, so that a
    // big tensor is not held twice.
    void (*done)(const void* owner, const uint8_t* data, size_t bytes) = nullptr;
    const void* owner = nullptr;
    const int32_t* row_order =
        nullptr;  // matrix: row r of the result is row row_order[r] of the file; null: as they are
};

// What the machine can do at best, measured. 0: unknown.
struct MachineLimits {
    double read_bytes_per_second = 0;     // of memory, all threads of the queue
    double multiply_adds_per_second = 0;  // int8, all threads
};

// Memory that weights, caches and scratch come from. 0: unknown.
struct MemoryInfo {
    size_t total = 0, free = 0;
    bool unified = false;  // the host's own
};
MemoryInfo
host_memory();  // of this machine; what is free counts what the page cache would give back

class Backend {
  public:
    virtual ~Backend() = default;
    virtual const char* name() const = 0;
    virtual std::string info_json() const = 0;
    // Works on every buffer that has host(), whichever backend it comes from: the CPU.
    virtual bool is_host() const { return false; }
    virtual MemoryInfo memory() const { return {}; }
    virtual bool supports(const Graph& graph, const Node& node, Reason& reason) const = 0;
    virtual Status allocate(size_t size, BufferKind kind, std::unique_ptr<Buffer>& buffer,
                            Reason& reason) = 0;
    virtual std::unique_ptr<Buffer> map_host(
        uint8_t* bytes, size_t size) = 0;  // null: this device cannot read host memory
    // Bytes of any buffer, also of one without host(); after the runs enqueued so far. Slow: for
    // set-up and tests.
    virtual Status read(const Buffer& from, size_t offset, size_t bytes, void* to, Reason& reason);
    virtual Status write(const void* from, size_t bytes, Buffer& to, size_t offset, Reason& reason);
    virtual std::unique_ptr<Queue> make_queue(int n_threads) = 0;

    // Bytes a weight takes in the backend's layout (0: it stays mapped), then its import at
    // `offset` of `buffer`, once, at load.
    virtual Status weight_bytes(const WeightSource& source, size_t& bytes,
                                Reason& reason) const = 0;
    virtual Status import_weight(const WeightSource& source, Buffer& buffer, size_t offset,
                                 Queue& queue, Tensor& tensor, Reason& reason) = 0;
    virtual size_t kv_bytes(const KvSpec& spec) const = 0;
    // Names the layout of a cache. A host backend reads another's cache in place when they say the
    // same and the buffer has host().
    virtual const char* kv_layout() const = 0;

    virtual Status compile(const Graph& graph, Queue& queue, std::unique_ptr<Plan>& plan,
                           Reason& reason, const CompileOptions& options = {}) = 0;
    // Scratch that a plan of this graph would allocate; looks at shapes alone, so that buffers need
    // no memory behind them.
    virtual Status plan_bytes(const Graph& graph, Queue& queue, size_t& bytes, Reason& reason,
                              const CompileOptions& options = {});
    // Takes about half a second and some hundred MB for that time.
    virtual Status measure_limits(Queue& queue, MachineLimits& limits, Reason& reason) = 0;
};

// --- registry ---
// "cpu", "cuda", "cuda:<number>" and "htp" (modules opened on demand, core/module.h), "auto": a
// CUDA device where there is one, else "cpu". Throws Error{no_backend} naming the device and why it
// is absent.
Backend& find_backend(const std::string& device);
std::string backends_json();

using BackendFactory = Backend* (*)(Reason& reason);  // nullptr: not on this machine, see reason
void register_backend(
    const char* name,
    BackendFactory factory);  // api/ registers what is linked in, before first use

}  // namespace pillion
