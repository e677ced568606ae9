"""A context saved and loaded: what follows has the bits that it would have had. And no damaged file
does more than raise a sentence."""

import errno
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from device_models import ids_of, needs
from goldens import model_path, prompt
from patience import over_and_over

NAMES = ["tiny-e2b", "tiny-gemma3", "tiny-llama"]  # windows of 16, rings of 256; no window
WINDOW = 16

# csrc/runtime/state_format.h: offset and struct letter of the header's fields.
HEADER, STORE, IMAGE, MEDIUM = 256, 48, 16, 48
FIELDS = {
    "magic": (0, "8s"),
    "version": (8, "I"),
    "byte_order": (12, "I"),
    "header_bytes": (16, "I"),
    "header_crc": (20, "I"),
    "front_crc": (24, "I"),
    "rows_crc": (28, "I"),
    "file_bytes": (32, "Q"),
    "architecture": (40, "32s"),
    "fingerprint": (72, "Q"),
    "n_layers": (80, "i"),
    "n_embd": (84, "i"),
    "n_vocab": (88, "i"),
    "window": (92, "i"),
    "n_stores": (96, "I"),
    "n_images": (100, "I"),
    "n_tokens": (104, "Q"),
    "prompt_end": (112, "Q"),
    "n_accepted": (120, "Q"),
    "drawn": (128, "Q"),
    "seed": (136, "Q"),
    "has_sampler": (144, "I"),
    "block_slots": (148, "I"),
    "kv_type": (152, "I"),
    "n_media": (156, "I"),
    "reserved": (160, "I"),
}


class State(bytearray):
    """A saved state whose fields can be changed; `sealed` has checksums that fit."""

    def __getitem__(self, at):
        if isinstance(at, str):
            offset, letter = FIELDS[at]
            return struct.unpack_from("<" + letter, self, offset)[0]
        return super().__getitem__(at)

    def __setitem__(self, at, value):
        if isinstance(at, str):
            offset, letter = FIELDS[at]
            struct.pack_into("<" + letter, self, offset, value)
        else:
            super().__setitem__(at, value)

    def rows_at(self):
        n = self["n_stores"] * STORE + self["n_images"] * IMAGE
        n += self["n_media"] * MEDIUM
        return HEADER + n + 4 * (self["n_tokens"] + self["n_accepted"])

    def sealed(self, rows_at=None):
        at = self.rows_at() if rows_at is None else rows_at
        self["front_crc"] = zlib.crc32(super().__getitem__(slice(HEADER, at)))
        self["rows_crc"] = zlib.crc32(super().__getitem__(slice(at, None)))
        return self.sealed_header()

    def sealed_header(self):
        self["header_crc"] = 0
        self["header_crc"] = zlib.crc32(super().__getitem__(slice(0, HEADER)))
        return self

    def store(self, i):
        return HEADER + i * STORE

    def image(self, i):
        return HEADER + self["n_stores"] * STORE + i * IMAGE


@pytest.fixture(scope="module", params=NAMES)
def model(request, pillion):
    with pillion.Model.open(model_path(request.param)) as model:
        model.test_name = request.param
        yield model


@pytest.fixture(scope="module")
def e2b(pillion):
    with pillion.Model.open(model_path("tiny-e2b")) as model:
        yield model


@pytest.fixture(scope="module")
def fresh(pillion):
    """Logits behind a text, from nothing, in one run; per model and cache type."""
    contexts = {}

    def logits(model, ids, kv_type="f16"):
        key = (model.path, kv_type)
        if key not in contexts:
            contexts[key] = model.context(n_ctx=2048, n_threads=1, kv_type=kv_type)
        contexts[key].sync(ids)
        return contexts[key].logits().tobytes()

    yield logits
    for context in contexts.values():
        context.close()


def written(context, model, n, seed=1):
    """A prompt of 200 tokens and an answer of n."""
    ids, rng = prompt("tiny-e2b", 200), random.Random(seed)
    context.sync([t % model.n_vocab for t in ids])
    for at in range(0, n, 9):
        context.decode([rng.randrange(model.n_vocab) for _ in range(min(9, n - at))])


