"""Tokenizers through `pillion convert`: ids equal to those of the libraries
(tests/golden/tokenizer_golden.json), and what the file says."""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizer_cases import BYTES, GOLDEN_FILE, SPM
from tokenizer_support import GOLDEN, load_json_vocab

TESTS = Path(__file__).resolve().parent.parent

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
CHECKPOINTS = TESTS / "golden" / "checkpoints"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
RULES = {
    "gpt-2": {"type": "ByteLevel"},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
    },
    "llama-bpe": {"type": "Sequence", "pretokenizers": [SPLIT, {"type": "ByteLevel"}]},
}


@pytest.fixture(scope="module")
def goldens():
    return json.loads((GOLDEN / GOLDEN_FILE).read_text(encoding="utf-8"))


@pytest.fixture
def converted(pillion, tmp_path):
    """converted(tokenizer.json, **tokenizer_config) -> a file: the tiny Llama with as many rows as
    the tokenizer has tokens."""
    from pillion.convert import convert

    def run(tokenizer, n_rows=None, **settings):
        folder = tmp_path / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CHECKPOINTS / "tiny-llama", folder)
        config = json.loads((folder / "config.json").read_text())
        config["vocab_size"] = n_rows or len(tokenizer["model"]["vocab"])
        tensors = load_file(folder / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = np.zeros((config["vocab_size"], config["hidden_size"]), np.float16)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return convert(folder, tmp_path / "out.gguf").out

    return run


def facts(path):
    """The tokenizer's keys, without their prefix."""
    fields = gguf.GGUFReader(path).fields
    return {
        name[len("tokenizer.ggml.") :]: f.contents()
        for name, f in fields.items()
        if name.startswith("tokenizer.ggml.")
    }


def tokenizer_json(vocab, merges, **parts):
    tokens = [token.decode() for token in vocab.tokens]
    cut_out = {UNKNOWN: True, CONTROL: True, USER_DEFINED: False}
    added = [
        (i, token, cut_out[kind])
        for i, (token, kind) in enumerate(zip(tokens, vocab.types))
        if kind in cut_out
    ]
    return {
        "added_tokens": [
            {"id": i, "content": token, "special": special} for i, token, special in added
        ],
        "model": {
            "type": "BPE",
            "unk_token": parts.pop("unk_token", None),
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
        **parts,
    }


def ids_equal(pillion, path, goldens, case, parse=False):
    with pillion.Model.open(path, metadata_only=True) as model:
        for text, ids in zip(goldens["texts"], goldens[case]):
            found = model.tokenizer.encode(text, add_special=False, parse_special=parse)
            assert found == [int(i) for i in ids.split()], text
    assert len(goldens["texts"]) > 100


# ---- with ▁ for blanks ----


def spm_tokenizer(**parts):
    """Merges as transformers derives them from a SentencePiece model: every way to make a piece of
    two, best piece first."""
    vocab = load_json_vocab(SPM)
    tokens = [token.decode() for token in vocab.tokens]
    known = {token for token, kind in zip(tokens, vocab.types) if kind in (NORMAL, USER_DEFINED)}
    ranked = sorted(
        (i for i, kind in enumerate(vocab.types) if kind == NORMAL), key=lambda i: -vocab.scores[i]
    )
    halves = ((tokens[i][:k], tokens[i][k:]) for i in ranked for k in range(1, len(tokens[i])))
    return tokenizer_json(
        vocab, [list(pair) for pair in halves if known.issuperset(pair)], unk_token="<unk>", **parts
    )


BLANKS = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPENDED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, BLANKS]}
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.mark.parametrize(
    "case, normalizer, prefix", [("spm", PREPENDED, True), ("spm-no-prefix", BLANKS, False)]
)
def test_sentencepiece_ids(pillion, converted, goldens, case, normalizer, prefix):
    path = converted(spm_tokenizer(normalizer=normalizer), **NAMES)
    found = facts(path)
    assert (found["model"], found["add_space_prefix"], found["add_bos_token"]) == (
        "llama",
        prefix,
        True,
    )
    assert found["token_type"] == load_json_vocab(SPM).types
    ids_equal(pillion, path, goldens, case)
    if prefix:
        ids_equal(pillion, path, goldens, "spm-parse", parse=True)


def test_the_newer_spelling_of_a_prefix(converted):
    for settings, wanted in (
        ({"prepend_scheme": "first"}, True),
        ({"prepend_scheme": "always"}, True),
        ({"prepend_scheme": "never"}, False),
        ({"add_prefix_space": False}, False),
    ):
        path = converted(
            spm_tokenizer(pre_tokenizer={"type": "Metaspace", "replacement": "▁", **settings}),
            **NAMES,
        )
        assert facts(path)["add_space_prefix"] is wanted


