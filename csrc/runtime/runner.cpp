#include "runtime/runner.h"

#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

// Rings have room for so many rows beside the window, however short runs are: a text that leaves
// the prompt a few tokens before its end (a chat template's beginning of an answer) still finds the
// window there.
constexpr int kRewindRows = 128;

KvPoolOptions pool_options(const ContextOptions& o, int n_sequences, int n_pages) {
    return {o.kv_type, o.n_ctx, std::max(o.n_batch, kRewindRows), o.swa_full, n_sequences, n_pages};
}

}  // namespace

bool can_batch(const Placement& placement, const Backend* drafter) {
    const auto is_able = [](const Backend* b) { return !b || b->batches(); };
    return is_able(placement.front) && is_able(placement.back) && is_able(drafter);
}

Runner::Runner(std::shared_ptr<Model> model, const ContextOptions& o, int n_sequences, int n_pages)
    : model_(std::move(model)), options_(checked_options(*model_, o)),
      pool_(std::make_shared<KvPool>(model_->hparams(), model_->placement(),
                                     pool_options(options_, n_sequences, n_pages))),
      queues_(options_.n_threads), places_(make_places()),
      token_buffer_(allocate(*model_->placement().front, BufferKind::state,
                             size_t(std::max(options_.n_batch, kTokenRowsMin)) * 4,
                             "token buffer")),
      outputs_(*model_, options_.n_outputs),
      activations_(o.collect_activations ? std::make_unique<ActivationStats>(model_->weights())
                                         : nullptr),
      plans_(*model_, places_, graph_inputs(options_.n_batch, outputs_), compile_options()) {
    plans_.get(1);  // what can't run is said now, not at the first token
}

GraphInputs Runner::graph_inputs(int rows_max, const Outputs& outputs) const {
    GraphInputs in = {};
    in.rows_max = rows_max, in.out_rows_max = outputs.rows_max();
    in.kv = pool_->places();
    in.tokens = {DType::i32, Layout::rows, 1, rows_max, 1, token_buffer_.get(), 0};
    outputs.connect(in);
    return in;
}

// By Part. Without a split front and back are the same.
std::vector<PartPlace> Runner::make_places() {
    const Placement& p = model_->placement();
    return {{p.front, &queue_on(*p.front)}, {p.back, &queue_on(*p.back)}, {nullptr, nullptr}};
}

CompileOptions Runner::compile_options() const {
    CompileOptions options;
    options.observer = activations_.get();
    options.flash = options_.flash;
    return options;
}

std::unique_ptr<PlanCache> Runner::make_plans(const Outputs& outputs) const {
    return std::make_unique<PlanCache>(*model_, places_, graph_inputs(outputs.rows_max(), outputs),
                                       compile_options());
}

bool Runner::add_replicas(Backend& backend) {
    if (pool_->has_replicas_on(backend)) return false;
    pool_->add_replicas(backend);
    if (!pool_->has_replicas_on(backend)) return false;  // it reads what there is
    try {
        places_[Part::drafter] = {&backend, &queue_on(backend)};
        plans_.set_kv(pool_->places());
        plans_.get(1);
    } catch (...) {         // all goes on as it was
        plans_.set_kv({});  // plans go before what they write
        pool_->drop_replicas();
        plans_.set_kv(pool_->places());
        places_[Part::drafter] = {};
        throw;
    }
    return true;
}

Tensor Runner::token_slots(int first, int rows) const {
    PILLION_CHECK(first >= 0 && first + rows <= std::max(options_.n_batch, kTokenRowsMin));
    return {DType::i32, Layout::rows, 1, rows, 1, token_buffer_.get(), size_t(first) * 4};
}

// A part whose rows have outputs only at its end has two segments, unless they touch.
void Runner::place_rows(const RunPart* parts, size_t n, StepState& state) const {
    for (const bool outs : {false, true})
        for (size_t i = 0; i < n; i++) {
            const RunPart& p = parts[i];
            const int first = outs ? p.n_rows - p.n_outputs : 0,
                      rows = outs ? p.n_outputs : p.n_rows - p.n_outputs;
            if (rows == 0) continue;
            const Segment s = {state.rows, rows, p.kv->length() + first, p.kv->sequence()};
            if (p.tokens) memcpy(token_words() + state.rows, p.tokens + first, size_t(rows) * 4);
            state.rows += rows;
            if (outs) state.out_rows += rows;
            Segment* last = state.n_segments > 0 ? &state.segments[state.n_segments - 1] : nullptr;
            if (last && last->table == s.table && last->pos + last->n_rows == s.pos)
                last->n_rows += rows;
            else if (state.n_segments == PILLION_SEGMENTS_MAX)
                fail(Status::invalid_argument, "a run takes at most %d segments of sequences",
                     PILLION_SEGMENTS_MAX);
            else state.segments[state.n_segments++] = s;
        }
}

void Runner::run(const RunPart* parts, size_t n, PlanCache& plans) {
    StepState state = {};
    place_rows(parts, n, state);
    Plan& plan = plans.get(state.rows);
    for (size_t i = 0; i < n; i++) parts[i].kv->begin_write(parts[i].n_rows);
    Result<void> done = plan.run(state);
    if (done) done = plan.wait();
    if (!done && activations_) activations_->invalidate();
    done.value_or_throw();
    for (size_t i = 0; i < n; i++) parts[i].kv->end_write(parts[i].n_rows);
}

}  // namespace pillion