def grown(pillion, context, n, params=None, sampler=None):
    """n more tokens behind what the context holds, and the logits that they came from."""
    context.sync(context.tokens)
    sampler = sampler or pillion.Sampler(params or pillion.SamplingParams(temperature=0))
    tokens, rows = [], []
    for _ in range(n):
        rows.append(context.logits().tobytes())
        tokens.append(sampler.sample(context))
        sampler.accept(tokens[-1])
        context.decode(tokens[-1])
    return tokens, rows


# ---- the same bits ----

OTHERS = [
    dict(n_ctx=1024, n_batch=64),
    dict(n_ctx=2048, n_batch=512, n_threads=1),  # a larger ring, other threads
    dict(n_ctx=1024, swa_full=True),
    dict(n_ctx=1000, n_batch=16, n_snapshots=0),
]


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("answer", [0, 11, 300, 700])
def test_every_other_context_goes_on_with_the_same_bits(
    pillion, model, fresh, tmp_path, kv_type, answer
):
    path = tmp_path / "state"
    with model.context(n_ctx=1024, n_batch=64, kv_type=kv_type) as context:
        written(context, model, answer)
        context.save(path)
        held = context.tokens
        want = grown(pillion, context, 3)
    for options in OTHERS:
        with model.context(kv_type=kv_type, **options) as other:
            other.prefill([1, 2, 3])
            assert other.load(path) == 0
            assert other.tokens == held and other.n_rows == 0 and other.n_past == len(held)
            other.decode(5)
            assert other.logits().tobytes() == fresh(model, [*held, 5], kv_type), options
            other.rewind(len(held))
            assert grown(pillion, other, 3) == want, options


def test_ways_back_are_those_of_the_saved_context(model, fresh, tmp_path):
    """Rewound to any length, also one whose window shares a block with newer rows; then saved."""
    path = tmp_path / "state"
    options = dict(n_ctx=1024, n_batch=64)
    with model.context(**options) as context, model.context(**options) as other:
        for answer in (41, 60, 77, 102, 300, 331):
            for back in (0, 1, 16, 33, 100, 200, 240):
                written(context, model, answer)
                n = context.n_past
                context.rewind(n - back)
                context.save(path)
                other.load(path)
                held = context.tokens
                other.decode(7)
                assert other.logits().tobytes() == fresh(model, [*held, 7]), (answer, back)
                for left in (len(held) - 3, len(held) - 70, 190, 100):
                    text = [*held[:left], 8]
                    saved, loaded = context.match(text).usable, other.match(text).usable
                    # Rows that share a block with newer ones may be lost: 31 at most.
                    assert saved == loaded or left < context.n_past - 200, (answer, back, left)
                other.sync([*held[:150], 9])
                assert other.logits().tobytes() == fresh(model, [*held[:150], 9])


@pytest.mark.parametrize("swa_full", [False, True])
def test_the_oldest_rows_that_are_still_there(e2b, fresh, tmp_path, swa_full):
    """The least length that the loaded ring serves, wherever the blocks of its ends lie; from a
    ring of the same size, and from a cache that has all rows."""
    options = dict(n_ctx=1024, n_batch=64, n_snapshots=0)
    with e2b.context(swa_full=swa_full, **options) as context, e2b.context(**options) as other:
        for answer in range(300, 333, 4):
            for back in (0, 5, 30):
                written(context, e2b, answer)
                context.rewind(context.n_past - back)
                held = context.tokens
                other.set_state(context.state())
                at = range(len(held) - 260, len(held) - 100)
                least = next(n for n in at if other.match([*held[:n], 3]).usable == n)
                if not swa_full:
                    known = next(n for n in at if context.match([*held[:n], 3]).usable == n)
                    assert known <= least < known + 32, (answer, back)
                assert other.sync([*held[:least], 3]) == least
                assert other.logits().tobytes() == fresh(e2b, [*held[:least], 3]), (answer, back)


def test_the_prompt_is_remembered(pillion, e2b):
    """A long answer after the load still finds its way back to the prompt by a copy."""
    with e2b.context(n_ctx=1024, n_batch=64) as context, e2b.context(1024, n_batch=64) as other:
        written(context, e2b, 700)
        assert other.set_state(context.state()) == 0
        text = [*context.tokens[:195], 3]
        assert other.match(text).usable == context.match(text).usable == 195
        written(context, e2b, 0)
        other.set_state(context.state())
        written(other, e2b, 600)
        assert other.match(text).usable == 195


