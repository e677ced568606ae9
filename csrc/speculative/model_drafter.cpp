// Drafts with any smaller model of the same vocabulary. Its own context follows the target's
// tokens: it keeps the common prefix and runs the rest again. If that costs too much, it reads only
// the end of the text, behind the first token (most models rely on the token that begins a text),
// and continues from there.
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
    // The drafter sees no media: a padding token stands for each of their rows.
    static int32_t token_for(int32_t id) { return std::max(0, id); }

    // Another text may be shorter than begin_.
    int begin_in(const Context& target) const { return begin_ <= target.length() ? begin_ : 0; }

    // Number of tokens that the drafter holds of the text from `begin` on.
    int held(const Context& target, int begin) const {
        const std::vector<int32_t>&text = target.tokens(), &ours = context_.tokens();
        if (ours.empty() || text.empty() || ours[0] != token_for(text[0])) return 0;
        const size_t first = begin == 0 ? 0 : 1;  // ours[first + i] is text[begin + i]
        size_t n = 0;
        while (first + n < ours.size() && size_t(begin) + n < text.size() &&
               ours[first + n] == token_for(text[size_t(begin) + n]))
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
        for (int32_t& token : tokens_) token = token_for(token);
        tokens_.push_back(r.last);
        // The positions differ by this number.
        const int before = int(tokens_.size()) - length;
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

    // Time of a draft step over that of a target step, estimated from their sizes: both read their
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
    // It holds the text's first token and the text from this position on.
    int begin_ = 0;
    DraftLength::Reading reading_;
    uint64_t n_read_ = 0;
    std::vector<int32_t> tokens_;
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<Model> model, const Context& target) {
    return std::make_unique<ModelDrafter>(std::move(model), target);
}

}  // namespace pillion
