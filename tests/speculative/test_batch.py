"""A batch over the real library: every sequence writes what it writes alone, logits bit for bit."""

import random

import numpy as np
import pytest
from patience import over_and_over

WORDS = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and "
    "void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face "
    "of the waters. And God said, Let there be light: and there was light. And God saw the light, "
    "that it was good: and God divided the light from the darkness. "
)
N_CTX = 1024
SAMPLINGS = [
    {"temperature": 0},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_k": 20, "repeat_penalty": 1.2},
]


@pytest.fixture(scope="module")
def models(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    return (
        pillion.Model.open(TINY_TARGET, device="cpu"),
        pillion.Model.open(TINY_ASSISTANT, device="cpu"),
    )


@pytest.fixture(scope="module")
def text(models):
    return models[0].tokenizer.encode(WORDS * 6)


def sampler(pillion, options):
    return pillion.Sampler(pillion.SamplingParams(**options))


class Sequence:
    """A sequence of a batch that keeps what was asked and what came of it."""

    def __init__(self, pillion, batch, sampling):
        self.pillion, self.sampling = pillion, sampling
        self.pair = batch.pair(batch.context())
        self.entry = pillion.BatchEntry(self.pair, sampler(pillion, sampling))
        self.asked, self.came, self.stats = [], [], None

    @property
    def context(self):
        return self.pair.context

    def prompt(self, tokens):
        self.entry.prompt = tokens
        self.asked.append(("prompt", list(tokens)))

    def round(self, k, n_max):
        self.entry.n_draft, self.entry.n_max = k, n_max
        self.asked.append(("round", k, n_max))

    def after(self):
        entry = self.entry
        assert entry.error is None
        if entry.prompt is not None:
            if entry.left:
                return
            entry.prompt = None
            self.asked.append(("round", entry.n_draft, entry.n_max))
        self.came.append(result(self.context, entry.round))

    def leave(self):
        """Gives what it holds back to the batch."""
        self.stats = self.pair.stats
        self.pair.close()
        self.context.close()

    def check(self, model, drafter, **options):
        """Asks the same of a pair by itself."""
        with self.pillion.Pair(model.context(2048, **options), drafter) as pair:
            chooser, came = sampler(self.pillion, self.sampling), []
            for what, *how in self.asked:
                if what == "prompt":
                    pair.sync(*how)
                else:
                    k, n_max = how
                    came.append(result(pair.context, pair.step(chooser, k, n_max)))
            ours, theirs = self.stats or self.pair.stats, pair.stats
        assert [one[0] for one in self.came] == [one[0] for one in came]
        assert self.came == came
        assert (ours.drafted_at, ours.accepted_at) == (theirs.drafted_at, theirs.accepted_at)


def result(context, one):
    rows = [hash(context.logits(row).tobytes()) for row in range(len(one.tokens))]
    return one.tokens, one.drafted, one.accepted, rows


def drive(pillion, batch, text, seed, n_steps, lengths=range(9)):
    """Rounds and prompts, joins and leaves by chance. Returns all sequences there were."""
    rng = random.Random(seed)
    live, gone = [], []
    for _ in range(n_steps):
        if len(live) < batch.stats.n_sequences and (not live or rng.random() < 0.4):
            live.append(Sequence(pillion, batch, rng.choice(SAMPLINGS) | {"seed": seed}))
            live[-1].prompt(text[(at := rng.randrange(60)) : at + rng.randrange(1, 200)])
        taking_part = [one for one in live if rng.random() < 0.9] or live[:1]
        for one in taking_part:
            one.entry.n_rows = rng.choice([1, 7, 64, 512])
            if one.entry.prompt is None:
                one.round(rng.choice(lengths), rng.randrange(1, 10))
            else:
                one.entry.n_draft, one.entry.n_max = rng.choice(lengths), rng.randrange(1, 10)
        batch.round([one.entry for one in taking_part])
        for one in taking_part:
            one.after()
        for one in list(live):
            if one.context.n_past > N_CTX - 40 or rng.random() < 0.05:
                live.remove(one)
                gone.append(one)
                one.leave()  # its pages serve the next
    return live + gone


@pytest.mark.parametrize("seed", range(4))
def test_every_sequence_equals_itself_alone(pillion, models, text, seed):
    with pillion.Batch(*models, n_sequences=12, n_ctx=N_CTX, n_outputs=108) as batch:
        assert batch.stats.batched
        for one in drive(pillion, batch, text, seed, 40):
            one.check(*models)
        assert batch.stats.last_entries > 1 or batch.stats.runs > 30


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 160))
def test_every_sequence_equals_itself_alone_more(pillion, models, text, seed):
    options = random.Random(seed)
    batch_kv = options.choice(["f16", "q8_0"])
    with pillion.Batch(
        *models,
        n_sequences=16,
        n_ctx=N_CTX,
        n_outputs=128,
        kv_type=batch_kv,
        n_threads=options.choice([1, 2, 4]),
        swa_full=options.choice([False, True]),
        n_batch=options.choice([128, 512]),
    ) as batch:
        sequences = drive(pillion, batch, text, seed, 60)
        for one in sequences:
            one.check(*models, kv_type=batch_kv)


