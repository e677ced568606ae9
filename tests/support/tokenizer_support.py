"""Vocabularies for the tokenizer tests, and the runner that stands in for the Python binding."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import mmap
import os
import shlex
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import models
import pytest
from compiled import shared

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass
class Vocab:
    """What TokenizerData holds; token texts and merges are bytes."""

    model: str
    tokens: list[bytes]
    types: list[int] | None = None
    scores: list[float] | None = None
    merges: list[bytes] = field(default_factory=list)
    pre: str = ""
    settings: dict[str, int] = field(default_factory=dict)
    lists: list[tuple[str, int]] = field(default_factory=list)  # ("eos_id", 5), ("suppress", 7)

    def dump(self, path: Path) -> Path:
        lines = [f"model {self.model}"]
        if self.pre:
            lines.append(f"pre {self.pre}")
        lines += [f"set {k} {int(v)}" for k, v in [*self.settings.items(), *self.lists]]
        lines += [f"token - {t.hex() or '-'}" for t in self.tokens]
        lines += [f"type {t}" for t in self.types or []]
        lines += [f"score {s!r}" for s in self.scores or []]
        lines += [f"merge {m.hex() or '-'}" for m in self.merges]
        path.write_text("\n".join(lines) + "\n")
        return path

    def id_of(self, text: str | bytes) -> int:
        return self.tokens.index(text.encode() if isinstance(text, str) else text)

    def specials(self, *types: int) -> dict[str, int]:
        out: dict[str, int] = {}
        for i, t in enumerate(self.types or []):
            if t in types:
                out.setdefault(self.tokens[i].decode(), i)
        return out


def load_json_vocab(name: str, **changes) -> Vocab:
    """A committed vocabulary of tests/golden."""
    raw = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    vocab = Vocab(
        model=raw["model"],
        pre=raw.get("pre", ""),
        settings=raw["settings"],
        scores=raw.get("scores"),
        tokens=[t.encode() for t in raw["tokens"]],
        merges=[m.encode() for m in raw["merges"]],
        types=[t for t, n in raw["type_runs"] for _ in range(n)],
    )
    for key, value in changes.items():
        setattr(vocab, key, value)
    return vocab


def save_json_vocab(name: str, vocab: Vocab) -> None:
    runs: list[list[int]] = []
    for t in vocab.types or []:
        if runs and runs[-1][0] == t:
            runs[-1][1] += 1
        else:
            runs.append([t, 1])
    raw = {
        "model": vocab.model,
        "settings": vocab.settings,
        "type_runs": runs,
        "tokens": [t.decode() for t in vocab.tokens],
        "merges": [m.decode() for m in vocab.merges],
    }
    if vocab.scores is not None:
        raw["scores"] = vocab.scores
    (GOLDEN / name).write_text(
        json.dumps(raw, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )


GGUF_IDS = {
    "bos_token_id": "bos",
    "eos_token_id": "eos",
    "eot_token_id": "eot",
    "eom_token_id": "eom",
    "unknown_token_id": "unk",
    "padding_token_id": "pad",
    "mask_token_id": "mask",
    "add_bos_token": "add_bos",
    "add_eos_token": "add_eos",
    "add_space_prefix": "add_space_prefix",
    "remove_extra_whitespaces": "remove_extra_whitespaces",
}


def find_model(pattern: str) -> Path | None:
    """A real model of models.py by the pattern of its name, fetched when it is not there yet;
    None: not to be had."""
    fetch = {"gemma-3-270m*.gguf": models.gemma3_270m, "SmolLM2*.gguf": models.smollm2_135m}[
        pattern
    ]
    try:
        return fetch()
    except models.ModelUnavailable:
        return None


_GGUF_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


def _gguf_metadata(path: Path) -> dict[str, object]:
    """The metadata of a GGUF v3 file. gguf.GGUFReader takes ten seconds for 262,144 tokens, this
    half a second."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        n_keys, at = struct.unpack_from("<Q", data, 16)[0], 24

        def take(form: str):
            nonlocal at
            values = struct.unpack_from("<" + form, data, at)
            at += struct.calcsize("<" + form)
            return values

        def text() -> bytes:
            nonlocal at
            (n,) = struct.unpack_from("<Q", data, at)
            at += 8 + n
            return data[at - n : at]

        def value(kind: int):
            if kind == 8:
                return text()
            if kind == 9:
                item, n = take("IQ")
                return (
                    [text() for _ in range(n)]
                    if item == 8
                    else list(take(f"{n}{_GGUF_NUMBERS[item]}"))
                )
            return take(_GGUF_NUMBERS[kind])[0]

        return {text().decode(): value(take("I")[0]) for _ in range(n_keys)}


def load_gguf_vocab(path: Path) -> Vocab:
    raw = {
        k[len("tokenizer.ggml.") :]: v
        for k, v in _gguf_metadata(path).items()
        if k.startswith("tokenizer.ggml.")
    }
    return Vocab(
        model=raw["model"].decode(),
        pre=raw.get("pre", b"").decode(),
        tokens=raw["tokens"],
        merges=raw.get("merges", []),
        types=raw.get("token_type"),
        scores=raw.get("scores"),
        settings={name: int(raw[key]) for key, name in GGUF_IDS.items() if key in raw},
    )


class RunnerError(Exception):
    def __init__(self, code: int, sentence: str):
        super().__init__(f"{code}: {sentence}")
        self.code, self.sentence = code, sentence