def test_an_empty_context(e2b, tmp_path):
    with e2b.context(256) as context:
        context.save(tmp_path / "empty")
        context.prefill([1, 2, 3])
        context.load(tmp_path / "empty")
        assert context.tokens == [] and context.n_past == 0
        context.prefill([4, 5])
        assert context.tokens == [4, 5]


def test_bytes_and_file_are_one(e2b, tmp_path):
    with e2b.context(512) as context:
        written(context, e2b, 20)
        context.save(tmp_path / "state")
        state = context.state()
        assert (tmp_path / "state").read_bytes() == state == context.state()
        context.clear()
        assert context.set_state(bytearray(state)) == 0 and context.n_past == 220
        assert State(state)["file_bytes"] == len(state)


def test_a_sampler_goes_on_with_its_random_numbers_and_penalties(pillion, e2b, tmp_path):
    def params(seed):
        return pillion.SamplingParams(
            temperature=1.0, seed=seed, repeat_penalty=1.3, penalty_last_n=-1, presence_penalty=0.5
        )

    with e2b.context(512) as context:
        written(context, e2b, 0)
        sampler = pillion.Sampler(params(7))
        grown(pillion, context, 20, sampler=sampler)
        context.save(tmp_path / "state", sampler)
        mark = sampler.mark()
        want = grown(pillion, context, 20, sampler=sampler)
        other = pillion.Sampler(params(8))
        context.load(tmp_path / "state", sampler=other)
        assert other.mark() == mark and mark[0] == 20
        assert grown(pillion, context, 20, sampler=other) == want
        context.load(tmp_path / "state")  # without
        context.save(tmp_path / "without")
        with pytest.raises(pillion.UsageError, match="saved without a sampler"):
            context.load(tmp_path / "without", pillion.Sampler())


