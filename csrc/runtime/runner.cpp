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

void Runner::expect_media() {
    if (media_buffer_) return;
    const HParams& hp = model_->hparams();
    if (!hp.takes_media)
        fail(Status::unsupported_model, "%s: a model of architecture %s takes no images or sounds",
             model_->file().path().c_str(), hp.arch_name());
    Backend& front = *model_->placement().front;
    const int64_t rows = options_.n_batch;
    auto media = allocate(front, BufferKind::state, size_t(rows * hp.n_embd) * 4, "rows of media");
    std::unique_ptr<Buffer> until;
    Tensor seen;
    if (hp.image_bidirectional) {
        until = allocate(front, BufferKind::state, size_t(rows) * 4, "ends of media");
        seen = {DType::i32, Layout::rows, 1, rows, 1, until.get(), 0};
    }
    plans_.set_media({DType::f32, Layout::rows, hp.n_embd, rows, 1, media.get(), 0}, seen);
    media_buffer_ = std::move(media), until_buffer_ = std::move(until);
}

size_t Runner::input_bytes() const {
    size_t n = token_buffer_->size();
    for (const auto* buffer : {&media_buffer_, &until_buffer_})
        if (*buffer) n += (*buffer)->size();
    return n;
}

// Tokens of rows first .. of a part, for the rows `row` .. of the run.
void Runner::place_tokens(const RunPart& p, int first, int rows, int row) {
    if (!p.tokens) return;
    int32_t* const words = token_words() + row;
    memcpy(words, p.tokens + first, size_t(rows) * 4);
    if (media_buffer_) place_media(p, first, rows, row);
}

void Runner::place_media(const RunPart& p, int first, int rows, int row) {
    const size_t n_embd = size_t(model_->hparams().n_embd);
    Medium medium;
    for (int i = 0; i < rows; i++) {
        const int32_t id = p.tokens[first + i];
        int until = p.kv->length() + first + i;
        if (id < 0) {
            if (!medium || id > medium.first || medium.index(id) >= medium.n_rows)
                medium = model_->media().find(id);
            PILLION_CHECK(medium && medium.rows);
            const int index = medium.index(id);
            memcpy(reinterpret_cast<float*>(media_buffer_->host()) + size_t(media_rows_) * n_embd,
                   medium.rows->data() + size_t(index) * n_embd, n_embd * sizeof(float));
            token_words()[row + i] = -1 - media_rows_++;
            if (medium.is_block) until += medium.n_rows - 1 - index, has_blocks_ = true;
        }
        if (until_buffer_) reinterpret_cast<int32_t*>(until_buffer_->host())[row + i] = until;
    }
}

// A part whose rows have outputs only at its end has two segments, unless they touch.
void Runner::place_rows(const RunPart* parts, size_t n, StepState& state) {
    media_rows_ = 0, has_blocks_ = false;
    for (const bool outs : {false, true})
        for (size_t i = 0; i < n; i++) {
            const RunPart& p = parts[i];
            const int first = outs ? p.n_rows - p.n_outputs : 0,
                      rows = outs ? p.n_outputs : p.n_rows - p.n_outputs;
            if (rows == 0) continue;
            const Segment s = {state.rows, rows, p.kv->length() + first, p.kv->sequence()};
            place_tokens(p, first, rows, state.rows);
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
    Plan& plan = plans.get(state.rows, has_blocks_);
    for (size_t i = 0; i < n; i++) parts[i].kv->begin_write(parts[i].n_rows);
    Result<void> done = plan.run(state);
    if (done) done = plan.wait();
    if (!done && activations_) activations_->invalidate();
    done.value_or_throw();
    for (size_t i = 0; i < n; i++) parts[i].kv->end_write(parts[i].n_rows);
}

}  // namespace pillion
