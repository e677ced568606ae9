// Prompt lookup: if the last few tokens occurred earlier in the text, proposes the tokens that
// followed them. It needs no model and almost no time. It suits answers that quote their prompt.
#include <algorithm>

#include "speculative/drafter.h"

namespace pillion {
namespace {

class LookupDrafter final : public Drafter {
  public:
    explicit LookupDrafter(int n_ngram) : n_ngram_(n_ngram) {}
    const char* kind() const override { return "lookup"; }

    // Finds the longest run of at most n_ngram last tokens that occurred before, at its latest
    // occurrence.
    void draft(const Context& target, const DraftRequest& r,
               std::vector<int32_t>& drafts) override {
        text_ = target.tokens();
        text_.push_back(r.last);
        const int length = int(text_.size());
        const size_t most = drafts.size() + size_t(r.n);
        for (int n = std::min(n_ngram_, length - 1); n >= 1; n--)
            for (int at = length - 1 - n; at >= 0; at--)
                if (std::equal(text_.end() - n, text_.end(), text_.begin() + at)) {
                    // A row of a medium is no token that could follow.
                    for (int i = at + n; i < length && drafts.size() < most; i++) {
                        if (text_[size_t(i)] < 0) break;
                        drafts.push_back(text_[size_t(i)]);
                    }
                    return;
                }
    }

  private:
    int n_ngram_;
    std::vector<int32_t> text_;
};

}  // namespace

std::unique_ptr<Drafter> make_lookup_drafter(int n_ngram) {
    return std::make_unique<LookupDrafter>(n_ngram);
}

}  // namespace pillion
