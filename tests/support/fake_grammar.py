"""A constraint made of random numbers: what may follow depends on the last tokens, and sometimes
one only."""

import functools

import numpy as np

WINDOW = 3  # tokens that decide what may follow


def mask_of(allowed, n_vocab):
    """The words of a mask that allows these tokens."""
    bits = np.zeros(-(-n_vocab // 32) * 32, dtype=np.uint8)
    bits[list(allowed)] = 1
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


@functools.lru_cache(maxsize=4096)
def row(n_vocab, seed, forced, share, length, last):
    """(which tokens may follow, the mask) of a text."""
    rng = np.random.default_rng([seed, length, *last])
    bits = np.zeros(n_vocab, dtype=bool)
    if rng.random() >= forced:
        bits = rng.random(n_vocab) < (share if rng.random() < 0.8 else 0.01)
    bits[rng.integers(n_vocab)] = True
    return bits, mask_of(np.flatnonzero(bits), n_vocab)


class FakeGrammar:
    """forced: how often one token is all that may come; share: of the vocabulary, else."""

    stopped = False

    def __init__(self, prompt, n_vocab, seed, forced=0.25, share=0.97):
        self.text, self.n_vocab, self.seed = list(prompt), n_vocab, seed
        self.forced_share, self.share = forced, share

    def row(self, text):
        last = tuple(text[-WINDOW:])
        return row(self.n_vocab, self.seed, self.forced_share, self.share, len(text), last)

    def bits(self, text):
        return self.row(text)[0]

    def forced(self, n_max):
        return self._forced(self.text, n_max)

    def _forced(self, text, n_max):
        out = []
        while len(out) < n_max:
            (allowed,) = np.nonzero(self.bits([*text, *out]))
            if len(allowed) > 1:
                break
            out.append(int(allowed[0]))
        return out

    def plan(self, drafts, n_max):
        kept = []
        for draft in drafts[:n_max]:
            if not self.bits([*self.text, *kept])[draft]:
                break
            kept.append(draft)
        kept += self._forced([*self.text, *kept], n_max - len(kept))
        masks = [self.mask([*self.text, *kept[:i]]) for i in range(len(kept) + 1)]
        return kept, np.stack(masks)

    def mask(self, text):
        return self.row(text)[1]

    def accept(self, tokens):
        for token in tokens:
            assert self.bits(self.text)[token], "a token that was not allowed"
            self.text.append(token)
