// Any smaller model of the same vocabulary, with a context of its own that follows the target's
// tokens: what it shares with them stays, the rest is run again. Where that would cost too much it
// reads the end of the text only, behind the first token (most models lean on the one that begins a
// text), and goes on from there.
#include <math.h>

#include <algorithm>
#include <chrono>

#include "runtime/scoring.h"
#include "speculative/drafter.h"

namespace pillion {
namespace {

class ModelDrafter final : public Drafter {
  public:
    ModelDrafter(std::shared_ptr<Model> model, const Context& target)
        : context_(check(std::move(model), target), options(target)),
          share_(share(context_.model(), target.model())) {}
    const char* kind() const override { return "model"; }
    const char* head() const override { return "dense"; }
    const char* backend() const override { return context_.model().backend().name(); }
    Json plan_json() override { return placement_json(context_); }
    ContextMemory memory() const override { return memory_of(context_); }

    Unread unread(const Context& target) const override {
        const int length = target.length() + 1, begin = begin_in(target),
                  left = length - begin - held(target, begin);
        return {begin == 0 ? left : length, left, share_};
    }
    DraftLength::Reading last_reading() const override { return reading_; }
    uint64_t n_read() const override { return n_read_; }

    void draft(const Context& target, const DraftRequest& r,
               std::vector<int32_t>& drafts) override {
        reading_ = {};
        if (size_t(target.length() + 1 + r.n) > size_t(context_.n_ctx())) return;
        read(target, r);
        for (int i = 0;; i++) {
            int32_t token = context_.outputs().argmax(0);
            const float* logits = context_.outputs().logits(0);
            const int n = context_.model().hparams().n_vocab;
            if (r.p_min > 0 &&
                double(logits[token]) - log_sum_exp(logits, size_t(n)) < double(logf(r.p_min)))
                return;
            if (r.sampler) {
                r.proposals->push_back(r.sampler->distribution({logits, nullptr, n}));
                token = r.sampler->draw(r.proposals->back());
            }
            drafts.push_back(token);
            if (i + 1 == r.n) return;
            context_.eval(&token, 1, 1);
        }
    }

  private:
    // Another text may end before.
    int begin_in(const Context& target) const { return begin_ <= target.length() ? begin_ : 0; }

    // How many tokens of the text from `begin` on it holds.
    int held(const Context& target, int begin) const {
        const std::vector<int32_t>&text = target.tokens(), &ours = context_.tokens();
        if (ours.empty() || text.empty() || ours[0] != text[0]) return 0;
        const size_t first = begin == 0 ? 0 : 1;  // ours[first + i] stands for text[begin + i]
        size_t n = 0;
        while (first + n < ours.size() && size_t(begin) + n < text.size() &&
               ours[first + n] == text[size_t(begin) + n])
            n++;
        return int(n);
    }

    void read(const Context& target, const DraftRequest& r) {
        const std::vector<int32_t>& text = target.tokens();
        const int length = int(text.size()) + 1;
        begin_ = r.window >= length ? 0 : begin_in(target);
        if (length - begin_ - held(target, begin_) > r.window) begin_ = length - r.window;
        if (begin_ == 1) begin_ = 0;
        tokens_.assign(text.begin(), text.begin() + (begin_ > 0 ? 1 : 0));
        tokens_.insert(tokens_.end(), text.begin() + begin_, text.end());
        tokens_.push_back(r.last);
        const int before = int(tokens_.size()) - length;  // by so much positions differ
        const auto start = std::chrono::steady_clock::now();
        const size_t kept = context_.sync(tokens_.data(), tokens_.size(),
                                          size_t(std::max(1, target.prompt_end() + before)));
        n_read_ += tokens_.size() - kept;
        if (tokens_.size() - kept <= size_t(DraftLength::kMax) + 1) return;
        reading_.tokens = int(tokens_.size() - kept);
        reading_.ms =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                .count();
    }

    // What a step costs beside one of the target's, as far as their sizes tell: both read their
    // weights once.
    static double share(const Model& drafter, const Model& target) {
        const double sizes =
            double(drafter.weight_bytes()) / double(std::max<size_t>(1, target.weight_bytes()));
        return std::max(1e-3,
                        &drafter.backend() == &target.backend() ? sizes : std::min(sizes, 0.1));
    }

    static std::shared_ptr<Model> check(std::shared_ptr<Model> model, const Context& target) {
        const int ours = model->hparams().n_vocab, theirs = target.model().hparams().n_vocab;
        if (ours != theirs)
            fail(Status::pairing, "the drafter's vocabulary has %d tokens, the target's %d", ours,
                 theirs);
        return model;
    }
    static ContextOptions options(const Context& target) {
        ContextOptions o;
        o.n_ctx = target.n_ctx();
        o.n_threads = target.queue().n_threads();
        o.n_outputs = 1;
        o.flash = target.options().flash;
        o.swa_full = target.options().swa_full;
        o.n_snapshots = target.options().n_snapshots;
        return o;
    }
    Context context_;
    double share_;
    int begin_ = 0;  // it holds the text from here on, behind the text's first token
    DraftLength::Reading reading_;
    uint64_t n_read_ = 0;
    std::vector<int32_t> tokens_;
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<Model> model, const Context& target) {
    return std::make_unique<ModelDrafter>(std::move(model), target);
}

}  // namespace pillion