def started(pillion, batch, text, n, sampling=None, prompt=40):
    """n sequences with a prompt each, behind their first token."""
    all_ = [Sequence(pillion, batch, sampling or {"temperature": 0}) for _ in range(n)]
    for i, one in enumerate(all_):
        one.prompt(text[i : i + prompt + 3 * i])
        one.entry.n_draft, one.entry.n_max = 3, 9
    batch.round([one.entry for one in all_])
    for one in all_:
        one.after()
    return all_


def read_all(batch, sequences):
    """Runs until all prompts are in; those that can't be go on to fail."""
    reading = list(sequences)
    while reading:
        batch.round([one.entry for one in reading])
        reading = [one for one in reading if not one.entry.error]
        for one in reading:
            one.after()
        reading = [one for one in reading if one.entry.prompt is not None]


def go_on(batch, sequences, n=5, k=3):
    for _ in range(n):
        for one in sequences:
            one.round(k, 9)
        batch.round([one.entry for one in sequences])
        for one in sequences:
            one.after()


@pytest.mark.parametrize("length", [255, 256, 257, 511, 512, 513, 63, 64, 65])
def test_pages_and_windows_end_anywhere(pillion, models, text, length):
    with pillion.Batch(*models, n_sequences=3, n_ctx=N_CTX) as batch:
        all_ = [Sequence(pillion, batch, {"temperature": 0}) for _ in range(3)]
        for i, one in enumerate(all_):
            one.prompt(text[: length - i])
            one.entry.n_draft, one.entry.n_max = 4, 9
        read_all(batch, all_)
        go_on(batch, all_, 4, 4)
        for one in all_:
            one.check(*models)