@pytest.mark.parametrize("drafter", ["assistant", "lookup"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_pair_goes_on_with_its_text_and_its_counts(pillion, tmp_path, drafter, temperature):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    drafter = TINY_ASSISTANT if drafter == "assistant" else drafter
    params = pillion.SamplingParams(temperature=temperature, seed=3)

    def rounds(pair, ids, sampler):
        pair.reset_stats()
        pair.sync(ids)
        tokens = []
        while len(tokens) < 60:
            tokens += pair.step(sampler, 3, 60 - len(tokens)).tokens
        return tokens, pair.stats.accepted, pair.stats.drafted

    with pillion.Model.open(TINY_TARGET) as model, model.context(512) as context:
        ids = model.tokenizer.encode("Genesis 1\n\nIn the beginning God created the heaven")
        with pillion.Pair(context, drafter) as pair:
            sampler = pillion.Sampler(params)
            text, *_ = rounds(pair, ids, sampler)
            context.save(tmp_path / "state", sampler)
            text = [*context.tokens, text[-1]]
            want = rounds(pair, text, sampler)
        with model.context(700, n_batch=32) as other, pillion.Pair(other, drafter) as pair:
            sampler = pillion.Sampler(params)
            assert other.load(tmp_path / "state", sampler) == 0
            assert rounds(pair, text, sampler) == want


@pytest.mark.parametrize("device, copies_fit", [("cuda:sim", False), ("htp:sim", True)])
def test_a_drafter_elsewhere_finds_its_copies(pillion, tmp_path, device, copies_fit):
    """In the cache's layout they are filled from the file; in another one the tokens run again."""
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    needs(pillion, device)
    params = pillion.SamplingParams(temperature=0)

    def rounds(pair, ids):
        pair.sync(ids)
        sampler, tokens, before = pillion.Sampler(params), [], pair.stats
        while len(tokens) < 12:
            tokens += pair.step(sampler, 2, 12 - len(tokens)).tokens
        return tokens, pair.stats.accepted - before.accepted, pair.stats.drafted - before.drafted

    with (
        pillion.Model.open(TINY_TARGET, device="cpu") as model,
        pillion.Model.open(TINY_ASSISTANT, device=device) as drafter,
        model.context(256) as context,
        model.context(256) as other,
    ):
        ids = model.tokenizer.encode("Genesis 1\n\nIn the beginning God created the heaven")
        with pillion.Pair(context, drafter) as pair, pillion.Pair(other, drafter) as again:
            text = [*ids, *rounds(pair, ids)[0]]
            context.save(tmp_path / "state")
            n = context.n_past
            want = rounds(pair, text)
            assert other.load(tmp_path / "state") == (0 if copies_fit else n)
            assert rounds(again, text) == want and want[1] > 0


@pytest.mark.parametrize("device", ["cuda:sim", "htp:sim"])
def test_on_a_device(pillion, tmp_path, device):
    """Whole, and split: the file of one place fits another one of the same layout."""
    needs(pillion, device)
    ids = ids_of("tiny-e2b", "long")[:70]
    for layers in (-1, 1):
        with (
            pillion.Model.open(model_path("tiny-e2b"), device=device, n_gpu_layers=layers) as model,
            model.context(256) as context,
            model.context(512) as other,
        ):
            context.prefill(ids)
            context.save(tmp_path / "state")
            context.decode(9)
            ran = other.load(tmp_path / "state")
            # One layer there reads a copy of a cache of the CPU, which has another layout.
            assert ran == (len(ids) if device == "cuda:sim" and layers == 1 else 0)
            other.decode(9)
            assert other.logits().tobytes() == context.logits().tobytes()
    with pillion.Model.open(model_path("tiny-e2b")) as model, model.context(256) as context:
        context.prefill(ids)
        context.save(tmp_path / "cpu")
        with pillion.Model.open(model_path("tiny-e2b"), device=device) as there:
            with there.context(256) as other:
                if device == "htp:sim":
                    assert other.load(tmp_path / "cpu") == 0 and other.tokens == ids
                else:
                    with pytest.raises(pillion.UsageError, match="layout lanes32 in it and in lay"):
                        other.load(tmp_path / "cpu")


# ---- what is refused ----


@pytest.fixture(scope="module")
def small(pillion, e2b):
    """A state whose ring has gone round, with a copy and a sampler, and a context to load into."""
    sampler = pillion.Sampler(pillion.SamplingParams(seed=5))
    sampler.accept(3)
    with e2b.context(n_ctx=700, n_batch=64) as context:
        written(context, e2b, 300)
        state = bytes(context.state(sampler))
    with e2b.context(n_ctx=700, n_batch=64) as context:
        context.prefill([1, 2, 3])
        yield context, state


def refused(pillion, context, state, kind=None, match=None):
    """It raises a sentence, and the context is as it was."""
    with pytest.raises(kind or (pillion.UsageError, pillion.ModelFileError), match=match) as caught:
        context.set_state(bytes(state))
    assert "\n" not in str(caught.value) and not isinstance(caught.value, pillion.InternalError)
    assert context.tokens == [1, 2, 3], caught.value
    return caught.value


WRONG = {
    "magic": [(b"GGUF\0\0\0\0", "ModelFileError", "no saved state")],
    "version": [
        (2, "UnsupportedModelError", "version 2 of the format, this library reads version 1"),
        (2**32 - 1, "UnsupportedModelError", "version 4294967295"),
        (0, "ModelFileError", "none of version 1"),
    ],
    "byte_order": [
        (0x04030201, "UnsupportedModelError", "big-endian"),
        (7, "ModelFileError", "none of version 1"),
    ],
    "header_bytes": [(255, "ModelFileError", "none of version 1")],
    "file_bytes": [
        (0, "ModelFileError", "header says 0"),
        (2**63, "ModelFileError", "header says 9223372036854775808"),
    ],
    "architecture": [(b"llama", "UsageError", "architecture llama, this one is gemma4")],
    "fingerprint": [(1, "UsageError", "fingerprint 0000000000000001, this one has ")],
    "n_layers": [(-1, "UsageError", "n_layers -1, this one has")],
    "n_embd": [(2**31 - 1, "UsageError", "n_embd 2147483647")],
    "n_vocab": [(0, "UsageError", "n_vocab 0")],
    "window": [(17, "UsageError", "window 17, this one has 16")],
    "n_stores": [(0, "UsageError", "layers with a cache 0"), (2**32 - 1, "UsageError", "with a")],
    "n_images": [
        (0, "ModelFileError", "0 images, allowed are 1 to 257"),
        (258, "ModelFileError", "258 images"),
        (257, "ModelFileError", "counts want more|is damaged"),
    ],
    "n_tokens": [
        (701, "ContextFullError", "701 tokens, this context holds n_ctx 700"),
        (2**61, "ContextFullError", "2305843009213693952 tokens"),
        (2**64 - 1, "ContextFullError", "18446744073709551615 tokens"),
        (3, "ModelFileError", "a prompt of 200 tokens in a text of 3"),
    ],
    "prompt_end": [(2**63, "ModelFileError", "prompt of 9223372036854775808 tokens")],
    "n_accepted": [
        (2**61, "ModelFileError", "2305843009213693952 accepted tokens"),
        (2**62 + 1, "ModelFileError", "accepted tokens"),
        (2**24, "ModelFileError", "counts want more"),
        (2, "ModelFileError", "is damaged"),
    ],
    "has_sampler": [(0, "ModelFileError", "has_sampler 0"), (2, "ModelFileError", "sampler 2")],
    "block_slots": [(64, "ModelFileError", "blocks of 64 positions")],
    "kv_type": [
        (1, "UsageError", "are q8_0, those of this context f16: make a context with kv_type q8_0"),
        (99, "UsageError", "an unknown type"),
    ],
    "n_media": [
        (2**32 - 1, "ModelFileError", "4294967295 media in a text of 500 tokens"),
        (1, "ModelFileError", "is damaged|counts want more"),
    ],
    "reserved": [(1, "ModelFileError", "none of version 1")],
}


@pytest.mark.parametrize("field", WRONG)
def test_every_field_of_the_header_wrong_in_turn(pillion, small, field):
    """With a checksum that fits, so that the field itself is looked at; and without."""
    context, state = small
    for value, kind, sentence in WRONG[field]:
        changed = State(state)
        changed[field] = value
        if field not in ("magic", "version", "byte_order"):
            refused(pillion, context, changed, pillion.ModelFileError, "header is damaged")
        refused(pillion, context, changed.sealed_header(), getattr(pillion, kind), sentence)


def test_every_field_of_the_tables_wrong_in_turn(pillion, small):
    context, state = small
    assert State(state)["n_images"] == 2
    cases = [
        ("store", 0, "<i", 3, "cache of layer 3, this one has 0"),
        ("store", 4, "<i", 2**30, "KV heads"),
        ("store", 8, "<i", -1, "head size"),
        ("store", 12, "<i", 7, "sliding 7"),
        ("store", 16, "16s", b"planes", "layout planes in it and in layout lanes32 here"),
        ("store", 32, "<Q", 2**61, "blocks of 2305843009213693952 bytes"),
        ("store", 40, "<Q", 1, "blocks of"),
        ("image", 0, "<Q", 2**61, r"rows \[2305843009213693952, 500\)"),
        ("image", 0, "<Q", 490, r"rows \[490, 500\)"),
        ("image", 0, "<Q", 32, "its tables make"),
        ("image", 8, "<Q", 2**64 - 1, "18446744073709551615"),
        ("image", 8, "<Q", 499, r", 499\) of a text of 500"),
        ("image", IMAGE + 8, "<Q", 501, r"image 1 has rows \[\d+, 501\)"),
        ("image", IMAGE, "<Q", 2**63, "image 1"),
        ("tokens", 0, "<i", -1, "a row of none of its media"),
        ("tokens", 0, "<i", 2**31 - 1, "outside the vocabulary"),
        ("accepted", 0, "<i", -1, "outside the vocabulary"),
    ]
    for part, offset, letter, value, sentence in cases:
        changed = State(state)
        end_of_tables = changed.image(changed["n_images"])
        at = {
            "store": changed.store(0),
            "image": changed.image(0),
            "tokens": end_of_tables,
            "accepted": end_of_tables + 4 * changed["n_tokens"],
        }[part]
        struct.pack_into(letter, changed, at + offset, value)
        refused(pillion, context, changed, pillion.ModelFileError, "it is damaged: checksum")
        refused(pillion, context, changed.sealed(), match=sentence)


def test_media_wrong_in_turn(pillion, e2b, small):
    """A text with an image whose rows see one another."""
    context, _ = small
    rows = np.ones((4, e2b.n_embd), np.float32)
    first = e2b.add_media(rows, b"m" * 32, bidirectional=True)
    with e2b.context(n_ctx=700, n_batch=64) as other:
        other.prefill([1, 2, *range(first, first - 4, -1), 3])
        state = State(other.state())
    at = state.rows_at() - MEDIUM
    cases = [
        (0, "<i", 0, "a medium of 4 rows whose first id is 0"),
        (0, "<i", -(2**31), "a medium of 4 rows whose first id is -2147483648"),
        (0, "<i", first - 1, f"token 2 is {first}, a row of none"),
        (0, "<i", first + 1 or -100, "not all rows|a row of none"),
        (4, "<i", 0, "a medium of 0 rows"),
        (4, "<i", 3, f"token 5 is {first - 3}, a row of none"),
        (4, "<i", 5, "token 5 is .*, but not all rows of its image are there"),
        (4, "<i", 2**31 - 1, "not all rows"),
        (8, "<I", 2, "a medium of 4 rows"),
        (12, "<I", 1, "a medium of 4 rows"),
        (16, "32s", b"other", None),
    ]
    for offset, letter, value, sentence in cases:
        changed = State(state)
        struct.pack_into(letter, changed, at + offset, value)
        refused(pillion, context, changed, pillion.ModelFileError, "it is damaged: checksum")
        if sentence:
            refused(pillion, context, changed.sealed(), match=sentence)
    second = State(state)
    struct.pack_into("<i", second, at - 4 * 3, first - 1)  # a row twice
    refused(pillion, context, second.sealed(), match="not all rows")


def test_cut_and_extended_anywhere(pillion, small):
    context, state = small
    for n in [*range(0, len(state), 64), *range(260), len(state) - 1]:
        error = refused(pillion, context, state[:n], pillion.ModelFileError)
        assert (
            "is no saved state" in str(error)
            if n < 8
            else "has" in str(error) or "cut" in str(error)
        )
    for more in (b"\0", b"\0" * 64, state):
        refused(pillion, context, state + more, pillion.ModelFileError, "header says")


def test_flipped_bits(pillion, small):
    context, state = small
    rng = random.Random(11)
    places = [rng.randrange(8 * len(state)) for _ in range(1600)]
    places += range(8 * 8, 8 * 64)  # the beginning of the header, each bit
    for place in places:
        changed = bytearray(state)
        changed[place // 8] ^= 1 << place % 8
        refused(pillion, context, changed)


def test_random_changes_with_checksums_that_fit(pillion, small):
    """What a stranger could make: it is refused, or it is a text with strange rows. The context
    works afterwards."""
    context, state = small
    rng = random.Random(12)
    end = State(state).rows_at()
    taken = 0
    for _ in range(400):
        changed = State(state)
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice([rng.randrange(28, HEADER), rng.randrange(HEADER, end)])
            changed[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        try:
            context.set_state(bytes(changed.sealed(end)))
        except (pillion.UsageError, pillion.ModelFileError) as error:
            assert not isinstance(error, pillion.InternalError)
        else:
            taken += 1
            context.decode(5)
    assert taken > 0
    noise = State(state)
    noise[end:] = bytes(rng.randrange(256) for _ in range(1024)) * ((len(noise) - end) // 1024 + 1)
    del noise[len(state) :]
    context.set_state(bytes(noise.sealed()))
    context.decode(5)  # NaN among the rows, maybe; no crash
    context.clear()
    context.prefill([1, 2, 3])
    assert np.isfinite(context.logits()).all()


def test_other_models(pillion, small, tmp_path):
    """Of another shape, and of the same shape with other weights or other settings."""
    context, state = small
    for name in ("tiny-gemma3", "tiny-llama", "tiny-moe"):
        with pillion.Model.open(model_path(name)) as model, model.context(700) as other:
            with pytest.raises(pillion.UsageError, match="it is of another model: "):
                other.set_state(state)
    twin = tmp_path / "twin.gguf"
    raw = bytearray(model_path("tiny-e2b").read_bytes())
    raw[-20_000:-10_000] = bytes(reversed(raw[-20_000:-10_000]))
    twin.write_bytes(raw)
    with pillion.Model.open(twin) as model, model.context(700) as other:
        with pytest.raises(pillion.UsageError, match="another model of this shape: fingerprint"):
            other.set_state(state)
    same = tmp_path / "same.gguf"
    shutil.copy(model_path("tiny-e2b"), same)
    with pillion.Model.open(same, use_mmap=False) as model, model.context(700) as other:
        assert other.set_state(state) == 0


def test_another_cache_type_and_a_smaller_context(pillion, e2b, small):
    _, state = small
    with e2b.context(700, kv_type="q8_0") as other:
        with pytest.raises(pillion.UsageError, match="are f16, those of this context q8_0"):
            other.set_state(state)
    with e2b.context(499) as other:
        with pytest.raises(pillion.ContextFullError, match="500 tokens, this context holds n_ctx"):
            other.set_state(state)
    with e2b.context(500, n_batch=16) as other:
        assert other.set_state(state) == 0


def test_paths_that_are_no_file(pillion, small, tmp_path):
    context, state = small
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "empty").touch()
    (tmp_path / "locked").write_bytes(state)
    (tmp_path / "locked").chmod(0)
    cases = [
        (tmp_path, "it is a directory"),
        (fifo, "it is not a regular file"),
        (tmp_path / "missing", "No such file"),
        (tmp_path / "empty", "the file is empty"),
        (model_path("tiny-e2b"), "this is no saved state"),
        ("/dev/null", "it is not a regular file"),
    ]
    if os.geteuid() != 0:
        cases.append((tmp_path / "locked", "Permission denied"))
    for path, sentence in cases:
        with pytest.raises(pillion.ModelFileError, match=sentence):
            context.load(path)
    for path, kind, sentence in (
        (tmp_path, pillion.UsageError, "it is a directory"),
        (fifo, pillion.UsageError, "not a regular file"),
        ("/dev/full", pillion.UsageError, "not a regular file"),
        (tmp_path / "no" / "folder", pillion.ModelFileError, "No such file"),
        ("/proc/state", pillion.ModelFileError, "cannot be written"),
        (tmp_path / ("x" * 300), pillion.ModelFileError, "File name too long"),
    ):
        with pytest.raises(kind, match=sentence):
            context.save(path)
    for path in ("", "a\0b", 5, None):
        with pytest.raises(pillion.UsageError, match="path is"):
            context.save(path)
        with pytest.raises(pillion.UsageError, match="path is"):
            context.load(path)
    for state in (None, "text", 5):
        with pytest.raises(pillion.UsageError, match="state is"):
            context.set_state(state)
    assert context.tokens == [1, 2, 3]


FULL = """
import resource, signal, sys, pillion
model = pillion.Model.open(sys.argv[1])
context = model.context(512)
context.prefill(list(range(1, 200)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
try:
    context.save(sys.argv[2])
except pillion.ModelFileError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_older_file(tmp_path):
    """A limit on the size of files stands for it."""
    out = tmp_path / "state"
    out.write_bytes(b"an older file")
    done = subprocess.run(
        [sys.executable, "-c", FULL, model_path("tiny-e2b"), out], capture_output=True, text=True
    )
    assert "writing failed after" in done.stdout and os.strerror(errno.EFBIG) in done.stdout, done
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert out.read_bytes() == b"an older file"


def test_a_file_of_any_size_takes_no_memory(pillion, small, tmp_path):
    """Holes of 64 GB behind a header that says so; the tables do not make them."""
    context, state = small
    huge = State(state)
    huge["file_bytes"] = 1 << 36
    path = tmp_path / "huge"
    path.write_bytes(huge.sealed_header())
    os.truncate(path, 1 << 36)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(pillion.ModelFileError, match="its tables make"):
        context.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert context.tokens == [1, 2, 3]


# ---- threads and Ctrl-C ----


def test_two_threads(pillion, e2b, tmp_path):
    """One context has one caller; two contexts may write the same file, and one of them wins."""
    path = tmp_path / "state"
    states, errors = set(), []

    def work(seed):
        try:
            with e2b.context(512) as context:
                written(context, e2b, 30, seed)
                states.add(context.state())
                for _ in range(20):
                    context.save(path)
                    context.load(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in states and len(states) == 2
    assert os.listdir(tmp_path) == ["state"]

    with e2b.context(512) as context:
        written(context, e2b, 30)
        busy = []

        def save():
            try:
                context.save(path)
            except pillion.Busy as error:
                busy.append(error)

        with over_and_over(save, pause=0):
            while not busy:
                try:
                    context.save(path)
                except pillion.Busy as error:
                    busy.append(error)
        context.load(path)


@pytest.mark.parametrize("call", ["save", "load"])
def test_a_cancel_leaves_everything_as_it_was(pillion, e2b, tmp_path, call):
    path = tmp_path / "state"
    with e2b.context(700, n_batch=64) as context, e2b.context(700) as other:
        written(context, e2b, 300)
        context.save(path)
        before = path.read_bytes()
        one = context if call == "save" else other
        other.prefill([1, 2, 3])
        with over_and_over(one.cancel, pause=0):
            while True:
                try:
                    getattr(one, call)(path)
                except pillion.Cancelled:
                    break
                if call == "load":
                    other.sync([1, 2, 3])
        assert os.listdir(tmp_path) == ["state"] and path.read_bytes() == before
        if call == "load":
            assert other.tokens == [1, 2, 3]
        other.load(path)
        assert other.tokens == context.tokens


def test_ctrl_c(e2b, tmp_path):
    path = tmp_path / "state"
    with e2b.context(700, n_batch=64) as context:
        written(context, e2b, 300)
        context.save(path)
        before = path.read_bytes()
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            while True:
                context.save(path)
        timer.join()
        assert os.listdir(tmp_path) == ["state"] and path.read_bytes() == before
        context.load(path)
        assert context.n_past == 500


# ---- in a batch ----


def test_in_the_pages_of_a_batch(pillion, e2b, fresh, tmp_path):
    """From a context of its own to pages that lie anywhere, from there to others, and back."""
    options = dict(n_ctx=1024, n_batch=64)
    with e2b.context(**options) as solo, pillion.Batch(e2b, n_sequences=4, **options) as batch:
        written(solo, e2b, 700)
        held = solo.tokens
        solo.save(tmp_path / "solo")
        first, second = batch.context(), batch.context()
        neighbour = prompt("tiny-e2b", 300)[::-1]
        for at in range(0, 300, 100):  # so that their pages lie among each other's
            first.prefill(neighbour[at : at + 100])
            second.prefill(held[at : at + 100])
        second.rewind(0)
        assert second.load(tmp_path / "solo") == 0
        second.save(tmp_path / "batch")
        third = batch.context()
        third.load(tmp_path / "batch")
        solo.clear()
        solo.load(tmp_path / "batch")
        for context in (second, third, solo):
            assert context.tokens == held
            context.decode(5)
            assert context.logits().tobytes() == fresh(e2b, [*held, 5])
            text = [*held[:195], 3]
            assert context.match(text).usable == 195
            context.sync(text)
            assert context.logits().tobytes() == fresh(e2b, text)
        first.decode(9)
        assert first.logits().tobytes() == fresh(e2b, [*neighbour, 9])


def test_a_batch_without_pages_left(pillion, e2b, tmp_path):
    with e2b.context(n_ctx=1024, n_batch=64) as solo:
        written(solo, e2b, 500)
        solo.save(tmp_path / "state")
    options = dict(n_ctx=1024, n_batch=64, n_positions=1024)
    with pillion.Batch(e2b, n_sequences=2, **options) as batch:
        free = batch.stats.free_pages
        first, second = batch.context(), batch.context()
        first.load(tmp_path / "state")
        with pytest.raises(pillion.ContextFullError, match="page"):
            second.load(tmp_path / "state")
        assert second.tokens == [] and first.n_past == 700
        first.clear()
        assert second.load(tmp_path / "state") == 0
        second.clear()
        assert batch.stats.free_pages == free
