// What runs leave of their last rows: hidden rows, logits, most likely tokens. Logits stay on the
// device until somebody wants them: a greedy step reads an argmax and no more.
#pragma once
#include <memory>
#include <vector>

#include "model/model.h"

namespace pillion {

class Outputs {
  public:
    enum class Kind : uint8_t { all, hidden };  // hidden: hidden rows only

    Outputs(const Model& model, int rows_max, Kind kind = Kind::all);

    int rows_max() const { return rows_max_; }
    int rows() const { return rows_; }  // of the last run
    // A run has left so many. What was there before is no longer valid.
    void set_rows(int rows);
    uint64_t run() const { return run_; }  // changes with every set_rows

    // Rows 0 .. rows() - 1, valid until the next set_rows. Throw Error{invalid_argument} for
    // others.
    const float* logits(int row) const;  // [n_vocab]
    const float* hidden(int row) const;  // [n_embd]
    int32_t argmax(int row) const;       // most likely token

    // Logits without keeping a copy: in place where the host can, else in `room`, [n_vocab].
    const float* logits(int row, std::vector<float>& room) const;

    void connect(GraphInputs& inputs) const;  // makes a graph write here
    size_t bytes() const;

  private:
    const Tensor& checked(int row, const Tensor& t) const;
    void read_logits(int row, float* to) const;

    Backend& backend_;
    Kind kind_;
    int rows_max_, rows_ = 0;
    uint64_t run_ = 0;
    std::unique_ptr<Buffer> buffer_, scores_;
    Tensor hidden_, logits_, argmax_tokens_;
    // Rows of logits as the host has them, where it can't look at scores_ itself: in a buffer of
    // the backend's, which it copies to without a detour.
    mutable std::unique_ptr<Buffer> fetched_;
    mutable std::vector<uint8_t> is_fetched_;
};

// The rows of one sequence among the outputs of a run; none once another run has followed.
class OutputRows {
  public:
    explicit OutputRows(const Outputs& of) : of_(&of) {}

    int rows_max() const { return of_->rows_max(); }
    int rows() const { return of_->run() == run_ ? rows_ : 0; }
    // Rows first .. first + rows - 1 of the last run.
    void set(int first, int rows) { run_ = of_->run(), first_ = first, rows_ = rows; }
    void clear() { rows_ = 0; }

    // As those of Outputs.
    const float* logits(int row) const { return of_->logits(checked(row)); }
    const float* hidden(int row) const { return of_->hidden(checked(row)); }
    int32_t argmax(int row) const { return of_->argmax(checked(row)); }

  private:
    int checked(int row) const;
    const Outputs* of_;
    uint64_t run_ = 0;
    int first_ = 0, rows_ = 0;
};

// Throws Error with `what` in its sentence.
std::unique_ptr<Buffer> allocate(Backend& backend, BufferKind kind, size_t bytes, const char* what);

}  // namespace pillion
