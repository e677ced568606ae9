// Prompt lookup: if the last few tokens occurred earlier in the text, proposes the tokens that
// followed them. It needs no model and almost no time. It suits answers that quote their prompt.
#include "speculative/drafter.h"
#include "speculative/suffix_index.h"

namespace pillion {
namespace {

class LookupDrafter final : public Drafter {
  public:
    explicit LookupDrafter(int n_ngram) : index_(n_ngram) {}
    const char* kind() const override { return "lookup"; }

    void draft(const Context& target, const DraftRequest& r,
               std::vector<int32_t>& drafts) override {
        index_.follow(target.tokens(), r.last);
        const SuffixIndex::Match match = index_.find();
        if (match.length > 0) index_.copy(match.next, size_t(r.n), drafts);
    }

  private:
    SuffixIndex index_;
};

}  // namespace

std::unique_ptr<Drafter> make_lookup_drafter(int n_ngram) {
    return std::make_unique<LookupDrafter>(n_ngram);
}

}  // namespace pillion
