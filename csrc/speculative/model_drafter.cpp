// Any smaller model of the same vocabulary, with a context of its own that follows the target's tokens: what it shares with them
// stays, the rest is run again.
#include <math.h>

#include "speculative/drafter.h"

namespace pillion {
namespace {

class ModelDrafter final : public Drafter {
  public:
    ModelDrafter(std::shared_ptr<Model> model, const Context& target) : context_(check(std::move(model), target), options(target)) {}
    const char* kind() const override { return "model"; }
    const char* head() const override { return "dense"; }
    const char* backend() const override { return context_.model().backend().name(); }
    std::string plan_json() override { return context_.placement_json(); }
    ContextMemory memory() const override { return context_.memory(); }

    void draft(const Context& target, const DraftRequest& r, std::vector<int32_t>& drafts) override {
        tokens_ = target.tokens();
        tokens_.push_back(r.last);
        if (tokens_.size() + size_t(r.n) > size_t(context_.n_ctx())) return;
        context_.set_tokens(tokens_.data(), tokens_.size(), size_t(target.prompt_end()));
        for (int i = 0;; i++) {
            int32_t token = context_.pick(0);
            const float* logits = context_.logits(0);
            const int n = context_.model().hparams().n_vocab;
            if (r.p_min > 0 && double(logits[token]) - log_sum_exp(logits, size_t(n)) < double(logf(r.p_min))) return;
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
    static std::shared_ptr<Model> check(std::shared_ptr<Model> model, const Context& target) {
        const int ours = model->hparams().n_vocab, theirs = target.model().hparams().n_vocab;
        if (ours != theirs) fail(Status::pairing, "the drafter's vocabulary has %d tokens, the target's %d", ours, theirs);
        return model;
    }
    static ContextOptions options(const Context& target) {
        ContextOptions o;
        o.n_ctx = target.n_ctx();
        o.n_threads = target.queue().n_threads();
        o.n_outputs = 1;
        o.flash = target.flash();
        o.swa_full = target.swa_full();
        o.n_snapshots = target.n_snapshots();
        return o;
    }
    Context context_;
    std::vector<int32_t> tokens_;
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<Model> model, const Context& target) {
    return std::make_unique<ModelDrafter>(std::move(model), target);
}

}  // namespace pillion