def test_an_entry_that_fails_leaves_the_others(pillion, models, text):
    n_vocab = models[0].n_vocab
    with pillion.Batch(*models, n_sequences=4, n_ctx=N_CTX) as batch:
        full, masked, wrong, good = all_ = started(pillion, batch, text, 4)
        for one in all_:
            one.round(3, 9)
        entries = [one.entry for one in all_]
        batch.draft(entries)
        masked.entry.masks = np.zeros((len(masked.entry.drafts) + 1, (n_vocab + 31) // 32), "u4")
        wrong.entry.drafts = [n_vocab]
        batch.run(entries)
        assert "vocabulary" in str(wrong.entry.error) and not wrong.entry.has_run
        batch.take(entries)
        assert isinstance(masked.entry.error, pillion.UsageError)
        for one in (full, good):
            one.after()
        # Those two go on as if nothing had been.
        batch.abandon([masked.entry, wrong.entry])
        for one in (masked, wrong):
            one.asked.pop()
            one.entry.masks = None
        go_on(batch, all_)
        for one in all_:
            one.check(*models)


def test_pairs_with_drafters_of_their_own(pillion, models, text):
    """Beside those that share the batch's: each asks its own."""
    with pillion.Batch(*models, n_sequences=2, n_ctx=N_CTX) as batch:
        shared = Sequence(pillion, batch, {"temperature": 0})
        other = pillion.Pair(batch.context(), "lookup")
        alone = pillion.Pair(models[0].context(N_CTX), "lookup")
        shared.prompt(text[:90])
        shared.entry.n_draft, shared.entry.n_max = 3, 9
        chooser = sampler(pillion, {"temperature": 0})
        entry = pillion.BatchEntry(other, chooser, n_draft=4, prompt=text[:200])
        batch.round([shared.entry, entry])
        shared.after()
        entry.prompt = None
        alone.sync(text[:200])
        assert entry.round.tokens == alone.step(chooser, 4).tokens
        for _ in range(6):
            shared.round(3, 9)
            batch.round([shared.entry, entry])
            shared.after()
            assert entry.round.tokens == alone.step(chooser, 4).tokens
        shared.check(*models)
        assert other.stats.drafted_at == alone.stats.drafted_at
        assert other.stats.drafted > 0 and other.stats.kind == "lookup"


def test_wrong_draft_lengths_are_refused(pillion, models, text):
    with pillion.Batch(*models, n_sequences=1, n_ctx=N_CTX) as batch:
        (one,) = started(pillion, batch, text, 1)
        for wrong in (9, -2):
            one.entry.n_draft = wrong
            with pytest.raises(pillion.UsageError, match="draft length"):
                batch.round([one.entry])


def test_a_full_context_is_its_own_affair(pillion, models, text):
    with pillion.Batch(*models, n_sequences=2, n_ctx=64) as batch:
        long, short = started(pillion, batch, text, 2, prompt=30)
        for _ in range(60):
            if long.entry.error:
                break
            batch.round([long.entry])
        assert isinstance(long.entry.error, pillion.ContextFullError)
        short.round(2, 9)
        batch.round([long.entry, short.entry])
        assert isinstance(long.entry.error, pillion.ContextFullError)
        short.after()


def test_a_full_pool_is_said_and_freed_pages_serve(pillion, models, text):
    with pillion.Batch(*models, n_sequences=3, n_ctx=N_CTX, n_positions=N_CTX) as batch:
        stats = batch.stats
        assert stats.n_pages * stats.page_size == N_CTX == stats.free_pages * stats.page_size
        a, b, c = (Sequence(pillion, batch, {"temperature": 0}) for _ in range(3))
        a.prompt(text[:500])
        b.prompt(text[100:620])
        c.prompt(text[50:150])
        read_all(batch, [a, b, c])
        failed = [one for one in (a, b, c) if one.entry.error]
        assert len(failed) == 1 and "pages" in str(failed[0].entry.error)
        others = [one for one in (a, b, c) if one not in failed]
        go_on(batch, others[1:], 3)
        others[0].check(*models)
        others[0].leave()
        read_all(batch, failed)
        both = [failed[0], others[1]]
        go_on(batch, both, 3)
        for one in both:
            one.check(*models)
            one.leave()
        assert batch.stats.free_pages == batch.stats.n_pages


@pytest.mark.parametrize("length", [1, 100, 255, 256, 257, 300])
def test_shared_beginnings(pillion, models, text, length):
    """Two texts part at `length`, whose pages both go on to write."""
    with pillion.Batch(*models, n_sequences=3, n_ctx=N_CTX) as batch:
        a = Sequence(pillion, batch, {"temperature": 0})
        a.prompt(text[: max(length, 2)])
        batch.round([a.entry])
        a.after()
        free = batch.stats.free_pages
        b, c = (Sequence(pillion, batch, {"temperature": 1.0, "seed": i}) for i in range(2))
        for i, one in enumerate((b, c)):
            assert one.context.share(a.context, length) == length
            one.prompt(text[:length] + text[200 + i : 230 + i])
        assert batch.stats.free_pages == free
        go_on(batch, [a], 2)
        batch.round([b.entry, c.entry])
        assert b.entry.reused == c.entry.reused == length
        b.after()
        c.after()
        go_on(batch, [a, b, c], 4)
        for one in (a, b, c):
            one.check(*models)
            one.leave()
        assert batch.stats.free_pages == batch.stats.n_pages


def test_sharing_what_the_window_has_left(pillion, models, text):
    with pillion.Batch(*models, n_sequences=2, n_ctx=2048, n_batch=64) as batch:
        a, b = (Sequence(pillion, batch, {"temperature": 0}) for _ in range(2))
        a.prompt(text[:700])
        read_all(batch, [a])
        kept = b.context.share(a.context, 100)
        assert kept in (0, 100)
        b.prompt(text[:160])
        read_all(batch, [b])
        go_on(batch, [a, b], 3)
        for one in (a, b):
            one.check(*models)


def test_a_cancelled_run_changes_nothing(pillion, models, text):
    with pillion.Batch(*models, n_sequences=3, n_ctx=2048, n_batch=2048) as batch:
        a, b = started(pillion, batch, text, 2)
        c = Sequence(pillion, batch, {"temperature": 0})
        c.prompt(text[:1000])
        c.entry.n_rows = 1000
        for one in (a, b):
            one.round(3, 9)
        c.entry.n_draft, c.entry.n_max = 3, 9
        entries = [one.entry for one in (a, b, c)]
        batch.draft(entries)
        lengths = [one.context.n_past for one in (a, b, c)]
        with over_and_over(batch.cancel), pytest.raises(pillion.Cancelled):
            batch.run(entries)
        assert [one.context.n_past for one in (a, b, c)] == lengths
        batch.run(entries)
        batch.take(entries)
        for one in (a, b, c):
            one.after()
        go_on(batch, [a, b, c])
        for one in (a, b, c):
            one.check(*models)