class Runner:
    """One Tokenizer in a process of its own, asked line by line."""

    def __init__(self, command: list[str], vocab: Vocab, dump: Path):
        self._process = subprocess.Popen(
            [*command, str(vocab.dump(dump))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            bufsize=1 << 20,
        )

    def ask(self, request: str) -> list[str]:
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # create() failed: its answer is waiting
        line = self._process.stdout.readline()
        assert line, f"the runner died with {self._process.wait()} on {request[:200]!r}"
        words = line.rstrip("\n").split(" ")
        if words[0] == "error":
            raise RunnerError(int(words[1]), " ".join(words[2:]))
        return words[1:]

    def encode(
        self, text: str | bytes, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        raw = text.encode() if isinstance(text, str) else text
        return [
            int(i)
            for i in self.ask(f"encode {int(add_special)} {int(parse_special)} {raw.hex() or '-'}")
        ]

    def decode(self, ids: list[int], print_special: bool = False) -> bytes:
        return _bytes(self.ask(" ".join(map(str, ["decode", int(print_special), *ids])))[0])

    def pieces(self, ids: list[int], print_special: bool = False) -> list[bytes]:
        return [
            _bytes(w)
            for w in self.ask(" ".join(map(str, ["pieces", int(print_special), *ids])))
            if w
        ]

    def stream(self, ids: list[int], print_special: bool = False) -> list[bytes]:
        return [
            _bytes(w) for w in self.ask(" ".join(map(str, ["stream", int(print_special), *ids])))
        ]

    def utf8(self, pieces: list[bytes]) -> list[bytes]:
        return [_bytes(w) for w in self.ask(" ".join(["utf8", *(p.hex() or "-" for p in pieces)]))]

    def find(self, text: str | bytes) -> int:
        raw = text.encode() if isinstance(text, str) else text
        return int(self.ask(f"find {raw.hex() or '-'}")[0])

    def type_of(self, token: int) -> tuple[int, bool, bool]:
        kind, control, end = self.ask(f"type {token}")
        return int(kind), control == "1", end == "1"

    def info(self) -> dict[str, str]:
        return dict(w.split("=", 1) for w in self.ask("info"))

    def ends(self) -> list[int]:
        return [int(i) for i in self.info()["ends"].split(",") if i != "-"]

    def repeat(self, unit: str, count: int) -> tuple[int, float]:
        n, us = self.ask(f"repeat {unit.encode().hex()} {count}")
        return int(n), int(us) / 1e6

    def flags(self) -> list[int]:
        out: list[int] = []
        words = self.ask("flags")
        for flags, n in zip(words[::2], words[1::2]):
            out += [int(flags)] * int(n)
        return out

    def close(self) -> None:
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # create() failed before it read anything
        self._process.stdout.close()
        assert self._process.wait(timeout=60) == 0


def _bytes(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def gemma4_from_sentencepiece(gguf_vocab: Vocab) -> Vocab:
    """Gemma 3's pieces as a gemma4 vocabulary of real size: every way to make a piece of two pieces
    is a merge, in the order of the pieces, which is how the Hugging Face converter writes the
    merges of Gemma."""
    texts = [
        t.decode().replace(" ", "▁") if t.strip(b" ") == b"" else t.decode()
        for t in gguf_vocab.tokens
    ]
    ids: dict[str, int] = {}
    for i, t in enumerate(texts):
        ids.setdefault(t, i)
    merges = []
    for i, t in enumerate(texts):
        if gguf_vocab.types[i] in (CONTROL, BYTE):
            continue
        order = i if gguf_vocab.types[i] == NORMAL else len(t) - 1000
        for k in range(1, len(t)):
            if t[:k] in ids and t[k:] in ids:
                merges.append((order, ids[t[:k]], ids[t[k:]], t[:k] + " " + t[k:]))
    merges.sort()
    plain = [
        NORMAL if k == USER_DEFINED and t[0] in "▁\n" else k
        for k, t in zip(gguf_vocab.types, texts)
    ]
    return Vocab(
        "gemma4",
        [t.encode() for t in texts],
        types=plain,
        scores=gguf_vocab.scores,
        merges=[m[3].encode() for m in merges],
        settings={"bos": 2, "eos": 1, "unk": 3, "pad": 0, "add_bos": 0},
    )


@functools.lru_cache(maxsize=None)
def build_runner() -> tuple[str, ...]:
    """The command of the runner: PILLION_TOKENIZER_RUNNER (may be "qemu-aarch64 FILE", or a
    sanitizer build), else a fresh build."""
    given = os.environ.get("PILLION_TOKENIZER_RUNNER")
    if given:
        return tuple(shlex.split(given))
    sources = [
        *sorted((ROOT / "csrc" / "tokenizer").glob("*.cpp")),
        ROOT / "csrc" / "core" / "error.cpp",
        ROOT / "tests" / "runners" / "tokenizer_runner.cpp",
    ]
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-I", str(ROOT / "csrc")]

    def make(folder: Path) -> None:
        def compile_one(source: Path) -> str:
            target = folder / (source.stem + ".o")
            subprocess.run([*compiler, *flags, "-c", str(source), "-o", str(target)], check=True)
            return str(target)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_one, sources))
        subprocess.run([*compiler, *objects, "-o", str(folder / "tokenizer_runner")], check=True)

    folder = shared("tokenizer", (compiler, flags), sources, make)
    return (str(folder / "tokenizer_runner"),)


@pytest.fixture(scope="module")
def tokenizer_runner(tmp_path_factory):
    """open(vocab) -> Runner; all are closed at the end of the module."""
    command, folder, runners = list(build_runner()), tmp_path_factory.mktemp("vocab"), []

    def open_vocab(vocab: Vocab) -> Runner:
        runners.append(Runner(command, vocab, folder / f"{len(runners)}.vocab"))
        return runners[-1]

    yield open_vocab
    for runner in runners:
        runner.close()
