#include "runtime/outputs.h"

#include <algorithm>

namespace pillion {

std::unique_ptr<Buffer> allocate(Backend& backend, BufferKind kind, size_t bytes,
                                 const char* what) {
    return backend.allocate(bytes, kind).value_or_throw(what);
}

Outputs::Outputs(const Model& model, int rows_max, Kind kind)
    : backend_(model.backend()), kind_(kind), rows_max_(rows_max) {
    const int64_t n_embd = model.hparams().n_embd, n_vocab = model.hparams().n_vocab;
    const size_t rows = size_t(rows_max), hidden_bytes = rows * size_t(n_embd) * 4;
    buffer_ = allocate(backend_, BufferKind::state, hidden_bytes + rows * 4, "outputs");
    hidden_ = {DType::f32, Layout::rows, n_embd, rows_max, 1, buffer_.get(), 0};
    if (kind == Kind::hidden) return;
    argmax_tokens_ = {DType::i32, Layout::rows, 1, rows_max, 1, buffer_.get(), hidden_bytes};
    scores_ = allocate(backend_, BufferKind::scratch, rows * size_t(n_vocab) * 4, "logits");
    logits_ = {DType::f32, Layout::rows, n_vocab, rows_max, 1, scores_.get(), 0};
}

void Outputs::set_rows(int rows) {
    rows_ = rows, run_++;
    std::fill(is_fetched_.begin(), is_fetched_.end(), uint8_t(0));
}

void Outputs::connect(GraphInputs& inputs) const {
    inputs.hidden = hidden_, inputs.logits = logits_, inputs.argmax_tokens = argmax_tokens_;
    inputs.hidden_only = kind_ == Kind::hidden;
}

size_t Outputs::bytes() const { return buffer_->size() + (scores_ ? scores_->size() : 0); }

const Tensor& Outputs::checked(int row, const Tensor& t) const {
    if (row < 0 || row >= rows_)
        fail(Status::invalid_argument, "output row %d, the last eval gave %d", row, rows_);
    return t;
}

int OutputRows::checked(int row) const {
    if (row < 0 || row >= rows())
        fail(Status::invalid_argument, "output row %d, the last eval gave %d", row, rows());
    return first_ + row;
}

const float* Outputs::logits(int row) const {
    const Tensor& t = checked(row, logits_);
    if (t.buffer->host()) return reinterpret_cast<const float*>(t.host()) + row * t.width;
    const size_t n = size_t(rows_max_);
    if (!fetched_)
        fetched_ = allocate(backend_, BufferKind::state, n * size_t(t.width) * 4, "logits");
    is_fetched_.resize(n);
    float* to = reinterpret_cast<float*>(fetched_->host()) + int64_t(row) * t.width;
    if (!is_fetched_[size_t(row)]) read_logits(row, to);
    is_fetched_[size_t(row)] = 1;
    return to;
}

const float* Outputs::logits(int row, std::vector<float>& room) const {
    const Tensor& t = checked(row, logits_);
    if (t.buffer->host()) return reinterpret_cast<const float*>(t.host()) + row * t.width;
    room.resize(size_t(t.width));
    read_logits(row, room.data());
    return room.data();
}

void Outputs::read_logits(int row, float* to) const {
    const size_t bytes = size_t(logits_.width) * 4;
    backend_.read(*logits_.buffer, logits_.offset + size_t(row) * bytes, bytes, to)
        .value_or_throw("logits");
}

const float* Outputs::hidden(int row) const {
    const Tensor& t = checked(row, hidden_);
    return reinterpret_cast<const float*>(t.host()) + row * t.width;
}

int32_t Outputs::argmax(int row) const {
    return reinterpret_cast<const int32_t*>(checked(row, argmax_tokens_).host())[row];
}

}  // namespace pillion