def test_rows_without_tokens_and_tokens_without_rows(converted):
    """Small Gemma 3 checkpoints name an image token behind the table's end; others pad their
    table."""
    tokenizer = spm_tokenizer(normalizer=BLANKS)
    n = len(tokenizer["model"]["vocab"])
    tokenizer["added_tokens"].append({"id": n, "content": "<image_soft_token>", "special": True})
    assert len(facts(converted(tokenizer, n, **NAMES))["tokens"]) == n
    found = facts(converted(spm_tokenizer(normalizer=BLANKS), n + 3, **NAMES))
    assert (
        found["tokens"][n:] == [f"[PAD{i}]" for i in range(n, n + 3)]
        and found["token_type"][n:] == [UNUSED] * 3
    )


# ---- over bytes ----


def byte_tokenizer(rule, **parts):
    vocab = load_json_vocab(BYTES)
    return tokenizer_json(
        vocab, [merge.decode() for merge in vocab.merges], pre_tokenizer=rule, **parts
    )


@pytest.mark.parametrize("rule", RULES)
def test_byte_level_ids(pillion, converted, goldens, rule):
    path = converted(byte_tokenizer(RULES[rule]), bos_token="<|im_start|>", eos_token="<|im_end|>")
    found = facts(path)
    assert (found["model"], found["pre"], found["add_bos_token"], found["bos_token_id"]) == (
        "gpt2",
        rule,
        False,
        1,
    )
    assert found["token_type"] == load_json_vocab(BYTES).types and "scores" not in found
    ids_equal(pillion, path, goldens, f"bytes-{rule}")


def test_bos_as_the_post_processor_says(converted):
    """Llama 3 says it nowhere else."""
    single = [
        {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    post = {
        "type": "Sequence",
        "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": single}],
    }
    for settings, wanted in (({}, True), ({"add_bos_token": False}, False)):
        path = converted(
            byte_tokenizer(RULES["llama-bpe"], post_processor=post),
            bos_token="<|im_start|>",
            **settings,
        )
        assert facts(path)["add_bos_token"] is wanted


def test_unknown_rules_and_merges_are_refused(pillion, converted, tmp_path):
    for rule in (
        {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "ByteLevel"}]},
        {
            "type": "Sequence",
            "pretokenizers": [
                {**SPLIT, "pattern": {"Regex": r"\p{N}{1,3}"}},
                {"type": "ByteLevel"},
            ],
        },
    ):
        with pytest.raises(pillion.UnsupportedModelError, match="which no known name says"):
            converted(byte_tokenizer(rule))
    tokenizer = byte_tokenizer(RULES["gpt-2"])
    tokenizer["model"]["merges"].append("a b c")
    with pytest.raises(pillion.ModelFileError, match="a merge that does not join two pieces"):
        converted(tokenizer)
    assert not (tmp_path / "out.gguf").exists()


# ---- other places where a checkpoint says it ----


def test_an_end_token_of_its_own(pillion, tmp_path):
    from pillion.convert import convert

    folder = Path(shutil.copytree(CHECKPOINTS / "tiny-e2b", tmp_path / "checkpoint"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 6, 400]}))
    convert(folder, tmp_path / "out.gguf")
    assert facts(tmp_path / "out.gguf")["eot_token_id"] == 400
    with pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model:
        assert {1, 6, 400} <= set(model.tokenizer.end_tokens)


# Rows of the tiny Llama's vocabulary that get other texts: a tokenizer of another chat format.
ENDS = {400: "<|im_end|>", 401: "<|eom_id|>", 402: "<|custom_end|>", 403: "<|other_end|>"}


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-llama", "tiny-gemma3"])
@pytest.mark.parametrize(
    "listed, config, keys",
    [
        ([1, 400], 1, {"eot_token_id": 400}),
        (400, 1, {"eot_token_id": 400}),
        (None, [1, 400], {"eot_token_id": 400}),
        (None, 402, {"eot_token_id": 402}),
        (
            [402, 401, 400, 1],
            1,
            {"eot_token_id": 400, "eom_token_id": 401, "eos_token_ids": [1, 402, 401, 400]},
        ),
        ([403, 402, 1], 1, {"eot_token_id": 403, "eos_token_ids": [1, 403, 402]}),
        ([1, 401], 1, {"eom_token_id": 401}),
        ([1, True, "x", None, -1, 10**9], 1, {}),
        ([], 1, {}),
    ],
)
def test_every_end_survives(pillion, tmp_path, name, listed, config, keys):
    """eos_token_id of generation_config.json, else of config.json: a number or a list."""
    from pillion.convert import convert

    folder = Path(shutil.copytree(CHECKPOINTS / name, tmp_path / "checkpoint"))
    _rename(folder, ENDS)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": listed} if listed is not None else {})
    )
    _change(folder, "config.json", eos_token_id=config)
    convert(folder, tmp_path / "out.gguf")
    found = facts(tmp_path / "out.gguf")
    assert {
        key: found[key] for key in ("eot_token_id", "eom_token_id", "eos_token_ids") if key in found
    } == keys
    wanted = {
        token
        for token in (listed if isinstance(listed, list) else [listed])
        if isinstance(token, int)
    }
    wanted = {token for token in wanted if 1 < token < 512} or {
        token for token in [config] if isinstance(token, int)
    }
    with pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model:
        # the known texts count anyway
        assert wanted | {1, 400, 401} <= set(model.tokenizer.end_tokens)


