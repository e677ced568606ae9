#include "speculative/suffix_index.h"

#include <algorithm>

namespace pillion {

void SuffixIndex::follow(const std::vector<int32_t>& tokens, int32_t last) {
    const size_t most = std::min(text_.size(), tokens.size());
    const auto end = text_.begin() + std::ptrdiff_t(most);
    size_t same = size_t(std::mismatch(text_.begin(), end, tokens.begin()).first - text_.begin());
    if (same == tokens.size() && same < text_.size() && text_[same] == last) same++;
    while (text_.size() > same) pop();
    while (text_.size() < tokens.size()) push(tokens[text_.size()]);
    if (text_.size() == tokens.size()) push(last);
}

size_t SuffixIndex::bucket(int n, int end) const {
    uint64_t hash = 0;
    for (int i = 0; i < n; i++)
        hash = (hash ^ uint32_t(text_[size_t(end - i)])) * 0x9e3779b97f4a7c15u;
    return size_t(hash >> 32) & (chains_[n - 1].latest.size() - 1);
}

void SuffixIndex::push(int32_t token) {
    text_.push_back(token);
    if (text_.size() > chains_[0].latest.size()) grow();
    else link(int(text_.size()) - 1);
}

void SuffixIndex::link(int end) {
    for (int n = 1; n <= kGrams; n++) {
        Chain& chain = chains_[n - 1];
        chain.before.push_back(-1);
        if (end + 1 < n) continue;
        int32_t& latest = chain.latest[bucket(n, end)];
        chain.before.back() = latest, latest = end;
    }
}

void SuffixIndex::pop() {
    const int end = int(text_.size()) - 1;
    for (int n = 1; n <= kGrams; n++) {
        Chain& chain = chains_[n - 1];
        if (end + 1 >= n) chain.latest[bucket(n, end)] = chain.before.back();
        chain.before.pop_back();
    }
    text_.pop_back();
}

// As many buckets as tokens, a power of two.
void SuffixIndex::grow() {
    const size_t n = std::max<size_t>(256, 2 * chains_[0].latest.size());
    for (Chain& chain : chains_) chain.latest.assign(n, -1), chain.before.clear();
    for (size_t end = 0; end < text_.size(); end++) link(int(end));
}

// Number of equal tokens before two ends, both included.
int SuffixIndex::common(int end, int other, int most) const {
    int n = 0;
    while (n < most && n <= other && text_[size_t(end - n)] == text_[size_t(other - n)]) n++;
    return n;
}

SuffixIndex::Match SuffixIndex::find() const {
    const int end = int(text_.size()) - 1;
    for (int n = std::min({longest_, int(kGrams), end}); n >= 1; n--) {
        const std::vector<int32_t>& before = chains_[n - 1].before;
        const int most = n == kGrams ? longest_ : n;
        Match best;
        int left = kCandidates;
        for (int at = before[size_t(end)]; at >= 0 && left > 0; at = before[size_t(at)], left--)
            if (const int same = common(end, at, most); same >= n && same > best.length) {
                best = {same, at + 1};
                if (same == most) break;
            }
        if (best.length > 0) return best;
    }
    return {};
}

void SuffixIndex::copy(int at, size_t n, std::vector<int32_t>& out) const {
    for (size_t i = size_t(at); i < text_.size() && n > 0 && text_[i] >= 0; i++, n--)
        out.push_back(text_[i]);
}

}  // namespace pillion
