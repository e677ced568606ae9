"""What lookup beside an assistant gains on the tasks of `pillion bench --tasks`, computed: the
chances come from true answers, the assistant's drafts stand with a given chance, and runs cost what
they were measured to cost (Zen 5, 60 GB/s, E2B's shape)."""

import random
import re

import pytest
from testing_ops import testing

RUNS = [0, 1, 1.07, 1.11, 1.13, 1.19, 1.3, 1.43, 1.58, 1.75]
STEP = 0.005
ANSWERS = {
    "code": [
        (
            "    def total",
            "    def remove(self, name):\n        del self.jars[name]\n\n    def total",
        )
    ],
    "copy_edit": [
        ("were three", "where three"),
        ("cows drinks", "cows drink"),
        ("turn to the", "turns to the"),
        ("there is meadows", "there are meadows"),
        ("farmers takes", "farmers take"),
        ("it's wheel", "its wheel"),
        ("here it", "hear it"),
    ],
    "summary": "The town's two bakeries lived side by side until the railway closed the station. "
    "The sisters built a green cart and sold dark bread in the villages, with more success than "
    "before. In the end the man on the square asked them to take his rolls along.",
    "prose": "The keeper had spoken to the lamp for years before it answered him. It was a Tuesday "
    "and the fog lay on the water like a sheet. Good evening, he said, as he always said. Good "
    "evening, said the lamp. He sat down on the stairs and waited until his heart was quiet.",
}  # fmt: skip


def words(text):
    """About a tokenizer's."""
    return re.findall(r" ?\w+|\s+|[^\w\s]", text)


def texts(name):
    from pillion.benchmark.tasks import task_text

    prompt, answer = task_text(name), ANSWERS[name]
    if isinstance(answer, list):
        changes, answer = answer, prompt.split("\n\n", 1)[1]
        for wrong, right in changes:
            assert answer.count(wrong) == 1
            answer = answer.replace(wrong, right)
    numbers = {}
    both = [words(prompt), words(answer)]
    return [[numbers.setdefault(word, len(numbers)) for word in one] for one in both]


def best(chances):
    """(tokens per plain token's time, drafts)."""
    found, tokens, all_before = (1.0, 0), 1.0, 1.0
    for k in range(1, 9):
        all_before *= chances[k - 1]
        tokens += all_before
        found = max(found, (tokens / (RUNS[1 + k] + k * STEP), k))
    return found


def speed(prompt, answer, chance, lookup, seed):
    text, at, time = prompt + answer, len(prompt) + 1, 0.0
    own, dice, looked = [chance] * 8, random.Random(seed), testing.TextLookup()
    while at < len(text):
        chances, found = own, []
        if lookup:
            looked.look(text[: at - 1], text[at - 1], 8)
            found = list(looked.found)
            mixed = [looked.acceptance(i) for i in range(len(found))] + own[len(found) :]
            chances = mixed if best(mixed)[0] > 1.02 * best(own)[0] else own
            found = found if chances is mixed else []
        k, accepted = best(chances)[1], 0
        while accepted < min(k, len(text) - at - 1):
            right = dice.random() < chance
            if accepted < len(found):
                right = found[accepted] == text[at + accepted]
            if not right:
                break
            accepted += 1
        looked.learn(text[at : at + accepted + 1])
        time += RUNS[1 + k] + k * STEP
        at += accepted + 1
    return len(answer) / time


@pytest.mark.parametrize("chance", [0.3, 0.5, 0.65, 0.8])
@pytest.mark.parametrize(
    "name, least", [("code", 1.2), ("copy_edit", 1.15), ("summary", 0.98), ("prose", 0.98)]
)
def test_gain(name, least, chance):
    prompt, answer = texts(name)
    both = [
        sum(speed(prompt, answer, chance, lookup, seed) for seed in range(40))
        for lookup in (False, True)
    ]
    assert both[1] / both[0] >= least