def _rename(folder, texts):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = {token: piece for piece, token in tokenizer["model"]["vocab"].items()}
    gone = {vocab[token] for token in texts}
    tokenizer["model"]["merges"] = [
        m for m in tokenizer["model"]["merges"] if not gone & {*m, "".join(m)}
    ]
    vocab.update(texts)
    tokenizer["model"]["vocab"] = {piece: token for token, piece in vocab.items()}
    tokenizer["added_tokens"] += [
        {"id": token, "content": piece, "special": True} for token, piece in texts.items()
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")


def _change(folder, name, **changes):
    found = json.loads((folder / name).read_text("utf-8"))
    found.update(changes)
    (folder / name).write_text(json.dumps(found))


def test_no_eos_but_a_list_of_ends(pillion, tmp_path):
    """The first of the list is eos where nothing else names one."""
    from pillion.convert import convert

    folder = Path(shutil.copytree(CHECKPOINTS / "tiny-llama", tmp_path / "checkpoint"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    _change(folder, "config.json", eos_token_id=[5, 6])
    convert(folder, tmp_path / "out.gguf")
    found = facts(tmp_path / "out.gguf")
    assert (found["eos_token_id"], found["eot_token_id"]) == (5, 6)


def test_chatml_tuned_gemma4_stops(pillion, tmp_path):
    """A file that says eos 1 and nothing of <|im_end|>, a control token."""
    from made_files import remade

    source = TESTS / "golden" / "tiny-e2b.gguf"
    fields = gguf.GGUFReader(source).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = list(fields["tokenizer.ggml.token_type"].contents())
    tokens[400], types[400] = "<|im_end|>", CONTROL
    remade(
        source,
        tmp_path / "out.gguf",
        {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types},
    )
    with pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model:
        assert 400 in model.tokenizer.end_tokens


@pytest.mark.parametrize("key", ["eot_token_id", "eom_token_id", "eos_token_ids", "eos_token_id"])
def test_keys_of_ends_are_read(pillion, tmp_path, key):
    """Numbers, or lists as a few exporters write them."""
    from made_files import remade

    source = TESTS / "golden" / "tiny-llama.gguf"
    for value in (77, [77, 78]):
        if key == "eos_token_ids" and isinstance(value, int):
            continue
        remade(source, tmp_path / "out.gguf", {f"tokenizer.ggml.{key}": value})
        with pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model:
            assert set(value if isinstance(value, list) else [value]) <= set(
                model.tokenizer.end_tokens
            )
    remade(source, tmp_path / "out.gguf", {f"tokenizer.ggml.{key}": [600]})
    with (
        pytest.raises(pillion.ModelFileError, match="600"),
        pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model,
    ):
        model.tokenizer


def test_ids_and_templates_in_other_places(pillion, tmp_path):
    from pillion.convert import convert

    folder = Path(shutil.copytree(CHECKPOINTS / "tiny-llama", tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "bos_token_id": 2, "eos_token_id": 1})
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {
        key: value
        for key, value in settings.items()
        if key not in ("bos_token", "eos_token", "chat_template")
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "unk_token": "not in the vocabulary"})
    )
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.json").write_text(
        json.dumps({"chat_template": "from chat_template.json"})
    )
    convert(folder, tmp_path / "out.gguf")
    found = facts(tmp_path / "out.gguf")
    assert (found["bos_token_id"], found["eos_token_id"]) == (
        2,
        1,
    ) and "unknown_token_id" not in found
    with pillion.Model.open(tmp_path / "out.gguf", metadata_only=True) as model:
        assert model.metadata["tokenizer.chat_template"] == "from chat_template.json"
